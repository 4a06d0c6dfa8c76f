"""The shard format: what is written is read back, and anything else is refused."""

import dataclasses
import datetime
import json
import random
import re
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import TINY, MadeUp, flip, hashes, made_up_clip, tally, write_cache, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache import facts, survey
from pipeline.cache import format as shard_format
from pipeline.cache.format import CachedRow, read_tensor
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

FILE = "actor-03-0123456789.h5"
SMALLEST = dataclasses.replace(TINY, mfcc_count=9, frame_count=1, frame_size_px=4, variants=())
"""A row of 1.6 kB, so that every byte can be tried."""


def some_clips(spec=TINY, count=3):
    clips = [made_up_clip(spec, number, 3, EMOTIONS[number], "av") for number in range(count)]
    bad = dataclasses.replace(clips[1], rows=(), reason="no video", transient=True)
    return [clips[0], bad, *clips[2:]]


def write(folder, clips, spec=TINY):
    pairs = (clip.to_write(3, FILE) for clip in clips)
    shard_format.write_shard(folder, FILE, spec, 3, len(clips), pairs, {"numpy": "2"})
    return facts.read_manifest(facts.manifest_path(folder, FILE), spec)


def edit_manifest(folder, **changes):
    """Change a manifest and give it a right checksum, as somebody who knows how."""
    path = facts.manifest_path(folder, FILE)
    content = json.loads(path.read_text()) | changes
    del content["checksum"]
    path.write_text(json.dumps(content | {"checksum": facts.canonical_sha256(content)}))
    return path


def rows_of(folder, shard, entry, spec=TINY):
    """Rows of a clip, read as training reads them."""
    with (folder / shard.file).open("rb") as file:
        return [
            CachedRow(
                read_tensor(file.fileno(), shard.mfcc_offset, row, spec.mfcc_shape, np.float32),
                read_tensor(file.fileno(), shard.frames_offset, row, spec.frames_shape, np.uint8),
            )
            for row in range(entry.row or 0, (entry.row or 0) + len(entry.checksums))
        ]


# Round trip


def test_what_is_written_is_read_back(tmp_path):
    clips = some_clips()
    shard = write(tmp_path, clips)
    assert (shard.file, shard.actor, shard.rows) == (FILE, 3, 4)
    assert shard.libraries == {"numpy": "2"} and 0 <= shard.seconds < 60
    finished = datetime.datetime.fromisoformat(shard.finished)
    assert abs(datetime.datetime.now(datetime.timezone.utc) - finished).total_seconds() < 60
    assert [entry.clip for entry in shard.clips] == [clip.clip for clip in clips]
    assert [entry.row for entry in shard.clips] == [0, None, 2]
    assert (shard.clips[1].reason, shard.clips[1].transient) == ("no video", True)
    for clip, entry in zip(clips, shard.clips, strict=True):
        assert (entry.sources, entry.emotion, entry.actor) == (clip.sources, clip.emotion, 3)
        for wrote, got in zip(clip.rows, rows_of(tmp_path, shard, entry), strict=True):
            assert np.array_equal(got.mfcc, wrote.mfcc) and got.mfcc.dtype == np.float32
            assert np.array_equal(got.frames, wrote.frames) and got.frames.dtype == np.uint8
    assert not shard_format.check_shard(tmp_path, shard, TINY)


def test_the_file_is_plain_hdf5_for_anybody(tmp_path):
    clips = some_clips()
    shard = write(tmp_path, clips)
    with h5py.File(tmp_path / FILE) as file:
        assert file["mfcc"].shape == (4, *TINY.mfcc_shape) and file["mfcc"].dtype == np.float32
        assert file["frames"].shape == (4, *TINY.frames_shape) and file["frames"].dtype == np.uint8
        assert file["mfcc"].chunks is None and file["frames"].chunks is None
        assert file["label"].dtype == np.int64
        assert file["label"][:].tolist() == [0, 0, 2, 2]
        assert file["clip"].asstr()[:].tolist() == [clips[n].clip for n in (0, 0, 2, 2)]
        assert file["variant"].asstr()[:].tolist() == ["clean", "pitch"] * 2
        assert np.array_equal(file["frames"][3], clips[2].rows[1].frames)
        assert dict(file.attrs) == {
            "format_version": 3,
            "digest": TINY.digest,
            "spec": TINY.to_json(),
            "actor": 3,
        }
        assert file["mfcc"].id.get_offset() == shard.mfcc_offset
        assert file["frames"].id.get_offset() == shard.frames_offset >= shard.mfcc_offset


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, some_clips())
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_a_shard_of_clips_that_could_not_be_read_is_a_manifest_alone(tmp_path):
    shard = write(tmp_path, [MadeUp("a", "sad", (), reason="no video")])
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    assert (shard.rows, shard.bytes) == (0, 0)
    assert not shard_format.check_shard(tmp_path, shard, TINY)


def test_the_checksum_of_a_row_is_that_of_the_format_page(tmp_path):
    shard = write(tmp_path, some_clips())
    clip = shard.clips[2]
    (row, _) = rows_of(tmp_path, shard, clip)
    source = clip.sources[0]
    identity = json.dumps(
        [3, 2, clip.clip, "clean", True, True, True, [[source.path, source.bytes, source.sha256]]]
    )
    parts = (identity.encode(), row.mfcc.tobytes(), row.frames.tobytes())
    assert zlib.crc32(b"".join(parts)) == clip.checksums[0]


def test_the_manifest_comes_last_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def refuse(folder, shard, spec):
        assert (tmp_path / shard.file).exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_format, "write_manifest", refuse)
    with pytest.raises(OSError):
        write(tmp_path, some_clips())
    # Without a manifest it does not count.
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


# Damage


@pytest.mark.torture
def test_every_flipped_byte_of_a_shard_is_caught(tmp_path, monkeypatch):
    """And HDF5, which may crash on such a file, is never asked."""
    shard = write(tmp_path, some_clips(SMALLEST, 2), SMALLEST)
    path = tmp_path / FILE
    size, chance = path.stat().st_size, random.Random(6)
    assert not shard_format.check_shard(tmp_path, shard, SMALLEST)
    monkeypatch.setattr(h5py, "File", None)
    tensors = range(shard.mfcc_offset, shard.mfcc_offset + SMALLEST.mfcc_bytes)
    tensors = {*tensors, *range(shard.frames_offset, shard.frames_offset + SMALLEST.frames_bytes)}
    for place in range(size):
        mask = 1 << chance.randrange(8)
        flip(path, place, mask)
        (fault,) = shard_format.check_shard(tmp_path, shard, SMALLEST)
        assert (fault.row == 0) == (place in tensors), place
        flip(path, place, mask)
    tally("flipped bytes: caught, or nothing changed", size, size)


@pytest.mark.torture
def test_every_flipped_byte_of_a_manifest_is_caught(tmp_path):
    shard = write(tmp_path, some_clips(SMALLEST, 2), SMALLEST)
    path = facts.manifest_path(tmp_path, FILE)
    size, chance = path.stat().st_size, random.Random(7)
    for place in range(size):
        mask = 1 << chance.randrange(8)
        flip(path, place, mask)
        try:
            assert facts.read_manifest(path, SMALLEST) == shard, place
        except InputError as error:
            assert "\n" not in str(error) and FILE[:-3] in str(error)
        flip(path, place, mask)
    tally("flipped bytes: caught, or nothing changed", size, size)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "bytes, got"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes, got"),
        (lambda path: path.write_bytes(b""), "got 0"),
    ],
)
def test_a_missing_or_cut_shard_loses_all_its_clips(tmp_path, change, said):
    shard = write(tmp_path, some_clips())
    change(tmp_path / FILE)
    (fault,) = shard_format.check_shard(tmp_path, shard, TINY)
    assert fault.file == FILE and said in fault.reason and len(fault.clips) == 2
    assert survey.whole_shard(facts.manifest_path(tmp_path, FILE), TINY) is None


def test_a_manifest_that_says_something_else_than_its_sound_file_is_caught(tmp_path):
    """Rows are what they were; whose they are, they are not any more."""
    shard = write(tmp_path, some_clips())
    for clips in (
        [dataclasses.replace(shard.clips[0], clip="another"), *shard.clips[1:]],
        [dataclasses.replace(shard.clips[0], emotion="sad"), *shard.clips[1:]],
    ):
        other = dataclasses.replace(shard, clips=tuple(clips))
        assert [fault.row for fault in shard_format.check_shard(tmp_path, other, TINY)] == [0, 1]
    other = dataclasses.replace(shard, actor=4)
    (fault,) = shard_format.check_shard(tmp_path, other, TINY)
    assert fault.reason.startswith("actor is not what the manifest says")


# Foreign manifests


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"format_version": 2},
            "expected cache format 3 in .*got 2; remove .*'make features' again",
        ),
        ({"digest": "0" * 16}, "got: features of spec 0000000000000000"),
        ({"file": "actor-04-0123456789.h5"}, "the manifest of 'actor-04-0123456789.h5'"),
        ({"file": "../../etc/passwd"}, "got: "),
        ({"rows": 3}, "not the 3 rows"),
        ({"frames_offset": 10**9}, "tensors outside of"),
        ({"mfcc_offset": -1}, "tensors outside of"),
        ({"bytes": 5}, "tensors outside of"),
        ({"seconds": "long"}, "for seconds"),
        ({"clips": [{}]}, "got: 'sources'"),
        ({"more": 1}, "unexpected keyword"),
    ],
)
def test_foreign_manifests_are_refused(tmp_path, changes, said):
    write(tmp_path, some_clips())
    path = edit_manifest(tmp_path, **changes)
    with pytest.raises(InputError, match=said):
        facts.read_manifest(path, TINY)


@pytest.mark.parametrize(
    "changes",
    [
        {"row": 1},
        {"row": True},
        {"checksums": [1]},
        {"checksums": [1, "2"]},
        {"emotion": "bored"},
        {"clip": "99"},
        {"clip": 5},
        {"sources": [{"path": "a"}]},
        {"face_found": 1},
    ],
    ids=str,
)
def test_clips_that_contradict_their_shard_are_refused(tmp_path, changes):
    write(tmp_path, some_clips())
    content = json.loads(facts.manifest_path(tmp_path, FILE).read_text())
    content["clips"][0] |= changes
    path = edit_manifest(tmp_path, clips=content["clips"])
    with pytest.raises(InputError):
        facts.read_manifest(path, TINY)


def test_features_of_another_spec_are_refused(tmp_path):
    write(tmp_path, some_clips())
    with pytest.raises(InputError, match=f"features of spec {TINY.digest}"):
        facts.read_manifest(facts.manifest_path(tmp_path, FILE), SMALLEST)


def test_nothing_at_the_place_of_a_manifest_is_named(tmp_path):
    with pytest.raises(InputError, match=r"expected a manifest at .*got nothing"):
        facts.read_manifest(facts.manifest_path(tmp_path, FILE), TINY)


NAMES = st.text(min_size=1, max_size=12).filter(lambda text: "\x00" not in text)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(
    st.dictionaries(
        NAMES, st.tuples(st.sampled_from(EMOTIONS), st.booleans(), NAMES), min_size=1, max_size=8
    )
)
def test_any_names_survive_the_round_trip(tmp_path_factory, clips):
    folder = tmp_path_factory.mktemp("shard")
    rows = made_up_clip(SMALLEST, 0, 3, "sad", "av").rows
    wrote = [
        MadeUp(name, emotion, (), rows if good else (), reason=None if good else reason)
        for name, (emotion, good, reason) in sorted(clips.items())
    ]
    shard = write(folder, wrote, SMALLEST)
    assert [(entry.clip, entry.emotion, entry.reason) for entry in shard.clips] == [
        (clip.clip, clip.emotion, clip.reason) for clip in wrote
    ]
    assert not shard_format.check_shard(folder, shard, SMALLEST)


def test_caches_of_noise_for_other_tests_are_sound(tmp_path):
    folder = write_cache(tmp_path / TINY.digest)
    for path in folder.glob("actor-*.json"):
        assert not shard_format.check_shard(folder, facts.read_manifest(path, TINY), TINY)


def test_a_row_is_read_without_hdf5_as_the_page_says(tmp_path):
    """The snippet of docs/format.md, on rows of the default spec."""
    found = write_rows(tmp_path, FeatureSpec(variants=()), [(1, "happy", "av"), (1, "sad", "av")])
    page = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = found.folder / found.clips[0].shard
    manifest = json.loads(path.with_suffix(".json").read_text())
    with path.open("rb") as file, h5py.File(path) as shard:
        for row in range(2):
            names = {"np": np, "file": file, "manifest": manifest, "row": row}
            exec(compile(snippet, "docs/format.md", "exec"), names)
            assert np.array_equal(names["frames"], shard["frames"][row])
            assert names["frames"].any()
