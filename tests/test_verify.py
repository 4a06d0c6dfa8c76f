"""Damage: whatever byte of a cache changes, it is caught, or nothing anyone reads has changed."""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import tally, write_take

from pipeline.cache import build, contents, index, repair, shards, verify
from pipeline.cache.index import Index, Source
from pipeline.corpora import catalogue
from pipeline.errors import InputError
from pipeline.features.extract import Features, Row
from pipeline.spec import EMOTIONS, FeatureSpec
from train import commands as train_commands
from train import evaluate, fit, reading, table
from train.heads import LESSONS
from train.protocol import Split
from train.settings import Settings

ROOT = Path(__file__).parents[1]
SMALL = FeatureSpec(window_seconds=1.0, variants=("pitch",), frame_count=2, frame_size_px=16)


def flip(path, place, mask=0xFF):
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ mask]))


def hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


# Flipped bytes


def write_small_cache(folder):
    """Two shards of noise, 150 kB each, written as a build writes them."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    entries, clips = [], []
    for actor in (1, 2):
        with shards.ShardWriter(folder / f"actor-{actor:02d}.h5", SMALL, actor, 8) as writer:
            for number, emotion in enumerate(EMOTIONS):
                clip = catalogue.Clip(f"01-{number + 1:02d}-01-{actor:02d}", actor, emotion, Path())
                source = Source(f"videos/Actor_{actor:02d}/é-{number}.mp4", 99, "ab" * 32, 7)
                rows = [
                    Row(
                        name,
                        Features(
                            noise.normal(size=SMALL.mfcc_shape).astype(np.float32),
                            noise.integers(0, 256, SMALL.frames_shape, dtype=np.uint8),
                        ),
                        True,
                    )
                    for name in SMALL.row_names
                ]
                writer.append(clip, (source,), rows)
        entries.append(writer.entry)
        clips += contents.describe_shard(folder / f"actor-{actor:02d}.h5", SMALL)[1]
    index.write_index(Index(folder, SMALL, tuple(entries), tuple(clips), {"numpy": "2"}))
    return folder


def what_training_reads(folder):
    """Every row that training would read, with its label, by clip and variant."""
    found = index.find_cache(folder)
    rows = table.select_rows(found, found.actors, variants=True)
    mfcc, frames, label = reading.RowReader(rows).read(np.arange(len(rows)))
    return {
        (rows.clip[n], rows.variant[n]): (
            mfcc[n].tobytes(),
            frames[n].tobytes(),
            label[n],
            rows.actor[n],
            rows.face_found[n],
        )
        for n in range(len(rows))
    }


def places_of(shard, text, entry):
    """Bytes of a shard by what they hold."""
    end = entry.frames_offset + entry.rows * SMALL.frames_bytes
    outside = [*range(entry.mfcc_offset), *range(end, entry.bytes)]
    with h5py.File(shard) as file:
        places = {
            name: range(start := file[name].id.get_offset(), start + file[name].nbytes)
            for name in ("mfcc", "frames", "label", "face_found", "checksum")
        }

    def where(word):
        return [n for start in found_at(text, word) for n in range(start, start + len(word))]

    return places | {
        "strings": where(b"01-03-01-01") + where(b"pitch") + where(b"videos/Actor_01"),
        "attributes": where(SMALL.digest.encode()) + where(b"mfcc_columns"),
        "structure": outside,
        "seal": range(130),
    }


def found_at(text, word):
    start = text.find(word)
    while start >= 0:
        yield start
        start = text.find(word, start + 1)


def try_flips(folder, per_kind):
    """Flip bytes one at a time; return how many of each kind were tried."""
    folder = write_small_cache(folder / SMALL.digest)
    path = folder / "actor-01.h5"
    whole = index.read_index(folder)
    expected = what_training_reads(folder)
    stated = contents.describe_shard(path, SMALL)[1]
    kinds = places_of(path, path.read_bytes(), whole.shards[0])
    kinds["index"] = range((folder / "index.json").stat().st_size)
    chance, tried = random.Random(4), {}
    for kind, places in kinds.items():
        file = folder / "index.json" if kind == "index" else path
        for place in chance.choices(places, k=per_kind):
            mask = 1 << chance.randrange(8)
            flip(file, place, mask)
            where = f"{kind}: byte {place} ^ {mask}"
            faults = verify.check_cache(folder, progress=False).faults
            if kind == "index":
                assert faults or index.read_index(folder) == whole, where
            else:
                assert [fault.file for fault in faults] == ["actor-01.h5"], where
                assert (faults[0].row is not None) == (kind in ("mfcc", "frames")), where
                try:
                    held = contents.describe_shard(path, SMALL)[1]
                except InputError:
                    held = []
                assert all(clip in stated for clip in held), where
            try:
                assert what_training_reads(folder) == expected, where
            except InputError as error:
                assert "actor-01.h5" in str(error) or "index.json" in str(error), where
            flip(file, place, mask)
        tried[kind] = per_kind
    assert not verify.check_cache(folder, progress=False).faults
    return tried


@pytest.mark.torture
@pytest.mark.parametrize("per_kind", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_byte_is_caught_or_changes_nothing(tmp_path, per_kind):
    tried = try_flips(tmp_path, per_kind)
    assert len(tried) == 10
    tally("flipped bytes: caught, or nothing changed", sum(tried.values()), 10 * per_kind)


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
    folder = write_small_cache(tmp_path / SMALL.digest)
    change(folder / "actor-02.h5")
    (fault,) = verify.check_cache(folder, progress=False).faults
    assert fault.file == "actor-02.h5" and said in fault.reason and len(fault.clips) == 8
    with pytest.raises(InputError, match=r"expected a shard of \d+ bytes at .*actor-02\.h5"):
        what_training_reads(folder)
    found = repair.leave_out(index.read_index(folder), [fault])
    assert found.actors == [1] and found.fingerprint != index.read_index(folder).fingerprint


def test_a_shard_of_another_cache_is_caught(tmp_path):
    """Sound in itself, but not what the index says."""
    folder = write_small_cache(tmp_path / SMALL.digest)
    content = (folder / "actor-02.h5").read_bytes()
    (folder / "actor-01.h5").write_bytes(content)
    faults = verify.check_cache(folder, progress=False).faults
    assert [fault.row for fault in faults] == list(range(16))
    (folder / "actor-07.h5").write_bytes(content)
    assert str(verify.check_cache(folder, progress=False).faults[0]) == (
        "actor-07.h5: not in index.json"
    )
    with pytest.raises(InputError, match=r"row 0 of .*actor-01\.h5, clip 01-01-01-01"):
        what_training_reads(folder)


# Repair


@pytest.fixture
def made(cache, tmp_path):
    """A finished cache that a test may damage."""
    shutil.copytree(cache, tmp_path / "cache")
    return tmp_path / "cache"


def flip_row(folder, actor, row):
    entry = next(shard for shard in index.read_index(folder).shards if shard.actor == actor)
    spec = index.read_index(folder).spec
    flip(folder / entry.file, entry.frames_offset + row * spec.frames_bytes + 4321, 1)


def repaired(folder, raw, spec):
    report = verify.check_cache(folder, progress=False)
    wanted = repair.to_repair(report, catalogue.scan(raw))
    build.build(wanted, folder.parent, spec, 1, progress=False, distrusted=report.files)
    return report


def test_repair_makes_exactly_the_damaged_clips_again(made, raw, spec, extracted):
    folder = made / spec.digest
    before = hashes(folder)
    flip_row(folder, 2, 5)
    with h5py.File(folder / "actor-03.h5") as file:
        label = file["label"].id.get_offset()
    flip(folder / "actor-03.h5", label)
    (folder / "actor-04.h5").unlink()
    report = repaired(folder, raw, spec)
    assert [(fault.file, fault.row, len(fault.clips)) for fault in report.faults] == [
        ("actor-02.h5", 5, 1),
        ("actor-03.h5", None, 0),
        ("actor-04.h5", None, 4),
    ]
    assert str(report.faults[0]) == (
        "actor-02.h5 row 5, 01-05-01-01-01-02: its pitch row is not what was written"
    )
    of_actor_4 = [f"01-0{emotion}-01-01-01-04" for emotion in (1, 3, 5, 8)]
    assert extracted == ["01-05-01-01-01-02", *of_actor_4]
    assert hashes(folder) == before


def test_a_damaged_index_is_made_again_from_the_shards(made, raw, spec, extracted):
    folder = made / spec.digest
    before = hashes(folder)
    flip_row(folder, 1, 6)
    flip(folder / "index.json", 3000, 1)
    report = repaired(folder, raw, spec)
    assert [fault.row for fault in report.faults] == [None, 6]
    assert extracted == ["01-08-01-01-01-01"]
    assert hashes(folder) == before


def test_repair_keeps_to_the_clips_the_cache_held(made, raw, spec, tmp_path, extracted):
    folder = made / spec.digest
    before = hashes(folder)
    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    write_take(root, "01-01-06-01-01-01-02")
    flip_row(folder, 2, 0)
    repaired(folder, root, spec)
    assert extracted == ["01-01-01-01-01-02"] and hashes(folder) == before
    flip_row(folder, 2, 0)
    for path in root.rglob("*-08-01-01-01-03.*"):
        path.unlink()
    with pytest.raises(InputError, match="got none of 1, such as 01-08-01-01-01-03"):
        repaired(folder, root, spec)


def test_damage_is_never_copied_into_a_new_shard(made, raw, spec, tmp_path, extracted):
    """Neither beside an added clip, nor when an interrupted run goes on."""
    folder = made / spec.digest
    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    write_take(root, "01-01-06-01-01-01-02")
    flip_row(folder, 2, 3)
    build.build(catalogue.scan(root), made, spec, 1, progress=False)
    assert sorted(extracted) == ["01-03-01-01-01-02", "01-06-01-01-01-02"]
    assert not verify.check_cache(folder, progress=False).faults
    extracted.clear()
    flip_row(folder, 3, 0)
    (folder / "index.json").unlink()
    build.build(catalogue.scan(root), made, spec, 1, progress=False)
    assert extracted == ["01-01-01-01-01-03"]
    assert not verify.check_cache(folder, progress=False).faults


# Training


def test_training_stops_at_a_damaged_row(made, spec, tmp_path):
    folder = made / spec.digest
    split, settings = Split((1, 2), (3,), (4,)), Settings(epochs=1, batch_size=6)
    flip_row(folder, 2, 4)
    with pytest.raises(InputError, match=r"row 4 of .*actor-02\.h5, clip 01-05-01-01-01-02"):
        fit.fit(index.find_cache(made), tmp_path / "a", split, settings, progress=False)
    flip_row(folder, 2, 4)
    flip_row(folder, 2, 5)
    with pytest.raises(InputError, match=r"^expected row 5 of .*--skip-bad trains without it$"):
        fit.fit(index.find_cache(made), tmp_path / "b", split, settings, progress=False)
    assert not (tmp_path / "b" / "model.json").exists()


def test_prediction_stops_at_a_damaged_row(made, spec):
    flip_row(made / spec.digest, 4, 2)
    found = index.find_cache(made)
    inputs = {
        "mfcc": keras.Input(spec.mfcc_shape, name="mfcc"),
        "frames": keras.Input(spec.frames_shape, name="frames", dtype="uint8"),
    }
    heads = {
        head: keras.layers.Dense(8)(keras.layers.GlobalAveragePooling2D()(inputs["mfcc"]))
        for head in chain(*LESSONS.values())
    }
    network = keras.Model(inputs, heads)
    assert len(evaluate.predict(network, table.select_rows(found, (3,)))["fused"]) == 4
    with pytest.raises(InputError, match=r"row 2 of .*actor-04\.h5"):
        evaluate.predict(network, table.select_rows(found, (4,)))


def test_skip_bad_leaves_the_damaged_clip_out(made, spec, capsys):
    folder = made / spec.digest
    flip_row(folder, 2, 5)
    found = train_commands.open_cache(argparse.Namespace(cache=made, skip_bad=True))
    said = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(said) == 1 and said[0].startswith("left out: ") and "actor-02.h5 row 5" in said[0]
    rows = table.select_rows(found, (1, 2), variants=True)
    assert len(rows) == 14 and "01-05-01-01-01-02" not in rows.clip
    expected = table.select_rows(index.find_cache(made), (1,), variants=True)
    got = reading.RowReader(rows).read(np.arange(14))[1]
    assert np.array_equal(got[:8], reading.RowReader(expected).read(np.arange(8))[1])


def test_a_row_is_compared_once(made, spec):
    """Rows do not rot in the page cache; only the first read of a row is compared."""
    rows = table.select_rows(index.find_cache(made), (1,))
    reader = reading.RowReader(rows)
    reader.read(np.array([2]))
    assert reader.checked.tolist() == [False, False, True, False]
    flip_row(made / spec.digest, 1, 4)
    reader.read(np.array([2]))
    with pytest.raises(InputError, match="row 4"):
        reading.RowReader(rows).read(np.array([2]))


# Commands


def command(*words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_say_what_is_damaged_and_mend_it(made, raw, spec, tmp_path):
    folder = made / spec.digest
    check = ("pipeline", "verify", "--cache", made, "--raw", raw, "--jobs", 1)
    flip_row(folder, 1, 3)
    fit_words = ("train", "fit", "--cache", made, "--model", tmp_path / "model", "--epochs", 1)
    trained = command(*fit_words)
    assert trained.returncode == 2 and "Traceback" not in trained.stderr
    last = trained.stderr.strip().splitlines()[-1]
    assert last.startswith("error: expected row 3 of ") and "actor-01.h5" in last
    found = command(*check)
    assert found.returncode == 1 and "actor-01.h5 row 3, 01-03-01-01-01-01" in found.stderr
    mended = command(*check, "--repair")
    assert mended.returncode == 0, mended.stderr
    assert "repaired actor-01.h5; 1 clips extracted again" in mended.stdout
    assert not verify.check_cache(folder, progress=False).faults


def test_which_caches_are_verified(made, spec, tmp_path):
    assert verify.caches(made) == verify.caches(made / spec.digest) == [made / spec.digest]
    with pytest.raises(InputError, match=r"expected a cache in .*got nothing"):
        verify.caches(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected a cache in .*got no cache"):
        verify.caches(tmp_path)


def test_an_unfinished_cache_is_a_fault(made, spec):
    (made / spec.digest / "index.json").unlink()
    report = verify.check_cache(made / spec.digest, progress=False)
    assert [fault.file for fault in report.faults] == ["index.json"] and report.rows == 32
    assert json.dumps(report.faults[0].reason).count("make features") == 1
