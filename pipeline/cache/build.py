"""Raw clips to a cache: catalogue, plan, one task a shard, index.

A shard never changes once it is whole, and is removed only where somebody asks for that, so the
index before stays valid until the new one replaces it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, console, parallel
from pipeline.backends import Workers
from pipeline.cache import facts, lock, survey, task
from pipeline.cache import format as shard_format
from pipeline.cache import plan as planning
from pipeline.cache.facts import ShardFacts
from pipeline.cache.index import INDEX_NAME, Index, read_content, read_index, write_index
from pipeline.cache.plan import FileState, Known, Plan, Rules
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to build a cache.

    Parameters
    ----------
    clip_timeout_seconds
        Time a clip may take before it is given up; 0 for no limit.
    wait
        Whether to wait for another run on the same cache instead of refusing.
    check_content
        Whether to read every raw file, not only those whose time stamp changed.
    retry_bad
        Whether to try clips again that could not be read.
    only_wanted
        Whether a shard that holds clips the raw folder lacks is made again without them. Needed
        before such clips can be removed, see :func:`remove_unnamed`.
    progress
        Whether to show bars.
    part
        Name of the lock, for runs that fill parts of a cache at the same time.
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
    """What a run of :func:`build` did.

    Parameters
    ----------
    index
        The new index.
    extracted
        Number of clips that were extracted.
    seconds
        How long it took.
    absent
        Cached clips that the catalogue lacks.
    unnamed
        Complete shards that the index does not name.
    """

    index: Index
    extracted: int
    seconds: float
    absent: tuple[str, ...]
    unnamed: tuple[ShardFacts, ...]

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
    distrusted: Collection[str] = (),
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
    distrusted
        Shards that are damaged, and made again where their clips are wanted.

    Returns
    -------
    Summary

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
        wanted = survey.wanted_clips(catalogue)
        known = survey.known_shards(folder, spec, distrusted)
        states = survey.file_states(
            catalogue.root, folder, wanted, known, workers, options.check_content, options.progress
        )
        rules = Rules(task.reader_version(), options.retry_bad, options.only_wanted)
        plan = planning.plan(wanted, states, known, rules)
        log_plan(plan)
        made = carry_out(plan, catalogue, folder, spec, workers, options, distrusted)
        now_named = {clip.clip: shard.file for shard in made for clip in shard.clips}
        known = dataclasses.replace(
            known, shards=[*known.shards, *made], named={**known.named, **now_named}
        )
        states |= states_when_read(made)
        # Whatever failed was tried a moment ago, even if not so much as a file could be opened.
        rules = dataclasses.replace(rules, accept_failures=True)
        held, _ = planning.choose(wanted, states, known, rules)
        held = now_named | held
        index = index_of(held, known, states, folder, spec, str(catalogue.root))
        publish(index, catalogue.root)
    unnamed = tuple(shard for shard in known.shards if shard.file not in index.shard_facts)
    extracted = sum(len(shard.clips) for shard in plan.make)
    return Summary(index, extracted, time.monotonic() - started, plan.absent, unnamed)


def carry_out(
    plan: Plan,
    catalogue: Catalogue,
    folder: Path,
    spec: FeatureSpec,
    workers: Workers,
    options: Options,
    distrusted: Collection[str] = (),
) -> list[ShardFacts]:
    """Make the shards of a plan and return their manifests."""
    if not plan.make:
        return []
    by_id = {clip.id: clip for clip in catalogue.clips}
    count = sum(len(shard.clips) for shard in plan.make)
    refuse_small_disk(folder, count * len(spec.row_names) * spec.row_bytes)
    with progress_folder(folder) as progress:
        tasks = [
            task.ShardTask(
                folder.resolve(),
                shard.file,
                shard.actor,
                tuple(by_id[clip] for clip in shard.clips),
                catalogue.root,
                spec,
                options.clip_timeout_seconds,
                progress.resolve() / shard.file,
            )
            for shard in plan.make
        ]
        for made in tasks:
            # With the manifest of a damaged shard the task would take it for done. A sound one is
            # that of another run, which no lock kept away.
            if made.is_done() and survey.whole_shard(made.manifest, spec, distrusted) is None:
                made.manifest.unlink()
        with console.bar(
            total=len(catalogue.clips),
            initial=len(catalogue.clips) - count,
            desc="features",
            unit="clip",
            disable=not options.progress,
        ) as bar:
            watch = parallel.watching(bar, lambda: bytes_in(progress))
            parallel.run(task.make_shard, tasks, task.ShardTask.is_done, workers, watch)
    # Of workers that died on the way.
    remove_leftovers(folder)
    return [facts.read_manifest(made.manifest, spec) for made in tasks]


def states_when_read(made: Sequence[ShardFacts]) -> dict[str, FileState]:
    """Raw files as they were when shards were made of them: they may have changed on the way."""
    return {
        source.path: FileState(source.bytes, source.modified_ns, source.sha256)
        for shard in made
        for clip in shard.clips
        for source in clip.sources
    }


def index_of(
    held: Mapping[str, str],
    known: Known,
    states: Mapping[str, FileState],
    folder: Path,
    spec: FeatureSpec,
    root: str,
) -> Index:
    """Make the index of some clips.

    Parameters
    ----------
    held
        Shard of each clip.
    known
        All complete shards.
    states
        Raw files now, by path; empty where nothing is known of them.
    folder, spec, root
        See :class:`pipeline.cache.index.Index`.
    """
    named = set(held.values())
    shards = [shard for shard in known.shards if shard.file in named]
    excluded, moved = {}, {}
    for shard in shards:
        others = {clip.clip for clip in shard.clips if held.get(clip.clip) != shard.file}
        if others:
            excluded[shard.file] = frozenset(others)
        for clip in shard.clips:
            for source in clip.sources if clip.clip not in others else ():
                now = states[source.path].modified_ns if states else source.modified_ns
                if now != source.modified_ns:
                    moved[source.path, source.sha256] = now
    in_order = tuple(sorted(shards, key=lambda shard: (shard.actor, shard.file)))
    return Index(folder, spec, root, in_order, excluded, moved)


def publish(index: Index, root: Path) -> None:
    """Replace ``index.json`` where it would say something else.

    Raises
    ------
    InputError
        If no clip could be read.
    """
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
        If the folder holds no complete shard.
    """
    spec = survey.spec_of(folder)
    known = survey.known_shards(folder, spec)
    if not known.shards:
        raise InputError(f"expected shards in {folder}, got none; run 'make features' first")
    copies = [clip for shard in planning.by_age(known.shards) for clip in shard.clips]
    # The latest copy with rows counts before a failure, whichever is later.
    latest = {clip.clip: clip.shard for clip in copies}
    latest |= {clip.clip: clip.shard for clip in copies if clip.reason is None}
    try:
        root = read_content(folder / INDEX_NAME)["root"]
    except InputError:
        root = ""
    with lock.held(folder, name="-index"):
        index = index_of(latest, known, {}, folder, spec, root)
        publish(index, folder)
    return index


def remove_unnamed(summary: Summary) -> None:
    """Delete the shards that a run's index does not name, nor one that came after it."""
    folder = summary.index.folder
    with lock.all_held(folder):
        named = read_index(folder).shard_facts
        for shard in summary.unnamed:
            if shard.file not in named:
                shard_format.remove_shard(folder, shard.file)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs of this machine left half-written; it counts for nothing."""
    for path in atomic.dead_leftovers(folder):
        log.info("%s is removed: the process that wrote it is gone", path.name)
        # On a read-only disk it stays, and harms nothing.
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def refuse_small_disk(folder: Path, needed_bytes: int) -> None:
    """Raise before any work if the rows to be written cannot fit."""
    free = shutil.disk_usage(folder).free
    if needed_bytes > free:
        raise InputError(
            f"expected {needed_bytes / 2**30:.2f} GiB of room at {folder}, got "
            f"{free / 2**30:.2f} GiB; free some or name another cache folder"
        )


@contextlib.contextmanager
def progress_folder(folder: Path) -> Iterator[Path]:
    """Make a folder for this run's progress files, and remove it afterwards."""
    progress = folder / f"progress.{atomic.own_mark()}{atomic.PARTIAL_SUFFIX}"
    progress.mkdir()
    try:
        yield progress
    finally:
        shutil.rmtree(progress, ignore_errors=True)


def bytes_in(folder: Path) -> int:
    """Size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.iterdir())


def log_plan(plan: Plan) -> None:
    """Say why work is done."""
    log.info("%d clips are fresh, %d shards are made", len(plan.held), len(plan.make))
    for clip, reason in plan.reasons.items():
        log.debug("%s is extracted: %s", clip, reason)
