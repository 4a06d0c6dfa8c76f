"""Tiny synthetic media: small coloured pictures and tones, so that every value is known."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.backends import Workers
from pipeline.cache import build, facts, index, plan, task
from pipeline.cache import format as shard_format
from pipeline.corpora import scan
from pipeline.corpora.sources import Source
from pipeline.media import encode
from pipeline.spec import EMOTIONS, FeatureSpec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow takes a number of threads only before its first operation, and a test that starts a
# training is seldom the first to use it.
os.environ.pop("OMP_NUM_THREADS", None)

RATE = 22_050
FRAME_RATE = 10


def tone(seconds, hertz=440.0, rate=RATE, level=0.5):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def write_video(path, seconds=1.6, size=(48, 64), frame_rate=FRAME_RATE, sound=None, rate=RATE):
    """A video whose picture number n is grey of level 20 + 6 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = (
        (n / frame_rate, np.full((*size, 3), 20 + 6 * n % 230, np.uint8))
        for n in range(round(seconds * frame_rate))
    )
    encode.write_mp4(path, frames, sound, rate, crf=10)
    return path


def write_wav(path, waveform, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate)
    return path


def write_take(root, name, seconds=1.6, hertz=440.0):
    """A video with its sound, and the wav of the same take, in the user's layout."""
    fields = name.split("-")
    folder = f"Actor_{fields[6]}"
    quiet = np.zeros(round(0.3 * RATE), np.float32)
    sound = np.concatenate([quiet, tone(seconds - 0.6, hertz), quiet])
    write_wav(root / "audios" / folder / f"03-{'-'.join(fields[1:])}.wav", sound)
    return write_video(root / "videos" / folder / f"{name}.mp4", seconds, sound=sound)


TALLIES: dict[str, list[int]] = {}


def tally(what, tried, survived):
    """Count what a test tried and what survived; the table comes after the tests."""
    counts = TALLIES.setdefault(what, [0, 0])
    counts[0] += tried
    counts[1] += survived


def pytest_sessionfinish(session):
    """Hand the counts of a worker process to the process that prints them."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tallies"] = TALLIES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    for what, counts in getattr(node, "workeroutput", {}).get("tallies", {}).items():
        tally(what, *counts)


def pytest_terminal_summary(terminalreporter):
    if not TALLIES:
        return
    width = max(map(len, TALLIES))
    terminalreporter.write_line(f"\n{'what':{width}}  {'tried':>7}  {'survived':>8}")
    for what, (tried, survived) in TALLIES.items():
        terminalreporter.write_line(f"{what:{width}}  {tried:7,}  {survived:8,}")


@pytest.fixture(scope="session")
def raw(tmp_path_factory) -> Path:
    """Four actors with four emotions each; the tone tells the emotion."""
    root = tmp_path_factory.mktemp("raw")
    for actor in (1, 2, 3, 4):
        for emotion in (1, 3, 5, 8):
            write_take(
                root, f"01-01-{emotion:02d}-01-01-01-{actor:02d}", hertz=150 * emotion + 9 * actor
            )
    return root


# Caches

TINY = FeatureSpec(window_seconds=1.0, variants=("pitch",), frame_count=2, frame_size_px=16)
"""For tests of what becomes of rows, whatever is in them."""


def make(raw, cache, spec=TINY, workers=None, damaged=(), **options):
    """Fill a cache; in this process, but for the child that reads media."""
    chosen = build.Options(**{"progress": False, **options})
    return build.build(scan.scan(raw), cache, spec, workers or Workers(1), chosen, damaged)


def hashes(folder, pattern="*.h5"):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob(pattern))
    }


def shards_of(folder, actor):
    """Names of an actor's shards, the oldest generation first."""
    names = [path.name for path in folder.glob(f"actor-{actor:02d}-*.h5")]
    return sorted(names, key=plan.split_name)


def manifest_of(folder, actor):
    """What the manifest of an actor's only shard says."""
    (name,) = shards_of(folder, actor)
    return json.loads(facts.manifest_path(folder, name).read_text())


def write_cache(folder, spec=TINY, actors=(1, 2), emotions=EMOTIONS):
    """A cache of made-up rows of some actors, each with the same emotions."""
    assert folder.name == spec.digest
    clips = [(actor, emotion, "av") for actor in actors for emotion in emotions]
    write_rows(folder.parent, spec, clips)
    return folder


def write_rows(root, spec, clips, size=16, change=lambda number, clip: clip):
    """A cache of made-up rows, without raw files; whatever the sizes of its shards, they are alike.

    Parameters
    ----------
    clips
        Actor, emotion name and modalities (some of "av") of each.
    size
        Most clips of a shard.
    change
        Makes of number and clip what is written.
    """
    folder = root / spec.digest
    folder.mkdir(parents=True)
    by_actor, shards = {}, []
    for number, (actor, emotion, modalities) in enumerate(clips):
        made = made_up_clip(spec, number, actor, emotion, modalities)
        by_actor.setdefault(actor, []).append(change(number, made))
    for actor, held in sorted(by_actor.items()):
        held.sort(key=lambda clip: clip.clip)
        for first in range(0, len(held), size):
            file = f"actor-{actor:02d}-{first + 16**9:010x}.h5"
            part = held[first : first + size]
            pairs = [clip.to_write(actor, file) for clip in part]
            shard_format.write_shard(folder, file, spec, actor, len(part), pairs, {})
            shards.append(facts.read_manifest(facts.manifest_path(folder, file), spec))
    entries = [entry for shard in shards for entry in shard.clips]
    index.write_index(index.index_of(entries, shards, {}, folder, spec, ""))
    return index.read_index(folder)


@dataclass(frozen=True)
class MadeUp:
    """A clip that nobody recorded."""

    clip: str
    emotion: str
    sources: tuple
    rows: tuple = ()
    face_found: bool = False
    has_audio: bool = False
    has_video: bool = False
    reason: str | None = None
    transient: bool = False

    def to_write(self, actor, file):
        """What goes to a shard: entry and rows."""
        known = {name: value for name, value in vars(self).items() if name != "rows"}
        return facts.ClipEntry(actor=actor, shard=file, **known), self.rows


def made_up_clip(spec, number, actor, emotion, modalities):
    """Rows of one clip; its emotion is the loudest coefficient and the brightest corner."""
    label, audio, video = EMOTIONS.index(emotion), "a" in modalities, "v" in modalities
    clip = f"01-{label + 1:02d}-01-{number // 100:02d}-{number % 100:02d}-{actor:02d}"
    rows = []
    for place in range(len(spec.row_names)):
        random = np.random.default_rng((number, place))
        mfcc = np.zeros(spec.mfcc_shape, np.float32)
        frames = np.zeros(spec.frames_shape, np.uint8)
        if audio:
            mfcc[:] = random.normal(size=mfcc.shape)
            mfcc[label] += 9
        if video:
            frames[:] = random.integers(1, 60, frames.shape)
            side = spec.frame_size_px // 4
            frames[:, label // 4 * side :, label % 4 * side : (label % 4 + 1) * side] += 150
        rows.append(shard_format.CachedRow(mfcc, frames))
    content = Source(f"{clip}.mp4", number, f"{number:064x}", 0)
    return MadeUp(clip, emotion, (content,), tuple(rows), video, audio, video)


def flip(path, place, mask=0xFF):
    """Change a byte of a file where it is."""
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ mask]))


@pytest.fixture(scope="session")
def spec() -> FeatureSpec:
    """Full shapes, for what is trained."""
    return FeatureSpec(window_seconds=1.0, variants=("pitch",))


@pytest.fixture(scope="session")
def cache(raw, spec, tmp_path_factory) -> Path:
    """The cache of ``raw`` by ``spec``; tests only read it."""
    folder = tmp_path_factory.mktemp("cache")
    make(raw, folder, spec)
    return folder


@pytest.fixture(scope="session")
def small_spec() -> FeatureSpec:
    """Small frames, for tests that are not about their content."""
    return FeatureSpec(window_seconds=1.0, variants=("pitch",), frame_count=8, frame_size_px=32)


@pytest.fixture(scope="session")
def small_cache(small_spec, tmp_path_factory) -> index.Index:
    """Made-up rows of four actors with four emotions each, two shards an actor."""
    clips = [
        (actor, emotion, "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "surprised")
    ]
    return write_rows(tmp_path_factory.mktemp("small"), small_spec, clips, size=3)


@pytest.fixture(scope="session")
def tiny(raw, tmp_path_factory) -> Path:
    """The cache of ``raw`` by ``TINY``; tests only read it."""
    folder = tmp_path_factory.mktemp("tiny")
    make(raw, folder)
    return folder


@pytest.fixture
def own_raw(raw, tmp_path):
    """A copy of ``raw`` that a test may change, with the time stamps of the original."""
    shutil.copytree(raw, tmp_path / "raw")
    return tmp_path / "raw"


@pytest.fixture
def made(tiny, tmp_path):
    """A finished cache of ``raw``, or of ``own_raw``, that a test may change."""
    shutil.copytree(tiny, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def extracted(monkeypatch):
    """Ids of the clips that are extracted in this process' child."""
    ids, extract = [], task.extract

    def note(clip, work):
        ids.append(clip.id)
        return extract(clip, work)

    monkeypatch.setattr(task, "extract", note)
    return ids


# Models


def write_model(folder, spec, onnx=True, **described):
    """A small untrained network with the inputs and outputs of a trained one, as training saves it.

    Parameters
    ----------
    onnx
        Whether to write ``model.onnx``, too.
    described
        Further parts of ``model.json``.
    """
    import keras

    from train import export

    keras.utils.set_random_seed(0)
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    heard = keras.ops.mean(mfcc, axis=(2, 3)) / 50.0
    seen = keras.ops.mean(keras.ops.cast(frames, "float32") / 255.0, axis=(1, 4))
    seen = keras.layers.Flatten()(keras.ops.average_pool(seen[..., np.newaxis], 4, 4))
    logits = {
        "audio": keras.layers.Dense(len(EMOTIONS))(heard),
        "video": keras.layers.Dense(len(EMOTIONS))(seen - keras.ops.mean(seen, 1, keepdims=True)),
    }
    logits["fused"] = logits["audio"] + logits["video"]
    outputs = {name: keras.layers.Softmax(name=name)(value) for name, value in logits.items()}
    level = keras.ops.mean(keras.ops.abs(heard), axis=1, keepdims=True)
    outputs["audio_distance"] = keras.layers.Rescaling(1.0, name="audio_distance")(level)
    outputs["video_distance"] = keras.layers.Rescaling(0.0, name="video_distance")(level)
    network = keras.Model({"mfcc": mfcc, "frames": frames}, outputs)
    folder.mkdir(parents=True, exist_ok=True)
    network.save(folder / "model.keras")
    content = {
        "format_version": 2,
        "spec": json.loads(spec.to_json()),
        "spec_digest": spec.digest,
        "emotions": EMOTIONS,
        "actors": {"train": [1], "validation": [2], "test": [3]},
        "settings": {},
        "metrics": {},
        "learned": ["fused", "audio", "video"],
        "cache": "",
        "seen": [],
    }
    (folder / "model.json").write_text(json.dumps(content | described))
    if onnx:
        export.write_onnx(network, folder)
    return network
