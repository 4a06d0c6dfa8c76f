"""Raw clips to a cache: decide what is missing, extract it in parallel, write shard by shard.

Workers extract clips and return rows; only the parent writes. Results arrive in the order of the
plan, so one shard is open at a time and its bytes do not depend on the number of jobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tqdm

from pipeline import workers
from pipeline.atomic import PARTIAL_SUFFIX
from pipeline.cache import contents, lock, shards
from pipeline.cache.extraction import Extraction, extract
from pipeline.cache.index import INDEX_NAME, ClipEntry, Index, ShardEntry, write_index
from pipeline.cache.plan import ShardPlan, forget_damage, plan_shards
from pipeline.console import bar as progress_bar
from pipeline.corpora.catalogue import Catalog, Clip
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

LIBRARIES = ("numpy", "librosa", "soxr", "opencv-python", "opencv-python-headless", "av", "h5py")


@dataclass(frozen=True)
class Summary:
    """What a run of :func:`build` did: the finished index, clips extracted, and seconds."""

    index: Index
    extracted: int
    seconds: float

    @property
    def failed(self) -> list[ClipEntry]:
        """Clips that could not be read and are not in the cache."""
        return [entry for entry in self.index.clips if entry.reason]

    @property
    def faceless(self) -> int:
        """Number of cached clips whose window shows no face."""
        return sum(not entry.face_found for entry in self.index.clips if not entry.reason)


def build(
    catalog: Catalog,
    cache: Path,
    spec: FeatureSpec,
    jobs: int = -1,
    progress: bool = True,
    distrusted: Collection[str] = (),
    clip_timeout_seconds: float = 0.0,
    wait: bool = False,
) -> Summary:
    """Make the cache of a catalogue complete, extracting only what is missing.

    Parameters
    ----------
    catalog
        The clips.
    cache
        Folder of caches; this one becomes ``cache/<digest of the spec>``.
    spec
        What the cached numbers mean.
    jobs
        Worker processes; -1 for one a core.
    progress
        Whether to show a bar.
    distrusted
        Names of shards to write anew although they seem complete. Their rows are copied where
        they are what was written, and extracted again where they are not.
    clip_timeout_seconds
        Time a clip may take before it is given up; 0 for no limit.
    wait
        Whether to wait for another run on the same cache instead of refusing.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If no clip could be read, the disk has no room for the rows, or another run is at it.
    OSError
        If the disk refuses; finished shards stay, the unfinished one is removed.
    """
    folder = cache / spec.digest
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder, wait):
        return build_locked(catalog, folder, spec, jobs, progress, distrusted, clip_timeout_seconds)


def build_locked(
    catalog: Catalog,
    folder: Path,
    spec: FeatureSpec,
    jobs: int,
    progress: bool,
    distrusted: Collection[str],
    clip_timeout_seconds: float,
) -> Summary:
    """Make the cache in a folder complete that nobody else is at; see :func:`build`."""
    started = time.monotonic()
    for leftover in folder.glob(f"*{PARTIAL_SUFFIX}"):
        leftover.unlink()
    known = contents.survey(folder, spec)
    plans = [forget_damage(plan, folder, spec) for plan in plan_shards(catalog, known, distrusted)]
    kept = {plan.file for plan in plans if plan.missing or plan.stands or not plan.is_done}
    surplus = [path for path in sorted(folder.glob("*.h5")) if path.name not in kept]
    if surplus or not all(plan.is_done for plan in plans):
        refuse_small_disk(folder, spec, plans)
        # A cache under construction must not pass for a complete one.
        (folder / INDEX_NAME).unlink(missing_ok=True)
    for path in surplus:
        path.unlink()

    missing = [clip for plan in plans for clip in plan.missing]
    clips: list[ClipEntry] = []
    finished: list[ShardEntry] = []
    with progress_bar(
        total=sum(len(plan.clips) for plan in plans),
        desc="features",
        unit="clip",
        initial=sum(len(plan.settled) for plan in plans),
        disable=not (progress and missing),
    ) as bar:
        results = extract_all(missing, catalog.root, spec, jobs, clip_timeout_seconds)
        with contextlib.closing(results):
            for plan in plans:
                entries, shard = write_shard(plan, folder, spec, results, bar)
                clips += entries
                finished += [shard] if shard else []
    libraries = known.libraries if known.libraries and not missing else library_versions()
    index = Index(folder, spec, tuple(finished), tuple(clips), libraries)
    if not finished:
        raise InputError(
            f"expected readable clips in {catalog.root}, got none; "
            f"first: {clips[0].clip}: {clips[0].reason}"
        )
    if index != known or not (folder / INDEX_NAME).is_file():
        write_index(index)
    return Summary(index, len(missing), time.monotonic() - started)


def refuse_small_disk(folder: Path, spec: FeatureSpec, plans: Sequence[ShardPlan]) -> None:
    """Raise before any work if the rows to be written cannot fit."""
    clips = sum(len(plan.clips) for plan in plans if not plan.is_done)
    needed = clips * (1 + len(spec.variants)) * spec.row_bytes
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"expected {needed / 2**30:.2f} GiB of room at {folder}, got "
            f"{free / 2**30:.2f} GiB; free some or name another cache folder"
        )


def extract_all(
    clips: Sequence[Clip], root: Path, spec: FeatureSpec, jobs: int, clip_timeout_seconds: float
) -> Iterator[Extraction]:
    """Extract clips in worker processes, yielding results in the order of the clips.

    A single job without a time limit is done in this process, where a debugger reaches it.
    """
    if jobs == 1 and not clip_timeout_seconds:
        yield from (extract(clip, root, spec) for clip in clips)
        return
    work = partial(extract, root=root, spec=spec)
    with contextlib.closing(workers.in_order(work, clips, jobs, clip_timeout_seconds)) as results:
        for clip, result in zip(clips, results, strict=True):
            if isinstance(result, workers.Lost):
                # Without its sources in the index, the next run tries the clip again.
                yield Extraction(clip, (), [], result.reason)
            else:
                yield result


def write_shard(
    plan: ShardPlan, folder: Path, spec: FeatureSpec, results: Iterator[Extraction], bar: tqdm.tqdm
) -> tuple[list[ClipEntry], ShardEntry | None]:
    """Make a shard as planned, from the file it replaces and from the workers' results."""
    if plan.is_done:
        return list(plan.settled.values()), plan.stands
    path = folder / plan.file
    writer = shards.ShardWriter(path, spec, plan.clips[0].actor, len(plan.clips))
    entries = []
    with writer:
        for clip in plan.clips:
            entry = plan.settled.get(clip.id)
            if entry is None:
                result = next(results)
                rows, face_found = result.rows, any(row.face_found for row in result.rows)
                entry = ClipEntry(
                    clip.id,
                    clip.actor,
                    clip.emotion,
                    result.sources,
                    plan.file if rows else None,
                    face_found,
                    result.reason,
                )
                bar.update()
            else:
                rows = [] if entry.reason else shards.read_rows(folder, plan.old, entry, spec)
            first = writer.rows if rows else None
            checksums = writer.append(clip, entry.sources, rows)
            entries.append(dataclasses.replace(entry, row=first, checksums=checksums))
    if writer.entry is None:
        path.unlink(missing_ok=True)
    return entries, writer.entry


def library_versions() -> dict[str, str]:
    """Versions of the libraries whose numbers end up in a cache."""
    installed = {dist.name.lower(): dist.version for dist in importlib.metadata.distributions()}
    return {name: installed[name] for name in LIBRARIES if name in installed}
