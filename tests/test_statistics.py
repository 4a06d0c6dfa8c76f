"""What a training knows of its MFCCs before it starts."""

import shutil

import numpy as np
import pytest
from conftest import flip, write_rows

from pipeline.cache import index
from pipeline.errors import InputError
from train.data import reader, rows, statistics


def test_statistics_are_those_of_the_rows(small_cache):
    chosen = rows.select_rows(small_cache, (1, 3))
    known = statistics.mfcc_statistics(chosen)
    mfcc = reader.RowReader(chosen).read(np.arange(len(chosen)))["mfcc"]
    assert known.mean == pytest.approx(mfcc.mean(axis=(0, 2, 3)), rel=1e-4, abs=1e-4)
    assert known.variance == pytest.approx(mfcc.var(axis=(0, 2, 3)), rel=1e-3, abs=1e-3)
    first, third = (mfcc[chosen.actor == actor].mean(axis=(0, 2, 3)) for actor in (1, 3))
    assert known.speaker_deviation == pytest.approx(np.abs(first - third) / 2, rel=1e-3, abs=1e-3)


def test_rows_without_audio_do_not_count(tmp_path, small_spec):
    clips = [(1, "sad", "av"), (1, "sad", "v"), (2, "sad", "a"), (3, "sad", "v")]
    chosen = rows.select_rows(write_rows(tmp_path, small_spec, clips), (1, 2, 3))
    known = statistics.mfcc_statistics(chosen)
    with_audio = statistics.mfcc_statistics(chosen.where(chosen.has_audio))
    assert all(np.array_equal(a, b) for a, b in zip(known, with_audio, strict=True))
    without = statistics.mfcc_statistics(chosen.where(~chosen.has_audio))
    assert not without.mean.any() and (without.variance == 1).all()


def test_damage_under_the_statistics_is_told(small_cache, tmp_path):
    """What is no number at once; what is one makes other statistics, which no training resumes."""
    shutil.copytree(small_cache.folder, tmp_path / "copy")
    made = index.read_index(tmp_path / "copy")
    chosen = rows.select_rows(made, (1, 2))
    shard = chosen.shard[5]
    place = int(chosen.offsets[shard][0] + chosen.row[5] * made.spec.mfcc_bytes)
    before = statistics.mfcc_statistics(chosen).checksum
    flip(chosen.shards[shard], place, 1)
    assert statistics.mfcc_statistics(chosen).checksum != before
    with chosen.shards[shard].open("r+b") as file:
        file.seek(place)
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(InputError, match=rf"clip {made.clips[5].clip}, as it was written"):
        statistics.mfcc_statistics(chosen)
