"""Raw clips to a cache: catalogue, plan, one task a shard, index.

A shard never changes once it is whole, and is removed only where somebody asks for that, so the
index before stays valid until the new one replaces it.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, console, parallel
from pipeline.backends import Workers
from pipeline.cache import facts, lock, survey, task
from pipeline.cache import plan as planning
from pipeline.cache.facts import ShardFacts
from pipeline.cache.index import INDEX_NAME, Index, index_of, read_index, write_index
from pipeline.cache.plan import Plan
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to build a cache.

    A clip that takes longer than ``clip_timeout_seconds`` is given up; 0 is no limit. ``wait``
    for another run on the same cache instead of refusing. ``check_content`` of every raw file, not
    only of those whose time stamp changed. ``retry_bad`` clips, which could not be read.
    ``only_wanted``: a shard that holds clips the raw folder lacks is made again without them, so
    that :func:`remove_unnamed` can remove it. ``progress`` shows bars. ``part`` names the lock of
    a run that fills a part of a cache while others fill theirs.
    """

    clip_timeout_seconds: float = 0.0
    wait: bool = False
    check_content: bool = False
    retry_bad: bool = False
    only_wanted: bool = False
    progress: bool = True
    part: str = ""


@dataclass(frozen=True)
class Summary:
    """What a run of :func:`build` did: its index, how many clips it extracted, how long it took.

    ``absent`` are cached clips that the catalogue lacks; ``unnamed`` are names of shards, whole or
    not, that were there before the run and that its index does not name.
    """

    index: Index
    extracted: int
    seconds: float
    absent: tuple[str, ...]
    unnamed: tuple[str, ...]

    @property
    def faceless(self) -> int:
        """Number of clips with video whose window shows no face."""
        return sum(clip.has_video and not clip.face_found for clip in self.index.clips)


def build(
    catalogue: Catalogue,
    cache: Path,
    spec: FeatureSpec,
    workers: Workers | None = None,
    options: Options | None = None,
    damaged: Collection[str] = (),
) -> Summary:
    """Make the cache of a catalogue complete, extracting only what is missing.

    Parameters
    ----------
    catalogue
        The clips.
    cache
        Folder of caches; this one becomes ``cache/<digest of the spec>``.
    spec
        What the cached numbers mean.
    workers
        Who extracts; by default a process a core.
    options
        How.
    damaged
        Shards that are damaged, and made again where their clips are wanted.

    Raises
    ------
    InputError
        If no clip could be read, the disk has no room for the rows, another run is at it, or
        workers go on dying.
    OSError
        If the disk refuses; finished shards stay.
    """
    workers, options = workers or Workers(), options or Options()
    started = time.monotonic()
    folder = cache / spec.digest
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder, options.wait, options.part):
        remove_leftovers(folder)
        # Now: what others make on the way belongs to them.
        there = shards_on_disk(folder)
        wanted, states, known = survey.look(
            catalogue, folder, spec, workers, damaged, options.check_content, options.progress
        )
        plan = planning.plan(
            wanted, states, known, task.reader_version(), options.retry_bad, options.only_wanted
        )
        log.info("fresh clips: %d, shards to make: %d", len(plan.held), len(plan.make))
        for clip, reason in plan.reasons.items():
            log.debug("%s is extracted: %s", clip, reason)
        made = carry_out(plan, catalogue, folder, spec, workers, options, damaged)
        made = without_vain(made, plan, folder)
        # Raw files may have changed on the way; of what was made the manifests know better.
        remade = {clip for shard in plan.make for clip in shard.clips}
        for path in {path for clip in wanted if clip.id in remade for path in clip.paths}:
            states.pop(path, None)
        copies = [clip for shard in made for clip in shard.clips]
        held = planning.latest([*plan.held.values(), *plan.failed.values(), *copies])
        shards = [*known.shards, *made]
        index = index_of(held.values(), shards, states, folder, spec, str(catalogue.root))
        publish(index, catalogue.root)
    unnamed = tuple(sorted(there - index.shard_facts.keys()))
    extracted = sum(len(shard.clips) for shard in plan.make)
    return Summary(index, extracted, time.monotonic() - started, plan.absent, unnamed)


def carry_out(
    plan: Plan,
    catalogue: Catalogue,
    folder: Path,
    spec: FeatureSpec,
    workers: Workers,
    options: Options,
    damaged: Collection[str],
) -> list[ShardFacts]:
    """Make the shards of a plan and return their manifests."""
    if not plan.make:
        return []
    by_id = {clip.id: clip for clip in catalogue.clips}
    count = sum(len(shard.clips) for shard in plan.make)
    refuse_small_disk(folder, count * len(spec.row_names) * spec.row_bytes)
    with atomic.partial_folder(folder.resolve(), "progress") as progress:
        tasks = [
            task.ShardTask(
                folder.resolve(),
                shard.file,
                shard.actor,
                tuple(by_id[clip] for clip in shard.clips),
                catalogue.root,
                spec,
                options.clip_timeout_seconds,
                progress / shard.file,
            )
            for shard in plan.make
        ]
        for made in tasks:
            # With the manifest of a damaged shard the task would take it for done. A sound one is
            # that of another run, which no lock kept away.
            if made.is_done() and survey.whole_shard(made.manifest, spec, damaged) is None:
                made.manifest.unlink()
        total = len(catalogue.clips)
        shown = {"desc": "features", "unit": "clip", "disable": not options.progress}
        with console.bar(total=total, initial=total - count, **shown) as bar:
            watch = parallel.watching(
                bar, lambda: sum(path.stat().st_size for path in progress.iterdir())
            )
            parallel.run(task.make_shard, tasks, task.ShardTask.is_done, workers, watch, folder)
    # Of workers that died on the way.
    remove_leftovers(folder)
    return [facts.read_manifest(made.manifest, spec) for made in tasks]


def without_vain(made: Iterable[ShardFacts], plan: Plan, folder: Path) -> list[ShardFacts]:
    """Remove the shards whose clips all failed as before, for a passing reason; return the others.

    Such clips are tried at every run, and the cache would grow with each.
    """
    kept = []
    for shard in made:
        if all(
            clip.transient and clip.reason == getattr(plan.failed.get(clip.clip), "reason", None)
            for clip in shard.clips
        ):
            facts.manifest_path(folder, shard.file).unlink()
        else:
            kept.append(shard)
    return kept


def publish(index: Index, root: Path) -> None:
    """Replace ``index.json``, but not by one without a readable clip: that is an InputError."""
    if not index.clips:
        first = index.unreadable[0]
        raise InputError(
            f"expected readable clips in {root}, got none; first: {first.clip}: {first.reason}"
        )
    write_index(index)


def join(folder: Path) -> Index:
    """Write the index of every shard of a cache, whoever made them; no raw file is looked at.

    Of several copies of a clip the latest with rows counts.

    Parameters
    ----------
    folder
        A cache that several runs filled, each with other actors.

    Raises
    ------
    InputError
        If the folder holds no complete shard, or another run joins it.
    """
    spec = survey.spec_of(folder)
    shards = planning.by_age(survey.known_shards(folder, spec).shards)
    if not shards:
        raise InputError(f"expected shards in {folder}, got none; run 'make features' first")
    try:
        root = str(facts.read_sealed(folder / INDEX_NAME, "an index")["root"])
    except (InputError, KeyError):
        root = ""
    with lock.held(folder, name="-index"):
        held = planning.latest(clip for shard in shards for clip in shard.clips)
        index = index_of(held.values(), shards, {}, folder, spec, root)
        publish(index, folder)
    return index


def shards_on_disk(folder: Path) -> set[str]:
    """Name every shard of which a folder has the file, the manifest, or both, sound or not."""
    files = (path.with_suffix(facts.SHARD_SUFFIX).name for path in folder.glob("actor-*.*"))
    return {file for file in files if facts.SHARD_PATTERN.fullmatch(file)}


def files_of(folder: Path, shard: str) -> list[Path]:
    """Files that there are of a shard, the manifest first."""
    return [path for path in (facts.manifest_path(folder, shard), folder / shard) if path.exists()]


def remove_unnamed(
    summary: Summary, wait: bool = False, note: Callable[[str], object] = log.info
) -> None:
    """Delete the shards that a run's index does not name, nor one that came after it.

    ``note`` is told of each before it goes; ``wait`` for other runs on the same cache.

    Raises
    ------
    InputError
        If another run is at the cache, and is not to be waited for.
    """
    folder = summary.index.folder
    with lock.all_held(folder, wait):
        named = read_index(folder).shard_facts
        for shard in summary.unnamed:
            if shard not in named:
                note(shard)
                # The manifest first: what is left of an interrupted removal does not count.
                for path in files_of(folder, shard):
                    path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs of this machine left half-written; it counts for nothing."""
    for path in atomic.dead_leftovers(folder):
        log.info("%s is removed: the process that wrote it is gone", path.name)
        # On a read-only disk it stays, and harms nothing.
        with contextlib.suppress(OSError):
            atomic.remove(path)


def refuse_small_disk(folder: Path, needed_bytes: int) -> None:
    """Raise before any work if the rows to be written cannot fit."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise InputError(
            f"expected {needed_bytes / 2**30:.2f} GiB of room at {folder}, got "
            f"{free / 2**30:.2f} GiB; free some or name another cache folder"
        )
