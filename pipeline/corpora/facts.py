"""What an audit knows of each clip; the measuring itself is done in child processes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from pipeline import console, guard, parallel
from pipeline.backends import Workers
from pipeline.corpora import sources
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.corpora.measured import Store, key_of
from pipeline.spec import FeatureSpec

CLIP_TIMEOUT_SECONDS = 120.0

CHUNK_CLIPS = 512
"""What is measured before it is kept: an interruption costs no more than this."""


@dataclass(frozen=True)
class Facts:
    """What was measured of a clip. Every number is finite.

    Parameters
    ----------
    clip, actor
        Identity and actor.
    files
        SHA-256 of each raw file, by path below the raw folder.
    problems
        Why something of it could not be read.
    audio_seconds, video_seconds
        Lengths; None where it is absent or unreadable.
    audio_digest
        SHA-256 of the samples, mixed down and rounded to 16 bits; None for silence.
    peak
        Largest sample, 1 being full scale; None without audio, or where it is not finite.
    clipped_part
        Part of the samples at full scale.
    frame_rate
        Frames per second, by the usual gap between two.
    uneven_gaps
        Number of gaps that are not the usual one.
    face_found
        Whether the window that is cached shows a face; None without frames.
    has_audio, has_video
        Whether the clip consists of each, readable or not.
    video_has_audio
        Whether its video file has an audio track; None without a video, or if it is unreadable.
    fingerprint
        See :mod:`pipeline.corpora.fingerprint`; empty without audio.
    """

    clip: str
    actor: int
    files: dict[str, str]
    problems: tuple[str, ...] = ()
    audio_seconds: float | None = None
    video_seconds: float | None = None
    audio_digest: str | None = None
    peak: float | None = None
    clipped_part: float = 0.0
    frame_rate: float | None = None
    uneven_gaps: int = 0
    face_found: bool | None = None
    has_audio: bool = True
    has_video: bool = True
    video_has_audio: bool | None = None
    fingerprint: str = ""


def facts_to_json(facts: Facts) -> dict[str, object]:
    """Return facts as values that JSON holds: it knows no NaN and no infinity, so None stands."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in dataclasses.asdict(facts).items()
    }


def facts_from_json(values: dict) -> Facts:
    """Make facts of what :func:`facts_to_json` returned, read back from JSON.

    Raises
    ------
    TypeError
        If the fields are not those of :class:`Facts`.
    """
    return Facts(**{**values, "problems": tuple(values.get("problems", ()))})


def measure_all(
    catalogue: Catalogue,
    spec: FeatureSpec,
    workers: Workers,
    beside: Path,
    store: Store | None = None,
    clip_timeout_seconds: float = CLIP_TIMEOUT_SECONDS,
    progress: bool = True,
) -> list[Facts]:
    """Measure every clip; one that takes its process down, or too long, has that as its problem.

    Parameters
    ----------
    catalogue, spec
        What is measured, and the window that would be cached.
    workers
        Who measures.
    beside
        Folder for results on their way, which every worker can write to.
    store
        Facts of an earlier run: clips whose files are as they were are not measured again. What
        may be otherwise next time, such as a timeout, is not kept. None keeps nothing.
    clip_timeout_seconds
        Time a clip may take; 0 for no limit.
    progress
        Whether to show a bar.

    Returns
    -------
    list of Facts
        In the order of the catalogue.
    """
    keys = {}
    if store is not None:
        keys = {clip.id: key_of(clip, catalogue.root, spec) for clip in catalogue.clips}
    known = store.read(keys) if store is not None else {}
    missing = [clip for clip in catalogue.clips if clip.id not in known]
    total = len(catalogue.clips)
    with console.bar(total=total, desc="audit", unit="clip", disable=not progress) as bar:
        bar.update(len(known))
        for first in range(0, len(missing), CHUNK_CLIPS):
            chunk = missing[first : first + CHUNK_CLIPS]
            items = [(clip, catalogue.root, spec, clip_timeout_seconds) for clip in chunk]
            answers = parallel.collect(measure_guarded, items, workers, bar, beside)
            measured = {clip.id: facts for clip, (facts, _) in zip(chunk, answers, strict=True)}
            known |= measured
            lasting = [
                (clip.id, key, measured[clip.id])
                for clip, (_, lasts) in zip(chunk, answers, strict=True)
                if lasts and (key := keys.get(clip.id))
            ]
            if store is not None and lasting:
                store.write(lasting)
    return [facts_from_json(known[clip.id]) for clip in catalogue.clips]


def measure_guarded(item: tuple[Clip, Path, FeatureSpec, float]) -> tuple[dict[str, object], bool]:
    """Measure one clip in a child process that may die: a task.

    Returns its facts, and whether they last: those of a file that could not be opened, or took too
    long, may be others next time.
    """
    clip, root, spec, limit_seconds = item
    target = "pipeline.corpora.measure:measure_json"
    answer = guard.call(target, clip, root, spec, limit_seconds=limit_seconds)
    if isinstance(answer, guard.Failure):
        facts = Facts(clip.id, clip.actor, {}, (sources.printable(answer.reason),))
        return facts_to_json(facts), not answer.transient
    return answer, len(answer["files"]) == len(clip.sources)
