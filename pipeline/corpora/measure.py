"""The facts that an audit decides on, measured clip by clip in child processes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.corpora import fingerprint, sources
from pipeline.corpora.clip import Clip
from pipeline.corpora.facts import Facts, facts_to_json
from pipeline.errors import MediaError
from pipeline.features import extract
from pipeline.media import audio, container, video
from pipeline.spec import FeatureSpec

FULL_SCALE = 0.999
"""Level from which a sample counts as clipped, 1 being full scale."""

UNEVEN_PART = 0.25
UNEVEN_SECONDS = 0.002
"""A gap between frames that is off by more than both is no rounding of time stamps."""


def measure(clip: Clip, root: Path, spec: FeatureSpec) -> Facts:
    """Measure a clip in a worker; a file that cannot be read is a fact, not an error."""
    cv2.setNumThreads(1)
    files: dict[str, str] = {}
    problems: list[str] = []
    found: dict[str, Any] = {}
    for path in clip.sources:
        try:
            files[sources.relative_path(path, root)] = sources.file_sha256(path)
        except OSError as error:
            problems.append(f"expected a readable file at {path}, got: {error.strerror}")

    def attempt(read: Callable[[], dict[str, Any]]) -> None:
        try:
            found.update(read())
        except MediaError as error:
            problems.append(str(error))

    shown = clip.video
    if shown is not None:
        attempt(lambda: {"video_has_audio": container.probe(shown).has_audio})
    has_audio = clip.audio is not None or found.get("video_has_audio") is not False
    if has_audio:
        attempt(lambda: audio_facts(clip.audio_source))
    if shown is not None:
        attempt(lambda: frame_facts(video.presentation_times(shown)))
        attempt(lambda: {"face_found": shows_face(clip, spec)})
    texts = dict.fromkeys(sources.printable(problem) for problem in problems)
    return Facts(
        clip.id,
        clip.actor,
        files,
        tuple(texts),
        has_audio=has_audio,
        has_video=shown is not None,
        **found,
    )


def measure_json(clip: Clip, root: Path, spec: FeatureSpec) -> dict[str, object]:
    """Measure a clip and return what JSON can hold; see :func:`measure`."""
    return facts_to_json(measure(clip, root, spec))


def audio_facts(path: Path) -> dict[str, object]:
    """Facts of a recording's audio, which is read block by block.

    Raises
    ------
    MediaError
        If there is no usable audio.
    """
    with audio.opened_audio(path) as (rate, blocks):
        level = Level(rate)
        heard, wanted = bytearray(), round(fingerprint.MOST_SECONDS * fingerprint.RATE_HZ) * 4
        mono = (np.clip(level.take(block), -1, 1) for block in blocks)
        for block in audio.resampled(mono, rate, fingerprint.RATE_HZ, "soxr_hq"):
            if len(heard) < wanted:
                heard += block.astype(np.float32).data
        words = fingerprint.fingerprint(np.frombuffer(heard[:wanted], np.float32))
    return level.facts() | {"fingerprint": fingerprint.to_text(words)}


class Level:
    """Length, level and digest of audio that comes block by block."""

    def __init__(self, rate: int) -> None:
        self.rate, self.digest = rate, hashlib.sha256(f"{rate} ".encode())
        self.peak = self.mono_peak = 0.0
        self.clipped = self.size = self.samples = 0

    def take(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take a block, shape (channels, samples), into account; return it mixed down."""
        mono = audio.mean_of_channels(np.nan_to_num(block))
        self.digest.update(np.rint(np.clip(mono, -1, 1) * 32767).astype("<i2").tobytes())
        self.mono_peak = max(self.mono_peak, float(np.abs(mono).max(initial=0.0)))
        level = np.abs(block)
        self.peak = float(np.maximum(self.peak, level.max(initial=0.0)))
        self.clipped += int((level >= FULL_SCALE).sum())
        self.size, self.samples = self.size + block.size, self.samples + block.shape[1]
        return mono

    def facts(self) -> dict[str, object]:
        """Facts of what was taken."""
        silent = self.mono_peak < FeatureSpec().silence_peak
        return {
            "audio_seconds": self.samples / self.rate,
            "audio_digest": None if silent else self.digest.hexdigest(),
            "peak": self.peak if math.isfinite(self.peak) else None,
            "clipped_part": self.clipped / self.size if self.size else 0.0,
        }


def frame_facts(times_seconds: NDArray[np.float64]) -> dict[str, object]:
    """Facts of a video from the times of its frames, ascending."""
    gaps = np.diff(times_seconds)
    if not len(gaps):
        return {"video_seconds": 0.0}
    # One of the gaps, so that at least one is usual: the mean of two may be neither.
    usual = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    # Rounded time stamps have a rounded median; the mean of the even gaps is not rounded.
    off = np.abs(gaps - usual) > max(UNEVEN_SECONDS, UNEVEN_PART * usual)
    mean = float(gaps[~off].mean())
    return {
        "video_seconds": float(times_seconds[-1] - times_seconds[0] + mean),
        "frame_rate": 1 / mean if mean else None,
        "uneven_gaps": int(off.sum()),
    }


def shows_face(clip: Clip, spec: FeatureSpec) -> bool:
    """Whether the window that would be cached shows a face."""
    waveform = extract.read_clip_waveform(clip, spec)
    span = extract.clip_span(waveform, spec, extract.deciding_seconds(clip, waveform, spec))
    (window,) = extract.read_windows(waveform, clip.video, [span], spec)
    return extract.find_face(window, spec) is not None
