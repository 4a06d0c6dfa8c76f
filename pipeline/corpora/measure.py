"""What raw clips are like: the facts that an audit decides on, measured clip by clip in workers."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import joblib
import numpy as np
from numpy.typing import NDArray

from pipeline.console import bar as progress_bar
from pipeline.corpora import sources
from pipeline.corpora.catalogue import Catalog, Clip
from pipeline.errors import MediaError, leave_interrupts_to_parent
from pipeline.features import extract, mfcc
from pipeline.media import audio, video
from pipeline.spec import FeatureSpec

FULL_SCALE = 0.999
"""Level from which a sample counts as clipped, 1 being full scale."""

UNEVEN_PART = 0.25
UNEVEN_SECONDS = 0.002
"""A gap between pictures that is off by more than both is no rounding of time stamps."""


@dataclass(frozen=True)
class Facts:
    """What was measured of a clip.

    Parameters
    ----------
    clip, actor
        Identity and person.
    files
        SHA-256 of each raw file, by path below the raw folder.
    problems
        Why something of it could not be read.
    sound_seconds, video_seconds
        Lengths; None where unreadable.
    sound_digest
        SHA-256 of the samples, mixed down and rounded to 16 bits; None for silence.
    peak
        Largest sample, 1 being full scale.
    clipped_part
        Part of the samples at full scale.
    frame_rate
        Pictures per second, by the usual gap between two.
    uneven_gaps
        Number of gaps that are not the usual one.
    face_found
        Whether the window that is cached shows a face; None where it could not be seen.
    """

    clip: str
    actor: int
    files: dict[str, str]
    problems: tuple[str, ...] = ()
    sound_seconds: float | None = None
    video_seconds: float | None = None
    sound_digest: str | None = None
    peak: float | None = None
    clipped_part: float = 0.0
    frame_rate: float | None = None
    uneven_gaps: int = 0
    face_found: bool | None = None


def measure(clip: Clip, root: Path, spec: FeatureSpec) -> Facts:
    """Measure a clip in a worker; a file that cannot be read is a fact, not an error."""
    cv2.setNumThreads(1)
    files: dict[str, str] = {}
    problems: list[str] = []
    found: dict[str, object] = {}
    for path in clip.sources:
        try:
            files[sources.relative_path(path, root)] = sources.file_sha256(path)
        except OSError as error:
            problems.append(f"expected a readable file at {path}, got: {error.strerror}")
    readers = (
        lambda: found.update(read_sound_facts(clip.sound)),
        lambda: found.update(picture_facts(video.picture_times(clip.video))),
        lambda: found.update(face_found=shows_face(clip, spec)),
    )
    for read in readers:
        try:
            read()
        except MediaError as error:
            problems.append(str(error))
    return Facts(clip.id, clip.actor, files, tuple(dict.fromkeys(problems)), **found)


def read_sound_facts(path: Path) -> dict[str, object]:
    """Facts of a recording's sound, which is read block by block.

    Raises
    ------
    MediaError
        If there is no usable sound.
    """
    with audio.opened_sound(path) as (rate, blocks):
        digest, peak, mono_peak, clipped, size, samples = hashlib.sha256(), 0.0, 0.0, 0, 0, 0
        digest.update(f"{rate} ".encode())
        for block in blocks:
            mono = audio.mean_of_channels(np.nan_to_num(block))
            digest.update(np.rint(np.clip(mono, -1, 1) * 32767).astype("<i2").tobytes())
            mono_peak = max(mono_peak, float(np.abs(mono).max(initial=0.0)))
            level = np.abs(block)
            peak = float(np.maximum(peak, level.max(initial=0.0)))
            clipped += int((level >= FULL_SCALE).sum())
            size, samples = size + block.size, samples + block.shape[1]
    return {
        "sound_seconds": samples / rate,
        "sound_digest": None if mono_peak < mfcc.SILENCE_PEAK else digest.hexdigest(),
        "peak": peak,
        "clipped_part": clipped / size if size else 0.0,
    }


def picture_facts(times_seconds: NDArray[np.float64]) -> dict[str, object]:
    """Facts of a video from the times of its pictures."""
    gaps = np.diff(times_seconds)
    if not len(gaps):
        return {"video_seconds": 0.0}
    usual = float(np.median(gaps))
    # Median of rounded time stamps is rounded too; the mean of the even gaps is not.
    off = np.abs(gaps - usual) > max(UNEVEN_SECONDS, UNEVEN_PART * usual)
    mean = float(gaps[~off].mean())
    return {
        "video_seconds": float(times_seconds[-1] - times_seconds[0] + mean),
        "frame_rate": 1 / mean if mean else None,
        "uneven_gaps": int(off.sum()),
    }


def shows_face(clip: Clip, spec: FeatureSpec) -> bool:
    """Whether the window that would be cached shows a face."""
    waveform = audio.read_waveform(clip.sound, spec.sample_rate_hz)
    span = extract.clip_span(waveform, spec)
    (window,) = extract.read_windows(waveform, clip.video, [span], spec)
    return extract.find_face(window, spec) is not None


def measure_all(
    catalog: Catalog, spec: FeatureSpec, jobs: int = -1, progress: bool = True
) -> list[Facts]:
    """Measure every clip in worker processes; sorted by actor and clip."""
    parallel = joblib.Parallel(
        n_jobs=jobs, return_as="generator_unordered", initializer=leave_interrupts_to_parent
    )
    works = (joblib.delayed(measure)(clip, catalog.root, spec) for clip in catalog.clips)
    with (
        progress_bar(
            total=len(catalog.clips), desc="audit", unit="clip", disable=not progress
        ) as bar,
        contextlib.closing(parallel(works)) as results,
    ):
        facts = []
        for fact in results:
            facts.append(fact)
            bar.update()
    return sorted(facts, key=lambda fact: (fact.actor, fact.clip))
