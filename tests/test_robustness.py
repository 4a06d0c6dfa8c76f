"""Degraded rows, and noise that is added to the very files that the cache was made from."""

import json
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
import soundfile
from conftest import TINY

from pipeline.cache import index
from pipeline.features import mfcc
from train.data import reader, rows
from train.evaluation import robustness
from train.heads import HEADS, LEFT_OUT


@pytest.fixture(scope="module")
def cached(tiny):
    return index.find_cache(tiny)


def read(table):
    return reader.RowReader(table).read(np.arange(len(table)))


def test_without_noise_the_image_is_the_cached_one(cached, raw):
    table = rows.select_rows(cached, (1, 4))
    given = read(table)["mfcc"]
    by_clip = {entry.clip: entry for entry in cached.clips}
    for clip, image in zip(table.clip, given, strict=True):
        [made] = robustness.noisy_mfcc(raw, by_clip[clip], [None], TINY)
        assert np.array_equal(made, image)


@pytest.mark.parametrize("level_db", robustness.NOISE_LEVELS_DB)
def test_noise_is_as_loud_as_it_says(cached, raw, level_db):
    """The oracle adds noise of its own to the window and takes librosa's MFCC."""
    entry = cached.clips[0]
    [made] = robustness.noisy_mfcc(raw, entry, [level_db], TINY)
    waveform, _ = soundfile.read(raw / entry.sources[-1].path, dtype="float32")
    window = waveform[mfcc.window_start(waveform, TINY) :][: TINY.window_samples]
    power = np.mean(np.square(window)) / 10 ** (level_db / 10)
    noise = np.sqrt(power) * np.random.default_rng(7).standard_normal(len(window))
    theirs = librosa.feature.mfcc(
        y=window + noise.astype(np.float32),
        sr=TINY.sample_rate_hz,
        n_mfcc=40,
        hop_length=TINY.hop_samples,
        fmax=TINY.fmax_hz,
        htk=True,
    )[:, : made.shape[1]]
    # Nearly as alike as two noises of the same level are; a decibel of level is sqrt(128).
    assert abs(made[0].mean() - theirs[0].mean()) < np.sqrt(128)
    assert np.corrcoef(made[1:].mean(axis=(1, 2)), theirs[1:].mean(axis=1))[0, 1] > 0.95
    again, louder = robustness.noisy_mfcc(raw, entry, [level_db, level_db - 10], TINY)
    assert np.array_equal(again, made) and not np.array_equal(louder, made)


def test_files_that_are_gone_or_changed_are_named(cached, own_raw):
    moved = SimpleNamespace(root=str(own_raw))
    assert robustness.changed_files(moved, cached.clips) == []
    first, second = (robustness.audio_path(own_raw, entry) for entry in cached.clips[:2])
    first.unlink()
    second.write_bytes(second.read_bytes() + b"x")
    assert robustness.changed_files(moved, cached.clips) == [first, second]


def test_half_of_the_frames_are_black():
    frames = np.full((6, 20, 4, 4, 3), 9, np.uint8)
    made = robustness.blacken_half({"frames": frames, "mfcc": 1}, np.arange(6))
    black = (made["frames"] == 0).all(axis=(2, 3, 4))
    assert (black.sum(axis=1) == 10).all() and (made["frames"][~black] == 9).all()
    assert (frames == 9).all() and len({tuple(row) for row in black}) > 1 and made["mfcc"] == 1
    part = robustness.blacken_half({"frames": frames[4:]}, np.arange(4, 6))["frames"]
    assert np.array_equal(part, made["frames"][4:])


class Model:
    """Made up: each head is right while its own input is what the cache holds."""

    def __init__(self, table):
        self.input = dict.fromkeys(("mfcc", "frames"))
        given = read(table)
        self.label = table.label
        self.known = {
            name: [tensor.tobytes() for tensor in tensors] for name, tensors in given.items()
        }

    def predict_on_batch(self, batch):
        whole = {
            name: np.array([tensor.tobytes() in self.known[name] for tensor in tensors])
            for name, tensors in batch.items()
        }
        # Batches come in order, each once for every condition.
        first = next(
            place
            for place in range(len(self.label))
            if any(
                batch[name][0].tobytes() == self.known[name][place] for name in ("mfcc", "frames")
            )
        )
        label = self.label[first : first + len(batch["mfcc"])]
        right = {
            "audio": whole["mfcc"],
            "video": whole["frames"],
            "fused": whole["mfcc"] | whole["frames"],
        }
        return {head: np.eye(8)[np.where(right[head], label, (label + 1) % 8)] for head in HEADS}


def uar_of(measured):
    return {
        name: [heads[head]["uar"] for head in HEADS if head in heads]
        for name, heads in measured["conditions"].items()
    }


def test_the_table_shows_what_each_condition_leaves(cached, tmp_path):
    table = rows.select_rows(cached, (3, 4))
    measured = robustness.measure(Model(table), table, cached)
    assert uar_of(measured) == {
        "untouched": [1, 1, 1],
        "no audio": [1, 0, 1],
        "no video": [1, 1, 0],
        "half of the frames black": [1, 1, 0],
        **{f"white noise at {level} dB": [1, 0, 1] for level in (20, 10, 0)},
    }
    assert measured["clips"] == 8 and measured["left_out"] == []
    robustness.write(tmp_path, measured)
    assert json.loads((tmp_path / robustness.JSON_NAME).read_text()) == measured
    text = (tmp_path / robustness.TABLE_NAME).read_text()
    assert "| no audio | 100.0 | 100.0 | 0.0 | 100.0 |" in text


def test_without_raw_files_the_noise_is_left_out(small_cache):
    table = rows.select_rows(small_cache, (3, 4))
    measured = robustness.measure(Model(table), table, small_cache)
    assert list(uar_of(measured)) == [
        "untouched",
        "no audio",
        "no video",
        "half of the frames black",
    ]
    assert "8 of 8 raw files" in robustness.table(measured).splitlines()[-1]


def test_only_what_is_there_is_degraded(small_cache):
    table = rows.select_rows(small_cache, (3,))
    table.has_video[:] = False
    listed, left_out = robustness.conditions(table, small_cache, HEADS)
    assert list(listed) == ["untouched"] and left_out[0] == LEFT_OUT["video"]
    assert robustness.conditions(table, small_cache, ("fused",))[1][0].startswith("audio")
