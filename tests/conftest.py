"""Tiny synthetic media: small coloured pictures and tones, so that every value is known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.cache import build
from pipeline.corpora import catalogue
from pipeline.media import encode
from pipeline.spec import FeatureSpec

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


@pytest.fixture(scope="session")
def spec() -> FeatureSpec:
    return FeatureSpec(window_seconds=1.0, variants=("pitch",))


@pytest.fixture(scope="session")
def cache(raw, spec, tmp_path_factory) -> Path:
    """The cache of ``raw``; tests only read it."""
    folder = tmp_path_factory.mktemp("cache")
    build.build(catalogue.scan(raw), folder, spec, jobs=1, progress=False)
    return folder


@pytest.fixture
def extracted(monkeypatch):
    """Ids of the clips that are extracted."""
    ids, extract = [], build.extract
    monkeypatch.setattr(
        build,
        "extract",
        lambda clip, root, spec: (ids.append(clip.id), extract(clip, root, spec))[1],
    )
    return ids
