import ast
import csv
import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import cv2
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import flip, write_rows
from test_cli import assert_one_line, command
from train.protocol import Split

from pipeline.cache import index
from pipeline.corpora.actors import format_actors, parse_actors
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec
from train import (
    __main__,
    artefact,
    commands,
    confidence,
    dataset,
    evaluate,
    fit,
    layers,
    model,
    protocol,
    reading,
    rest,
    resume,
    runtime,
    schedule,
    stage,
    table,
    views,
    voices,
)
from train.heads import HEADS, LESSONS, READERS
from train.settings import Settings

SPLIT = Split((1, 2), (3,), (4,))
MEAN, VARIANCE = np.zeros(40, np.float32), np.ones(40, np.float32)
SHORT = Settings(epochs=3, warm_start=0.8, refit=0.4, batch_size=6, patience=5, seed=3)


@pytest.fixture(scope="module")
def found(small_cache):
    return small_cache


@pytest.fixture
def deterministic():
    keras.utils.set_random_seed(3)


def epoch_of(rows, batch_size, seed=0, epoch=0):
    data = dataset.shuffled(rows, batch_size, seed, None, epoch)
    return list(data.take(dataset.steps_per_epoch(rows, batch_size)).as_numpy_iterator())


# Loader


def test_only_training_reads_variants(found):
    both = table.select_rows(found, (1, 2), variants=True)
    clean = table.select_rows(found, (1, 2))
    assert (len(both), len(clean)) == (16, 8)
    assert set(clean.variant) == {"clean"} and set(both.variant) == {"clean", "pitch"}


def test_an_actor_is_on_one_side(found):
    sides = [
        table.select_rows(found, actors) for actors in (SPLIT.train, SPLIT.validation, SPLIT.test)
    ]
    assert [set(rows.actor.tolist()) for rows in sides] == [{1, 2}, {3}, {4}]
    assert not set(sides[0].clip) & set(sides[2].clip)
    assert [int(clip[-2:]) for clip in sides[0].clip] == sides[0].actor.tolist()


def test_tensors_are_those_of_the_shards(found):
    rows = table.select_rows(found, (2, 4), variants=True)
    mfcc, frames, label = reading.RowReader(rows).read(np.array([13, 0, 5]))
    import h5py

    for place, number in enumerate((13, 0, 5)):
        with h5py.File(rows.shards[rows.shard[number]]) as file:
            row = rows.row[number]
            assert np.array_equal(mfcc[place], file["mfcc"][row])
            assert np.array_equal(frames[place], file["frames"][row])
            assert label[place] == file["label"][row]


def test_every_row_comes_once_an_epoch(found):
    rows = table.select_rows(found, (1, 2, 3), variants=True)
    expected = {tensor.tobytes() for tensor in reading.RowReader(rows).read(np.arange(24))[0]}
    batches = list(dataset.in_order(rows, 7).as_numpy_iterator())
    assert [len(targets["fused"]) for _, targets, _ in batches] == [7, 7, 7, 3]
    assert {t.tobytes() for inputs, *_ in batches for t in inputs["mfcc"]} == expected
    assert all(
        weights["video"].tolist() == [1.0] * len(weights["video"]) for *_, weights in batches
    )
    targets = np.concatenate([targets["audio"] for _, targets, _ in epoch_of(rows, 7)])
    assert np.bincount(targets).tolist() == np.bincount(rows.label).tolist()


def test_memory_of_batches_is_used_again_only_when_nobody_holds_it():
    memory = reading.BatchMemory()
    first = memory.empty((3, 5), np.float32)
    address = first.ctypes.data
    assert address % reading.ALIGNMENT_BYTES == 0 and first.shape == (3, 5)
    second = memory.empty((3, 5), np.float32)
    assert second.ctypes.data != address
    del first
    assert memory.empty((5, 3), np.float32).ctypes.data == address


def test_batches_that_wait_keep_their_rows(found):
    """Every batch of several epochs held at once still has the rows of the files."""
    rows = table.select_rows(found, (1, 2, 3), variants=True)
    mfcc, frames, _ = reading.RowReader(rows).read(np.arange(24))
    known = {a.tobytes(): b.tobytes() for a, b in zip(mfcc, frames, strict=True)}
    held = list(dataset.shuffled(rows, 5, 0).take(20))
    pairs = [
        (a.tobytes(), b.tobytes())
        for inputs, *_ in held
        for a, b in zip(inputs["mfcc"].numpy(), inputs["frames"].numpy(), strict=True)
    ]
    assert len(pairs) == 4 * 24 and all(known[a] == b for a, b in pairs)


READ_AHEAD = """
import sys, threading
from pathlib import Path
from train import runtime
runtime.start_tensorflow(3)
from pipeline.cache import index
from train import dataset, reading, table

WAIT_SECONDS = 20
together, calls, read = threading.Barrier(2), [], reading.RowReader.read

def slow_read(self, *given, **named):
    calls.append(threading.get_ident())
    if together is not None:
        together.wait(WAIT_SECONDS)  # until another thread reads as well
    if len(calls) > 1:
        second.set()
    return read(self, *given, **named)

reading.RowReader.read = slow_read
cache = index.find_cache(Path(sys.argv[1]))
rows, second = table.select_rows(cache, (1, 2), variants=True), threading.Event()
known = reading.MfccStatistics(*3 * [reading.np.ones(40, "float32")])
# Training: two batches are read at the same time.
next(iter(dataset.shuffled(rows, 4, 0, known, without=("halves",))))
together.abort()
# Validation: the next batch is read while the network has the first.
together, second = None, threading.Event()
calls.clear()
batches = iter(dataset.in_order(rows, 4))
next(batches)
assert second.wait(WAIT_SECONDS)
"""


def test_batches_are_read_ahead_where_operations_are_deterministic(found):
    """As in every seeded training, in a process of its own: nothing undoes determinism."""
    command = [sys.executable, "-c", READ_AHEAD, found.folder]
    run = subprocess.run(
        command, cwd=Path(__file__).parents[1], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]


DETERMINISM = """
import sys
from tensorflow.python.framework.config import is_op_determinism_enabled
from train import runtime
runtime.start_tensorflow(3, {"None": None, "True": True, "False": False}[sys.argv[1]])
print(is_op_determinism_enabled())
print(runtime.jit_compile())
"""


@pytest.mark.parametrize(("asked", "got"), [("None", "True"), ("True", "True"), ("False", "False")])
def test_determinism_is_an_option_and_on_by_default_on_a_cpu(asked, got):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
    run = subprocess.run(
        [sys.executable, "-c", DETERMINISM, asked],
        cwd=Path(__file__).parents[1],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert run.stdout.split() == [got, "False"]


def test_keras_decides_about_xla_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert runtime.jit_compile() == "auto"


def test_order_depends_on_seed_and_epoch_alone(found):
    rows = table.select_rows(found, (1, 2, 3), variants=True)

    def order(seed, epoch):
        return [
            t.tobytes() for inputs, *_ in epoch_of(rows, 5, seed, epoch) for t in inputs["mfcc"]
        ]

    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert set(order(0, 0)) == set(order(0, 1)) and len(set(order(0, 0))) == 24
    assert order(0, 1) == order(0, 1)
    two = dataset.shuffled(rows, 5, 0).take(10).as_numpy_iterator()
    assert [t.tobytes() for inputs, *_ in two for t in inputs["mfcc"]] == order(0, 0) + order(0, 1)


SEED = np.array([1, 2], np.int64)


def test_a_view_is_one_affine_map_and_one_light_for_all_pictures_of_a_clip():
    picture = np.random.default_rng(0).integers(60, 190, (16, 16, 3)).astype(np.uint8)
    frames = np.broadcast_to(cv2.resize(picture, (112, 112)), (24, 3, 112, 112, 3)).copy()
    changed = views.change_view(frames, SEED)
    assert changed.shape == frames.shape and changed.dtype == np.uint8
    assert np.array_equal(changed, views.change_view(frames, SEED))
    assert not np.array_equal(changed, views.change_view(frames, SEED + 1))
    assert all(
        np.array_equal(clip[0], clip[1]) and np.array_equal(clip[0], clip[2]) for clip in changed
    )
    light = changed.mean(axis=(1, 2, 3, 4)) - frames.mean()
    assert 10 < np.abs(light).max() < views.BRIGHTNESS_SHIFT + 8
    assert light.min() < -5 and light.max() > 5


def test_missing_pictures_stay_black_whatever_is_changed():
    random = np.random.default_rng(0)
    frames = random.integers(30, 200, (40, 6, 32, 32, 3)).astype(np.uint8)
    others = random.integers(30, 200, frames.shape).astype(np.uint8)
    missing, theirs = random.random((2, 40, 6)) < 0.3
    missing[:3] = theirs[3:6] = True
    frames[missing] = others[theirs] = 0
    changed = views.change_view(frames, SEED)
    assert not changed[missing].any()
    assert (changed[~missing].reshape((~missing).sum(), -1).max(axis=1) > 0).all()
    mixed = views.exchange_halves(frames, others, SEED)
    assert not mixed[missing].any()
    # Where the other clip misses a picture, the clip's own stays; else something is exchanged.
    assert np.array_equal(mixed[theirs], frames[theirs])
    same = (mixed == frames).all(axis=(2, 3, 4))[~missing & ~theirs]
    assert 0.2 < same.mean() < 0.8
    # Black pictures do not count for how light a clip is.
    lit = mixed[~missing].reshape((~missing).sum(), -1).mean(axis=1)
    assert np.abs(lit - 115).max() < 8


def test_views_stay_within_their_bounds():
    random = np.random.default_rng(0)
    matrices = np.array([views.view_matrix(random, 112) for _ in range(200)])
    zooms = np.sqrt(np.abs(np.linalg.det(matrices[:, :, :2])))
    assert zooms.min() >= views.ZOOMS[0] - 1e-9
    assert zooms.max() <= views.ZOOMS[1] + 1e-9
    assert 60 < (np.linalg.det(matrices[:, :, :2]) < 0).sum() < 140
    moved = matrices @ np.array([55.5, 55.5, 1]) - 55.5
    assert np.abs(moved).max() <= views.SHIFT * 112 + 1e-6


def test_some_clips_show_half_a_face_of_someone_else_as_light_as_their_own():
    random = np.random.default_rng(0)
    frames = random.integers(100, 140, (200, 3, 112, 112, 3)).astype(np.uint8)
    others = random.integers(20, 60, frames.shape).astype(np.uint8)
    mixed = views.exchange_halves(frames, others, SEED)
    assert np.array_equal(mixed, views.exchange_halves(frames, others, SEED))
    assert np.abs(mixed.mean(axis=(1, 2, 3, 4)) - 120).max() < 1
    own = (mixed == frames).all(axis=(1, 3, 4))
    whole, upper, lower = own.all(axis=1), own[:, 0], own[:, -1]
    assert 70 < whole.sum() < 130  # half of two hundred, four deviations either way
    assert (upper | lower).all() and 30 < (upper & ~whole).sum() < 70
    first, last = 0.57 - 0.05, 0.69 + 0.05
    for keeps in (own[upper & ~whole], ~own[lower & ~whole]):
        kept = keeps.argmin(axis=1) / 112
        assert first - 0.01 < kept.min() < kept.max() < last
    # A batch of what is the same on both sides stays what it is.
    same = views.exchange_halves(frames, frames, SEED)
    assert np.array_equal(same, frames)


def test_whose_face_is_exchanged_belongs_to_another_person_with_the_same_emotion(found):
    rows = table.select_rows(found, (1, 2, 3), variants=True)
    random = np.random.default_rng(0)
    numbers = np.arange(len(rows))
    draws = table.Alike(rows)
    alike = np.array([draws.draw(numbers, random) for _ in range(40)])
    assert (rows.label[alike] == rows.label).all() and (rows.actor[alike] != rows.actor).all()
    reachable = [
        np.flatnonzero((rows.label == rows.label[n]) & (rows.actor != rows.actor[n]))
        for n in numbers
    ]
    assert all(set(alike[:, n]) == set(reachable[n]) for n in numbers)
    alone = rows.where(rows.actor == 1)
    assert np.array_equal(table.Alike(alone).draw(np.array([3, 0]), random), [3, 0])


def test_masks_and_shifts_of_the_mfcc():
    mfcc = np.ones((32, 40, 44, 1), np.float32)
    masked = voices.mask_mfcc(mfcc, np.full((1, 40, 1, 1), 7, np.float32), SEED).numpy()[..., 0]
    columns, bands = (masked == 7).all(axis=1).sum(axis=1), (masked == 7).all(axis=2).sum(axis=1)
    assert set(np.unique(masked)) == {1, 7}
    assert 7 <= columns.max() <= voices.TIME_MASK_COLUMNS
    assert 5 <= bands.max() <= voices.FREQUENCY_MASK_COEFFICIENTS
    ramp = np.broadcast_to(np.arange(44, dtype=np.float32)[None, None, :, None], mfcc.shape)
    first = voices.shift_mfcc(tf.constant(ramp), SEED).numpy()[:, 0, :, 0]
    shifts = (first[:, 0] + 22) % 44 - 22
    assert all(
        np.array_equal(row, (np.arange(44) + s) % 44) for row, s in zip(first, shifts, strict=True)
    )
    assert len(set(shifts)) > 4 and np.abs(shifts).max() == voices.TIME_SHIFT_COLUMNS


def test_a_made_up_voice_moves_levels_as_far_as_speakers_differ():
    random = np.random.default_rng(0)
    mfcc = tf.constant(random.normal(5, 2, (500, 40, 44, 1)), tf.float32)
    deviation = np.linspace(0, 9, 40, dtype=np.float32).reshape(1, 40, 1, 1)
    changed = voices.change_voice(mfcc, deviation, SEED).numpy()[..., 0]
    original = mfcc.numpy()[..., 0]
    offsets = changed.mean(axis=2) - original.mean(axis=2)
    assert offsets.std(axis=0) == pytest.approx(
        voices.VOICE_OFFSET * deviation.ravel(), rel=0.15, abs=1e-5
    )
    scales = np.log(changed.std(axis=2) / original.std(axis=2))
    assert scales.mean() == pytest.approx(0, abs=0.01)
    assert scales.std() == pytest.approx(voices.VOICE_SCALE, rel=0.1)
    # The course stays: only its level and its reach are another speaker's.
    course, before = (x - x.mean(axis=2, keepdims=True) for x in (changed, original))
    ratio = course / before
    assert np.ptp(ratio[0, 3]) < 1e-3


def test_tempo_stretches_about_the_middle():
    ramp = np.broadcast_to(np.arange(44, dtype=np.float32)[:, None], (200, 40, 44, 1))
    changed = voices.change_tempo(tf.constant(ramp), SEED).numpy()[:, 7, :, 0]
    rates = (changed[:, 30] - changed[:, 10]) / 20
    assert np.abs(np.log(rates)).max() <= voices.TEMPO + 1e-5
    assert rates.min() < 0.92 and rates.max() > 1.08
    assert changed[:, 10] == pytest.approx(21.5 - 11.5 * rates, abs=1e-4)
    assert changed.min() >= 0 and changed.max() <= 43


def test_statistics_are_those_of_the_rows(found):
    rows = table.select_rows(found, (1, 3))
    known = reading.mfcc_statistics(rows)
    everything = reading.RowReader(rows).read(np.arange(len(rows)))[0]
    assert known.mean == pytest.approx(everything.mean(axis=(0, 2, 3)), rel=1e-4, abs=1e-4)
    assert known.variance == pytest.approx(everything.var(axis=(0, 2, 3)), rel=1e-3, abs=1e-3)
    first, third = (everything[rows.actor == actor].mean(axis=(0, 2, 3)) for actor in (1, 3))
    assert known.speaker_deviation == pytest.approx(np.abs(first - third) / 2, rel=1e-3, abs=1e-3)


@pytest.fixture
def tensors_read(monkeypatch):
    """Bytes of each tensor that any reader reads from now on."""
    lengths, preadv = [], os.preadv

    def note(descriptor, views, place):
        lengths.extend(len(view) for view in views)
        return preadv(descriptor, views, place)

    monkeypatch.setattr(reading.os, "preadv", note)
    return lengths


@pytest.mark.parametrize("calibrated", [False, True])
def test_statistics_read_no_frames(found, tensors_read, calibrated):
    rows = table.select_rows(found, (1, 2, 3))
    if calibrated:  # Each actor has one neutral clip, which is not read against itself.
        rows = rest.beside(rows, found)
    reading.mfcc_statistics(rows)
    assert tensors_read == [found.spec.mfcc_bytes] * len(rows) * (1 + calibrated)


def test_frames_are_read_once_where_the_voice_learns_alone(found, tensors_read):
    """A checksum is that of a whole row, so the first epoch reads all of it.

    Epochs overlap by a batch, whose rows may be read whole twice.
    """
    rows = table.select_rows(found, (1, 2, 3), variants=True)
    known = reading.mfcc_statistics(rows.where(rows.variant == "clean"))
    voice = model.lessons(model.build_fusion_cnn(found.spec, MEAN, VARIANCE), ["audio"])
    tensors_read.clear()
    epochs = dataset.shuffled_for(voice, rows, 8, 0, known).take(4 * 3)
    assert [list(inputs) for inputs, *_ in epochs] == [["mfcc"]] * 12
    assert len(rows) <= tensors_read.count(found.spec.frames_bytes) <= len(rows) + 8
    assert tensors_read.count(found.spec.mfcc_bytes) >= 4 * len(rows)
    # The face alone, as often, reads the MFCC of a row once.
    face = model.lessons(model.build_fusion_cnn(found.spec, MEAN, VARIANCE), ["video"])
    tensors_read.clear()
    epochs = dataset.shuffled_for(face, rows, 8, 0, known, without=("halves",)).take(4 * 3)
    assert [list(inputs) for inputs, *_ in epochs] == [["frames"]] * 12
    assert len(rows) <= tensors_read.count(found.spec.mfcc_bytes) <= len(rows) + 8


@pytest.mark.parametrize("inputs", [("mfcc",), ("frames",)])
@pytest.mark.parametrize("damaged", ["mfcc", "frames"])
def test_a_damaged_row_is_found_whatever_is_read_of_it(found, tmp_path, inputs, damaged):
    made, rows, place = copied_with_row(found, tmp_path, 5, damaged)
    reader = reading.RowReader(rows)
    same = reading.RowReader(table.select_rows(found, (1, 2))).read(np.arange(4), inputs=inputs)
    flip(*place)
    for mine, theirs in zip(reader.read(np.arange(4), inputs=inputs), same, strict=True):
        assert (mine is None and theirs is None) or np.array_equal(mine, theirs)
    with pytest.raises(InputError, match=rf"clip {made.clips[5].clip}, as it was written"):
        reader.read(np.array([5]), inputs=inputs)


def test_damage_under_the_statistics_is_told(found, tmp_path):
    """What is no number at once; what is one makes other statistics, which no training resumes."""
    made, rows, (shard, place) = copied_with_row(found, tmp_path, 5, "mfcc")
    before = reading.mfcc_statistics(rows).checksum
    flip(shard, place, 1)
    assert reading.mfcc_statistics(rows).checksum != before
    with shard.open("r+b") as file:
        file.seek(place)
        file.write(np.float32(np.nan).tobytes())
    with pytest.raises(InputError, match=rf"clip {made.clips[5].clip}, as it was written"):
        reading.mfcc_statistics(rows)


def copied_with_row(found, root, number, tensor):
    """A copy of a cache, its clean rows of two actors, and where a tensor of one of them is."""
    shutil.copytree(found.folder, root / "copy")
    made = index.read_index(root / "copy")
    rows = table.select_rows(made, (1, 2))
    shard = rows.shard[number]
    size = {"mfcc": made.spec.mfcc_bytes, "frames": made.spec.frames_bytes}[tensor]
    offset = rows.offsets[shard][("mfcc", "frames").index(tensor)]
    return made, rows, (rows.shards[shard], int(offset + rows.row[number] * size))


def test_a_cut_shard_names_the_row(found, tmp_path):
    shutil.copytree(found.folder, tmp_path / "cut")
    rows = table.select_rows(index.read_index(tmp_path / "cut"), (2,))
    reader = reading.RowReader(rows)
    shard = found.shard_facts[found.clips[7].shard]
    with (tmp_path / "cut" / shard.file).open("r+b") as file:
        file.truncate(shard.frames_offset + 9)
    reader.read(np.array([0, 1, 2]))
    with pytest.raises(InputError, match=r"row 0 of .*actor-02-\w+\.h5, clip 01-08-01-00-07-02"):
        reader.read(np.array([3]))


def test_a_damaged_clip_is_named_and_skipped_where_asked_for(found, tmp_path, capsys):
    folder = tmp_path / found.folder.name
    shutil.copytree(found.folder, folder)
    damaged = found.clips[5]
    shard = found.shard_facts[damaged.shard]
    with (folder / shard.file).open("r+b") as file:
        file.seek(shard.mfcc_offset + (damaged.row + 1) * found.spec.mfcc_bytes + 8)
        file.write(b"xxxx")
    rows = table.select_rows(index.read_index(folder), (1, 2, 3, 4), variants=True)
    with pytest.raises(InputError, match=rf"clip {damaged.clip}, as it was written"):
        reading.RowReader(rows).read(np.arange(len(rows)))
    arguments = __main__.parser().parse_args(["fit", "--skip-bad", "--cache", str(tmp_path)])
    kept = commands.open_cache(arguments)
    assert damaged.clip in capsys.readouterr().out
    assert {clip.clip for clip in found.clips} - {clip.clip for clip in kept.clips} == {
        damaged.clip
    }
    assert kept.fingerprint != found.fingerprint
    rows = table.select_rows(kept, (1, 2, 3, 4), variants=True)
    reading.RowReader(rows).read(np.arange(len(rows)))


def test_how_clips_are_grouped_into_shards_changes_no_table_and_no_batch(tmp_path, small_spec):
    clips = [
        (actor, emotion, modalities)
        for emotion, modalities in (("sad", "av"), ("happy", "v"), ("sad", "a"), ("calm", "av"))
        for actor in (2, 1, 10)
    ]
    seen = []
    for size in (1, 3, 16):
        made = write_rows(tmp_path / str(size), small_spec, clips, size)
        rows = table.select_rows(made, (1, 2, 10), variants=True)
        assert len(rows.shards) == 3 * -(-4 // size)
        columns = (rows.actor, rows.clip, rows.variant, rows.label, rows.has_audio, rows.has_video)
        batches = [
            (inputs["mfcc"].tobytes(), inputs["frames"].tobytes(), weights["audio"].tolist())
            for inputs, _, weights in epoch_of(rows, 7)
        ]
        seen.append(([column.tolist() for column in columns], batches))
        keys = list(zip(rows.actor.tolist(), rows.clip.tolist(), strict=True))
        assert keys == sorted(keys) and rows.variant.tolist() == ["clean", "pitch"] * 12
    assert seen[0] == seen[1] == seen[2]


def test_more_shards_than_files_may_be_open(tmp_path, small_spec, monkeypatch):
    """Eight threads read 80 shards with room for a dozen files more than are open now."""
    clips = [(actor, "sad", "av") for actor in range(1, 81)]
    made = write_rows(tmp_path, small_spec, clips)
    rows = table.select_rows(made, range(1, 81))
    monkeypatch.setattr(reading, "OPEN_SHARDS", 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 12, hard))
    try:
        reader = reading.RowReader(rows)
        order = [np.random.default_rng(seed).permutation(80) for seed in range(8)]
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(reader.read, order))
        count = len(os.listdir("/proc/self/fd"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for numbers, (mfcc, _, _) in zip(order, read, strict=True):
        assert np.array_equal(mfcc, read[0][0][np.argsort(order[0])][numbers])
    del reader
    assert len(os.listdir("/proc/self/fd")) == count - 3


def test_a_table_of_a_large_corpus_is_quick(tmp_path, small_spec):
    """No step is quadratic: four times the clips take no more than eight times as long."""
    one = write_rows(tmp_path, small_spec, [(1, "sad", "av")])
    seconds = []
    for actors in (250, 1000):
        shards = tuple(many_clips(one.shards[0], actor) for actor in range(1, actors + 1))
        made = dataclasses.replace(one, shards=shards)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table, "refuse_other_size", lambda *_: None)
            started = time.process_time()
            rows = table.select_rows(made, range(1, actors + 1), variants=True)
            table.Alike(rows).draw(np.arange(0, len(rows), 50), np.random.default_rng(0))
            table.source_hashes(made, Split(tuple(range(1, actors)), (), ()))
            seconds.append(time.process_time() - started)
        assert len(rows) == actors * 16 * 2
    assert seconds[1] < 8 * seconds[0]


def many_clips(shard, actor):
    """A shard like another one with sixteen clips of an actor."""
    file = f"actor-{actor}-0000000000.h5"
    clips = tuple(
        dataclasses.replace(shard.clips[0], clip=f"{actor}-{n}", actor=actor, shard=file)
        for n in range(16)
    )
    return dataclasses.replace(shard, file=file, actor=actor, clips=clips)


def test_a_clip_without_a_modality_weighs_nothing_in_its_head_and_keeps_its_zeros(
    tmp_path, small_spec
):
    clips = [(1, "sad", "av"), (1, "sad", "a"), (2, "sad", "v"), (2, "happy", "av")]
    rows = table.select_rows(write_rows(tmp_path, small_spec, clips), (1, 2), variants=True)
    known = reading.mfcc_statistics(rows)
    batches = dataset.shuffled(rows, 3, 0, known).take(6)
    for inputs, targets, weights in batches.as_numpy_iterator():
        assert weights.keys() == targets.keys()
        assert weights["fused"].all()
        for head, tensor in (("audio", inputs["mfcc"]), ("video", inputs["frames"])):
            given = tensor.reshape(len(tensor), -1).any(axis=1)
            for name in LESSONS[head]:
                assert np.array_equal(weights[name], given)
    # A face is exchanged with one that is there.
    alike = table.Alike(rows)
    draws = {number: set() for number in range(len(rows))}
    for seed in range(40):
        drawn = alike.draw(np.arange(len(rows)), np.random.default_rng(seed))
        for number, other in enumerate(drawn):
            draws[number].add(int(other))
    for number, others in draws.items():
        if not rows.has_video[number] or rows.label[number] == EMOTIONS.index("happy"):
            assert others == {number}
        else:
            assert all(rows.has_video[other] for other in others) and number not in others


def test_statistics_are_those_of_the_rows_with_audio(tmp_path, small_spec):
    clips = [(1, "sad", "av"), (1, "sad", "v"), (2, "sad", "a"), (3, "sad", "v")]
    rows = table.select_rows(write_rows(tmp_path, small_spec, clips), (1, 2, 3))
    known = reading.mfcc_statistics(rows)
    heard = reading.mfcc_statistics(rows.where(rows.has_audio))
    assert all(np.array_equal(a, b) for a, b in zip(known, heard, strict=True))
    silent = reading.mfcc_statistics(rows.where(~rows.has_audio))
    assert not silent.mean.any() and (silent.variance == 1).all()


def test_unknown_actors_are_refused(found):
    with pytest.raises(InputError, match=r"got \[9\]"):
        table.select_rows(found, (1, 9))


# Splits


def test_default_split_is_by_number():
    split = protocol.split_actors(range(1, 19))
    assert split == Split(tuple(range(1, 13)), (13, 14), (15, 16, 17, 18))
    assert protocol.split_actors(range(1, 25)).test == tuple(range(19, 25))
    assert protocol.split_actors([3, 1, 2]) == Split((1,), (2,), (3,))


def test_named_split_and_refusals():
    assert protocol.split_actors(range(1, 7), (1, 2), (3,)) == Split((4, 5, 6), (3,), (1, 2))
    for present, test, validation, said in [
        ([1, 2], None, None, "at least 3 actors"),
        ([1, 2, 3], (9,), None, "test actors out of 1-3"),
        ([1, 2, 3], (1,), (1,), "got 1 in both"),
        ([1, 2, 3], (1, 2), (3,), "left to train on"),
    ]:
        with pytest.raises(InputError, match=said):
            protocol.split_actors(present, test, validation)


@pytest.mark.parametrize(
    ("text", "actors"), [("1-4,9", (1, 2, 3, 4, 9)), ("7", (7,)), ("3, 1 2", (1, 2, 3))]
)
def test_lists_of_actors(text, actors):
    assert parse_actors(text) == actors
    assert parse_actors(format_actors(actors)) == actors


@pytest.mark.parametrize("text", ["", "a", "4-1", "1--2", "-3", "1-99999999"])
def test_wrong_lists_of_actors(text):
    with pytest.raises(InputError, match="expected actors such as"):
        parse_actors(text)


# Settings


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("seed", -1, "seed of 0 to 2147483647, got -1"),
        ("seed", 9_999_999_999, "seed of 0 to 2147483647, got 9999999999"),
        ("learning_rate", 0.0, "learning rate above 0, got 0.0"),
        ("learning_rate", -1.0, "learning rate above 0, got -1.0"),
        ("learning_rate", np.nan, "learning rate above 0, got nan"),
        ("learning_rate", np.inf, "learning rate above 0, got inf"),
        ("dropout", 1.0, "dropout of at least 0 and below 1, got 1.0"),
        ("dropout", -0.1, "dropout of at least 0 and below 1, got -0.1"),
        ("weight_decay", -1e-9, "weight decay of at least 0, got -1e-09"),
        ("batch_size", 0, "batch size of at least 1, got 0"),
        ("epochs", 0, "epochs of at least 1, got 0"),
        ("patience", 0, "patience of at least 1, got 0"),
        ("plateau_patience", 0, "plateau patience of at least 1, got 0"),
        ("warm_start", np.nan, "warm start of 0 to 10 times the epochs, got nan"),
        ("refit", 11.0, "refit of 0 to 10 times the epochs, got 11.0"),
        ("clip_norm", 0.0, "clip norm above 0, got 0.0"),
        ("warmup_epochs", -1.0, "warmup epochs of at least 0, got -1.0"),
        ("precision", "half", "precision out of float32, mixed_float16, mixed_bfloat16, got half"),
    ],
)
def test_numbers_out_of_their_bounds_are_refused(name, wrong, said):
    with pytest.raises(InputError) as caught:
        Settings(**{name: wrong})
    message = str(caught.value)
    assert message == f"expected {said}; choose another, such as {getattr(Settings, name)}"
    arguments = ["fit", f"--{name.replace('_', '-')}={wrong}", "--cache", "nowhere"]
    if name not in ("dropout", "weight_decay", "clip_norm", "warmup_epochs", "precision"):
        arguments = __main__.parser().parse_args(arguments)
        with pytest.raises(InputError) as caught:
            arguments.run(arguments)
        assert str(caught.value) == message


def test_a_wrong_number_is_one_line_of_every_command():
    for name, options in {
        "fit": ("--seed", "-1"),
        "crossval": ("--seed", "9999999999"),
        "leak": ("--seed", "-1"),
        "ablation": ("--seeds", "0", "-1"),
        "choices": ("--seeds", "0", "-1"),
    }.items():
        arguments = __main__.parser().parse_args([name, *options, "--cache", "nowhere"])
        with pytest.raises(InputError, match=f"seed of 0 to 2147483647, got {options[-1]};"):
            arguments.run(arguments)
    answer = command("train", "fit", "--learning-rate", "-1")
    assert_one_line(answer, "learning rate above 0, got -1.0", "choose another")


@pytest.mark.parametrize("seed", [0, 1_234_567_890, 2**31 - 1])
def test_a_seed_within_its_bounds_is_one_everywhere(found, seed):
    keras.utils.set_random_seed(Settings(seed=seed).seed)
    rows = table.select_rows(found, (1, 2))
    known = reading.mfcc_statistics(rows)
    batches = dataset.shuffled(rows, 4, seed, known, first_epoch=90).take(2)
    assert all(np.isfinite(inputs["mfcc"]).all() for inputs, *_ in batches)


# Model and schedule


def test_model_reads_rows_and_answers_with_probabilities():
    spec = FeatureSpec()
    network = model.build_fusion_cnn(spec, MEAN, VARIANCE)
    inputs = {
        "mfcc": np.zeros((2, *spec.mfcc_shape), np.float32),
        "frames": np.full((2, *spec.frames_shape), 255, np.uint8),
    }
    outputs = {name: np.asarray(output) for name, output in network(inputs).items()}
    assert outputs.keys() == {"fused", "audio", "video"}
    for output in outputs.values():
        assert output.shape == (2, 8) and output.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_each_head_hears_or_sees_its_own_modality():
    spec = FeatureSpec()
    network = model.build_fusion_cnn(spec, MEAN, VARIANCE)
    random = np.random.default_rng(0)
    base = {
        "mfcc": random.normal(size=(1, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (1, *spec.frames_shape)).astype(np.uint8),
    }
    other_sound = base | {"mfcc": -base["mfcc"]}
    before, after = network(base), network(other_sound)
    assert np.array_equal(before["video"], after["video"])
    assert not np.array_equal(before["audio"], after["audio"])
    assert not np.array_equal(before["fused"], after["fused"])


def test_fusion_teaches_no_branch():
    spec = FeatureSpec(frame_count=8, frame_size_px=32)
    network = model.build_fusion_cnn(spec, MEAN, VARIANCE)
    random = np.random.default_rng(0)
    rows = {
        "mfcc": random.normal(size=(2, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (2, *spec.frames_shape), dtype=np.uint8),
    }
    with tf.GradientTape() as tape:
        loss = keras.ops.sum(keras.ops.log(network(rows)["fused"][:, 0]))
    gradients = tape.gradient(loss, network.trainable_variables)
    taught = {
        variable.path.split("/")[0]
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True)
        if gradient is not None
    }
    assert taught == {"fusion_dense", "fused_scores"}


def test_votes_and_frequencies_weigh_the_scores_of_the_heads():
    spec = FeatureSpec(frame_count=8, frame_size_px=32)
    random = np.random.default_rng(0)
    rows = {
        "mfcc": random.normal(size=(2, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (2, *spec.frames_shape), dtype=np.uint8),
    }
    even = model.build_fusion_cnn(spec, MEAN, VARIANCE)
    votes = {"fused": 0.25, "audio": 2.0, "video": 0.5}
    shares = confidence.frequencies(random.integers(0, 8, 50))
    weighed = model.build_fusion_cnn(spec, MEAN, VARIANCE, votes=votes, frequencies=shares)
    weighed.set_weights(even.get_weights())
    before, after = (
        {head: np.asarray(said) for head, said in network(rows).items()}
        for network in (even, weighed)
    )
    wanted = confidence.balance(confidence.vote(before, votes), shares)
    for head, said in after.items():
        assert np.abs(said - before[head]).max() > 1e-3
        assert wanted[head] == pytest.approx(said, abs=1e-5)


def test_the_lessons_of_a_head_are_those_of_the_whole_network():
    spec = FeatureSpec()
    network = model.build_fusion_cnn(spec, np.zeros(40, np.float32), np.ones(40, np.float32))
    random = np.random.default_rng(0)
    rows = {
        "mfcc": random.normal(size=(2, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (2, *spec.frames_shape), np.uint8),
    }
    whole = network.predict(rows, verbose=0)
    every = model.lessons(network)
    assert set(every.output) == set(chain(*LESSONS.values()))
    assert len(every.trainable_weights) == len(network.trainable_weights)
    for head, given in (("audio", "mfcc"), ("video", "frames")):
        alone = model.lessons(network, [head])
        answers = alone.predict({given: rows[given]}, verbose=0)
        assert tuple(answers) == LESSONS[head]
        np.testing.assert_allclose(answers[head], whole[head], atol=1e-6)
        assert len(alone.trainable_weights) < len(network.trainable_weights)


def test_the_voices_head_is_the_mean_of_its_readers_who_learn_apart():
    spec = FeatureSpec(frame_count=8, frame_size_px=32)
    heard = model.lessons(model.build_fusion_cnn(spec, MEAN, VARIANCE), ["audio"])
    random = np.random.default_rng(0)
    rows = {"mfcc": random.normal(size=(3, *spec.mfcc_shape)).astype(np.float32)}
    said = {name: np.asarray(value) for name, value in heard(rows).items()}
    readers = np.log([said[f"audio_{reader}"] for reader in READERS])
    pooled = np.exp(readers.mean(axis=0))
    pooled /= pooled.sum(axis=1, keepdims=True)
    assert said["audio"] == pytest.approx(pooled, abs=1e-5)

    def taught_by(name):
        with tf.GradientTape() as tape:
            loss = keras.ops.sum(keras.ops.log(heard(rows)[name][:, 0]))
        gradients = tape.gradient(loss, heard.trainable_variables)
        return {
            "_".join(variable.path.split("/")[0].split("_")[1:3])
            for variable, gradient in zip(heard.trainable_variables, gradients, strict=True)
            if gradient is not None
        }

    assert taught_by("audio") == set()
    assert [taught_by(f"audio_{reader}") for reader in READERS] == [{name} for name in READERS]


def test_without_a_modality_the_answer_is_the_other_heads():
    spec = FeatureSpec()
    network = model.build_fusion_cnn(spec, MEAN, VARIANCE)
    random = np.random.default_rng(0)
    rows = {
        "mfcc": random.normal(size=(4, *spec.mfcc_shape)).astype(np.float32),
        "frames": random.integers(0, 256, (4, *spec.frames_shape), dtype=np.uint8),
    }
    rows["mfcc"][1] = 0
    rows["frames"][2] = 0
    rows["frames"][3, :19] = 0
    said = {head: np.asarray(value) for head, value in network(rows).items()}
    assert (said["fused"][1] == said["video"][1]).all()
    assert (said["fused"][2] == said["audio"][2]).all()
    for row in (0, 3):
        assert np.abs(said["fused"][row] - said["audio"][row]).max() > 1e-4
        assert np.abs(said["fused"][row] - said["video"][row]).max() > 1e-4


@pytest.mark.parametrize("shape", [(12,), (6, 8), (4, 5, 3), (3, 4, 4, 2)])
def test_fused_normalization_is_keras_own(shape):
    random = np.random.default_rng(0)
    batches = [random.normal(3, 2, (7, *shape)).astype(np.float32) for _ in range(3)]
    wanted = random.normal(size=(7, *shape)).astype(np.float32)
    ends = []
    for fused in (False, True):
        inputs = keras.Input(shape)
        layer = keras.layers.BatchNormalization(momentum=0.9)
        network = keras.Model(inputs, layer(inputs))
        if fused:
            layers.fuse_normalization(network)
        layer.gamma.assign(np.linspace(0.5, 2, shape[-1]))
        layer.beta.assign(np.linspace(-1, 1, shape[-1]))
        network.compile(keras.optimizers.SGD(0.1), "mse")
        for batch in batches:
            network.train_on_batch(batch, wanted)
        fresh = keras.Model.from_config(network.get_config())
        fresh.set_weights(network.get_weights())
        assert type(fresh.layers[1]) is keras.layers.BatchNormalization
        with tf.GradientTape() as tape:
            values = tf.constant(batches[0])
            tape.watch(values)
            loss = tf.reduce_sum(tf.square(network(values, training=True) - wanted))
        gradient = tape.gradient(loss, values)
        ends.append([*network.get_weights(), gradient, fresh(batches[1]), network(batches[1])])
    for own, fused in zip(*ends, strict=True):
        np.testing.assert_allclose(own, fused, rtol=1e-3, atol=1e-4)


def test_warm_up_then_cosine():
    values = [schedule.warmup_cosine(step, 10, 110) for step in range(120)]
    assert values[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert values[60] == pytest.approx((1 + 0.02) / 2)
    assert values[110:] == pytest.approx([0.02] * 10)
    assert all(0 < value <= 1 for value in values)


def test_schedule_and_plateau_compose():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    network.compile(keras.optimizers.Adam(0.1), "mse")
    network.optimizer.build(network.trainable_variables)
    warm = schedule.WarmupCosine(4, 40)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1)
    for callback in (warm, plateau):
        callback.set_model(network)
        callback.on_train_begin()
    rates = []
    for epoch in range(4):
        for batch in range(10):
            warm.on_train_batch_begin(batch)
            rates.append(float(network.optimizer.learning_rate))
        plateau.on_epoch_end(epoch, {"val_loss": 1.0 if epoch < 3 else 2.0})
    cuts = [1.0] * 20 + [0.5] * 10 + [0.25] * 10
    expected = [0.1 * schedule.warmup_cosine(step, 4, 40) * cut for step, cut in enumerate(cuts)]
    assert rates == pytest.approx(expected, rel=1e-4)


# Training


def test_a_training_that_gets_no_better_is_slowed_down_and_stopped_by_default(tmp_path, small_spec):
    """Nobody in training has the validation actor's emotion: it is never answered."""
    clips = [(actor, emotion, "v") for actor in (1, 2) for emotion in ("neutral", "happy") * 8]
    clips += [(3, "angry", "v")] * 4
    made = write_rows(tmp_path / "cache", small_spec, clips)
    training, validation = (table.select_rows(made, actors) for actors in ((1, 2), (3,)))
    keras.utils.set_random_seed(0)
    settings = Settings(warm_start=0, refit=0)
    lessons = stage.compiled(
        model.build_fusion_cnn(small_spec, MEAN, VARIANCE), settings, ["video"]
    )
    plan = stage.Stage(
        "train", ("video",), tmp_path, tmp_path, training, validation, settings.epochs
    )
    known = reading.mfcc_statistics(training)
    stage.learn(lessons, plan, known, settings, {}, False, False)
    with (tmp_path / stage.LOG_NAME).open() as stream:
        epochs = list(csv.DictReader(stream))
    assert [float(epoch[stage.CHOSEN_BY]) for epoch in epochs[1:]] == [0] * settings.patience
    assert len(epochs) == 1 + settings.patience < settings.epochs
    steps = dataset.steps_per_epoch(training, settings.batch_size)
    part = schedule.warmup_cosine(len(epochs) * steps - 1, steps, settings.epochs * steps)
    halved = settings.learning_rate * part / 4
    assert float(lessons.optimizer.learning_rate) == pytest.approx(halved, rel=1e-3)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains_one_stage_after_the_other(found, tmp_path, policy):
    rows = table.select_rows(found, SPLIT.train)
    known = reading.mfcc_statistics(rows)
    keras.utils.set_random_seed(0)
    settings = dataclasses.replace(SHORT, precision=policy)
    with runtime.precision(policy):
        network = model.build_fusion_cnn(found.spec, known.mean, known.variance)
    assert keras.config.dtype_policy().name == "float32"
    assert network.get_layer("video_time_1").compute_dtype == policy.split("_")[1]
    assert {output.dtype for output in model.lessons(network).output.values()} == {"float32"}
    start = network.get_weights()
    for name in ("train", "refit"):
        part = stage.Stage(name, HEADS, tmp_path, tmp_path / name, rows, None, 2)
        lessons = stage.compiled(network, settings)
        assert int(lessons.optimizer.iterations) == 0
        stage.learn(lessons, part, known, settings, {}, False, False)
        log = list(csv.DictReader((tmp_path / name / stage.LOG_NAME).open()))
        assert len(log) == 2 and all(np.isfinite(float(epoch["loss"])) for epoch in log)
        # Steps whose gradients float16 cannot hold are left out, until the scale is small enough.
        done, all_steps = int(lessons.optimizer.iterations), 2 * dataset.steps_per_epoch(rows, 6)
        assert done == all_steps or (policy == "mixed_float16" and 0 < done < all_steps)
        ended = network.get_weights()
        assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(start, ended, strict=True))
        assert all(np.isfinite(values).all() for values in ended)
        start = ended
    # What is saved computes in float32 and answers alike.
    plain = model.build_fusion_cnn(found.spec, known.mean, known.variance)
    plain.set_weights(network.get_weights())
    mixed, plain = (evaluate.predict(one, rows) for one in (network, plain))
    for head in HEADS:
        assert mixed[head] == pytest.approx(plain[head], abs=0.03)


@pytest.fixture(scope="module")
def trained(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(SHORT.seed)
    return folder, fit.fit(found, folder, SPLIT, SHORT)


def test_a_training_leaves_a_complete_artefact(trained, found):
    folder, judged = trained
    assert {path.name for path in folder.iterdir()} == {
        "model.keras",
        "model.json",
        "report",
        "training",
    }
    assert {path.name for path in (folder / "report").iterdir()} == {
        "metrics.json",
        "predictions.csv",
        "confusion.png",
        "learning_curves.png",
        "robustness.json",
        "robustness.md",
    }
    description = json.loads((folder / "model.json").read_text())
    assert description["actors"] == {"train": [1, 2], "validation": [3], "test": [4]}
    assert description["settings"]["seed"] == 3 and description["emotions"] == list(EMOTIONS)
    assert (
        description["metrics"]
        == judged
        == json.loads((folder / "report" / "metrics.json").read_text())
    )
    seen = {source.sha256 for entry in found.clips if entry.actor < 4 for source in entry.sources}
    assert set(description["seen"]) == seen
    with (folder / "report" / "predictions.csv").open() as stream:
        predictions = list(csv.DictReader(stream))
    assert [row["actor"] for row in predictions] == ["4"] * 4
    assert sum(float(predictions[0][f"p_{name}"]) for name in EMOTIONS) == pytest.approx(
        1, abs=1e-3
    )
    assert len((folder / "training" / "log.csv").read_text().splitlines()) == 4
    assert list((folder / "training" / "tensorboard").rglob("events.out.*"))


def test_a_loaded_model_answers_as_the_trained_one(trained, found):
    folder, judged = trained
    loaded = artefact.load(folder)
    rows = table.select_rows(found, SPLIT.test)
    probabilities = confidence.temper(evaluate.predict(loaded.model, rows), loaded.temperatures)
    assert loaded.temperatures.keys() == set(HEADS)
    assert evaluate.metrics(rows, probabilities).items() <= judged.items()
    assert (loaded.spec, loaded.split) == (found.spec, SPLIT)


def test_only_the_voice_learns_in_the_warm_start(found, tmp_path):
    rows = table.select_rows(found, SPLIT.train)
    known = reading.mfcc_statistics(rows)
    keras.utils.set_random_seed(0)
    network = model.build_fusion_cnn(found.spec, known.mean, known.variance)
    before = {variable.path: variable.numpy() for variable in network.weights}
    alone = stage.Stage("audio", ("audio",), tmp_path, tmp_path / "warm-start", rows, None, 1)
    voice = stage.compiled(network, SHORT, alone.heads)
    stage.learn(voice, alone, known, SHORT, {}, False, False)
    moved = {
        variable.path
        for variable in network.weights
        if (variable.numpy() != before[variable.path]).any()
    }
    heard = {variable.path for variable in voice.weights}
    assert moved <= heard < before.keys()
    assert {variable.path for variable in voice.trainable_variables} <= moved
    assert not any(path.startswith(("video", "fus")) for path in moved)
    with (alone.folder / "log.csv").open() as stream:
        (epoch,) = csv.DictReader(stream)
    assert float(epoch["audio_accuracy"]) >= 0 and "video_accuracy" not in epoch


def test_the_warm_start_goes_before_everything_else(trained):
    folder, _ = trained
    logs = {path.parent.name: path for path in (folder / "training").rglob("log.csv")}
    assert logs.keys() == {"training", "warm-start", "refit"}
    epochs = len(logs["warm-start"].read_text().splitlines()) - 1
    assert epochs == SHORT.warm_start_epochs == 2


def test_a_new_training_forgets_every_stage_of_the_one_before(trained, found, tmp_path):
    folder, _ = trained
    shutil.copytree(folder / "training", tmp_path / "training")

    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "compiled", interrupt)
        with pytest.raises(Interrupt):
            fit.fit(found, tmp_path, SPLIT, SHORT)
    assert not [*tmp_path.rglob("state.json")]


def test_temperatures_are_those_of_the_last_epoch_before_the_refit(trained, found):
    folder, judged = trained
    state = json.loads((folder / "training" / "state.json").read_text())
    training = table.select_rows(found, SPLIT.train)
    known = reading.mfcc_statistics(training)
    network = model.build_fusion_cnn(found.spec, known.mean, known.variance)
    with h5py.File(folder / "training" / state["weights"]) as file:
        for variable in network.weights:
            variable.assign(file[f"model/{variable.path}"][...])
    validation = table.select_rows(found, SPLIT.validation)
    voted = confidence.vote(evaluate.predict(network, validation), judged["votes"])
    answers = confidence.balance(voted, confidence.frequencies(training.label))
    having = {head: validation.having(head) for head in HEADS}
    expected = confidence.fit_temperatures(answers, validation.label, having)
    assert artefact.load(folder).temperatures == pytest.approx(expected, rel=1e-3)


def test_metrics_against_counts_by_hand(found):
    rows = table.select_rows(found, (3, 4))
    answers = np.zeros((8, 8), np.float32)
    answers[range(8), [0, 2, 2, 7, 0, 2, 4, 0]] = 1
    judged = evaluate.metrics(rows, dict.fromkeys(HEADS, answers))
    assert rows.label.tolist() == [0, 2, 4, 7] * 2
    assert judged["clips"] == 8 and judged["actors"] == [3, 4]
    fused = judged["fused"]
    assert fused["war"] == fused["uar"] == 6 / 8
    assert fused["recall"]["neutral"] == 1 and fused["recall"]["angry"] == 0.5
    assert fused["recall"]["calm"] is None
    assert fused["confusion"][7] == [1, 0, 0, 0, 0, 0, 0, 1]
    assert fused["actors"]["3"] == {"war": 0.75, "uar": 0.75, "clips": 4}


@pytest.mark.slow  # The normal suite kills a training and resumes it.
def test_an_interrupted_training_resumes_to_the_same_end(trained, found, tmp_path):
    folder, judged = trained

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.optimizer.iterations > 4:
                raise KeyboardInterrupt

    callbacks = stage.callbacks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "callbacks", lambda *given: [*callbacks(*given), Interrupt()])
        keras.utils.set_random_seed(SHORT.seed)
        with pytest.raises(KeyboardInterrupt):
            fit.fit(found, tmp_path, SPLIT, SHORT)
    assert not (tmp_path / "model.keras").exists()
    assert json.loads((tmp_path / "training" / "state.json").read_text())["epoch"] == 1
    keras.utils.set_random_seed(99)
    assert fit.fit(found, tmp_path, SPLIT, SHORT, go_on=True) == judged
    logs = [(place / "training" / "log.csv").read_text() for place in (folder, tmp_path)]
    assert logs[0] == logs[1]


def test_resuming_with_other_settings_is_refused(trained):
    folder, _ = trained
    with pytest.raises(InputError, match="seed 3 there, 4 now"):
        resume.read_state(folder / "training", {"seed": 4})
    assert resume.read_state(folder / "nowhere", {}) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 7}, "format 7"),
        ({"emotions": ["joy"]}, "joy"),
        ({"spec": {"columns": 44}}, "fields of this version's spec"),
        ({"spec_revision": 99}, "revision 99"),
    ],
)
def test_models_this_code_cannot_serve(trained, tmp_path, change, said):
    for name in ("model.keras", "model.json"):
        shutil.copy(trained[0] / name, tmp_path / name)
    description = json.loads((tmp_path / "model.json").read_text())
    if "spec_revision" in change:
        change = {"spec": description["spec"] | {"revision": change["spec_revision"]}}
    (tmp_path / "model.json").write_text(json.dumps(description | change))
    with pytest.raises(InputError, match=said):
        artefact.load(tmp_path)


def test_damaged_and_missing_models(trained, tmp_path):
    with pytest.raises(InputError, match="make train"):
        artefact.load(tmp_path)
    shutil.copy(trained[0] / "model.json", tmp_path)
    (tmp_path / "model.keras").write_bytes((trained[0] / "model.keras").read_bytes()[:5000])
    with pytest.raises(InputError, match="can serve"):
        artefact.load(tmp_path)


# Corpora that lack a modality


def corpus(modalities):
    return [
        (actor, emotion, modalities[actor])
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "surprised")
    ]


TINY = Settings(epochs=1, warm_start=1.0, refit=1.0, batch_size=8, seed=3)


@pytest.mark.parametrize(
    ("letter", "head", "said"),
    [("a", "audio", "face alone: no clip has video"), ("v", "video", "voice alone: no clip has")],
)
def test_a_corpus_of_one_modality_trains_tests_and_is_evaluated(
    tmp_path, small_spec, letter, head, said, capsys
):
    made = write_rows(tmp_path / "cache", small_spec, corpus(dict.fromkeys(range(5), letter)))
    folder = tmp_path / "model"
    fit.fit(made, folder, SPLIT, TINY, progress=False)
    judged = json.loads((folder / "report" / "metrics.json").read_text())
    other = {"audio": "video", "video": "audio"}[head]
    assert judged["left_out"] == [
        {
            "audio": "face alone: no training clip has video",
            "video": "voice alone: no training clip has audio",
        }[head]
    ]
    assert other not in judged and other not in judged["validation"]
    # The fused answer is that of the only modality.
    assert judged["fused"]["confusion"] == judged[head]["confusion"]
    loaded = artefact.load(folder)
    assert loaded.learned == (head,) and loaded.temperatures.keys() == {"fused", head}
    with (folder / "report" / "predictions.csv").open() as stream:
        for row in csv.DictReader(stream):
            assert row[other] == "" and row["fused"] == row[head]
    measured = json.loads((folder / "report" / "robustness.json").read_text())
    assert all(other not in heads for heads in measured["conditions"].values())
    assert not {"no sound", "no picture"} & measured["conditions"].keys()
    assert "left out" in (folder / "report" / "robustness.md").read_text()
    # A model that knows both modalities is judged on what this corpus has.
    rows = table.select_rows(made, (4,))
    answers = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[rows.label])
    by_both = evaluate.metrics(rows, answers)
    assert other not in by_both and by_both[head]["uar"] == 1
    assert said in evaluate.table(by_both) and said in by_both["left_out"][0]
    # The command does the same.
    command = ["evaluate", "--cache", str(made.folder), "--model", str(folder)]
    arguments = __main__.parser().parse_args([*command, "--actors", "4"])
    assert arguments.run(arguments) == 0
    assert judged["left_out"][0] in capsys.readouterr().out


def test_a_model_is_evaluated_on_a_cache_with_other_variants(tmp_path, small_spec, capsys):
    """Only clean rows are judged: they are the same. Any other difference is refused."""
    network = model.build_fusion_cnn(small_spec, MEAN, VARIANCE)
    ones = dict.fromkeys(HEADS, 1.0)
    artefact.save(artefact.Artefact(network, small_spec, SPLIT, {}, temperatures=ones), tmp_path)

    def run(name, **changes):
        spec = dataclasses.replace(small_spec, **changes)
        made = write_rows(tmp_path / name, spec, [(4, "sad", "av"), (4, "happy", "av")])
        places = ["--cache", str(made.folder), "--model", str(tmp_path)]
        arguments = __main__.parser().parse_args(["evaluate", *places])
        assert arguments.run(arguments) == 0
        report = tmp_path / f"report-{made.folder.name}-actors-4"
        return (report / "predictions.csv").read_text(), capsys.readouterr().out

    own, said = run("own")
    assert "variants" not in said
    for number, variants in enumerate([(), ("noise", "stretch")]):
        other, said = run(f"other-{number}", variants=variants)
        assert other == own
        assert said.startswith(
            f"the cache has other variants ({', '.join(variants) or 'none'}) than the model's "
            "(pitch): only clean rows are judged"
        )
    with pytest.raises(InputError, match="expected a cache of the model's spec"):
        run("foreign", variants=(), window_seconds=1.5)


@pytest.mark.slow
def test_a_mixed_corpus_judges_each_head_by_its_own_clips(tmp_path, small_spec):
    made = write_rows(tmp_path / "cache", small_spec, corpus({1: "av", 2: "a", 3: "v", 4: "av"}))
    judged = fit.fit(made, tmp_path / "model", Split((1, 2), (3,), (4,)), TINY, progress=False)
    assert judged["left_out"] == [] and set(HEADS) <= judged.keys()
    assert judged["validation"].keys() == {"fused", "video"}
    # Validation tells nothing of both together.
    assert judged["votes"] == {"fused": 0.0, "audio": 1.0, "video": confidence.FACE_VOTE}
    assert artefact.load(tmp_path / "model").temperatures.keys() == {"fused", "video"}


def test_training_and_validation_without_a_common_modality_are_refused(tmp_path, small_spec):
    made = write_rows(tmp_path / "cache", small_spec, corpus({1: "a", 2: "a", 3: "v", 4: "av"}))
    with pytest.raises(InputError, match="validation clips with audio, as the training clips"):
        fit.fit(made, tmp_path / "model", SPLIT, TINY, progress=False)


def test_metrics_of_a_head_are_those_of_the_rows_with_its_modality(tmp_path, small_spec):
    clips = [(4, "sad", "av"), (4, "sad", "a"), (4, "happy", "v"), (3, "happy", "v")]
    rows = table.select_rows(write_rows(tmp_path, small_spec, clips), (3, 4))
    right, wrong = np.eye(8, dtype=np.float32)[[rows.label, (rows.label + 1) % 8]]
    answers = {
        "fused": np.where(rows.actor[:, None] == 3, wrong, right),
        "audio": np.where(rows.has_audio[:, None], right, wrong),
        "video": np.where(rows.has_video[:, None], wrong, right),
    }
    judged = evaluate.metrics(rows, answers)
    assert judged["fused"]["war"] == 3 / 4
    assert judged["audio"]["war"] == 1 and judged["audio"]["actors"].keys() == {"4"}
    assert judged["video"]["war"] == 0 and np.sum(judged["video"]["confusion"]) == 3


# Imports


def test_training_needs_no_part_of_extraction():
    """Imports go one way: training reads what a cache holds, and never makes it."""
    forbidden = ("pipeline.features", "pipeline.media", "pipeline.cache.build")
    for path in (Path(__file__).parents[1] / "train").glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in names if name.startswith(forbidden)], path
    code = "import sys, train.__main__; print(*[n for n in ('av', 'librosa') if n in sys.modules])"
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    assert run.stdout.split() == []
