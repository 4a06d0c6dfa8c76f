"""What a cache should hold against what it holds: which clips to extract. Decides only."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pipeline.cache import checksums
from pipeline.cache.index import ClipEntry, Index, ShardEntry, Source
from pipeline.corpora import sources
from pipeline.corpora.catalogue import Catalog, Clip
from pipeline.spec import FeatureSpec

CLIPS_PER_SHARD = 500
"""An actor with more clips gets several shards, so that an interruption costs at most one."""


@dataclass(frozen=True)
class ShardPlan:
    """One shard as it should become.

    Parameters
    ----------
    file
        Its name.
    clips
        Every clip it should hold, sorted.
    settled
        What is known already, by clip id: rows on disk, or a file known to be unreadable.
    stands
        The file on disk, if it is already as it should be.
    old
        The file on disk, as it should be or not; settled rows are copied from it.
    """

    file: str
    clips: tuple[Clip, ...]
    settled: dict[str, ClipEntry]
    stands: ShardEntry | None
    old: ShardEntry | None

    @property
    def missing(self) -> tuple[Clip, ...]:
        """Clips that have to be extracted."""
        return tuple(clip for clip in self.clips if clip.id not in self.settled)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        unreadable = all(entry.reason for entry in self.settled.values())
        return not self.missing and (self.stands is not None or unreadable)


def plan_shards(
    catalog: Catalog, known: Index, distrusted: Collection[str] = ()
) -> list[ShardPlan]:
    """Decide which clips go into which shard, and which of them need no extraction.

    Parameters
    ----------
    catalog
        The clips as they should be.
    known
        The cache as it is.
    distrusted
        Shards that do not stand although they hold the right clips: they are damaged.

    Returns
    -------
    list of ShardPlan
        Sorted by actor. No media is opened; a raw file whose time stamp moved is hashed.
    """
    entries = {entry.clip: entry for entry in known.clips}
    shard_entries = {shard.file: shard for shard in known.shards}
    on_disk: dict[str, list[str]] = {}
    for entry in known.clips:
        if entry.shard:
            on_disk.setdefault(entry.shard, []).append(entry.clip)
    plans = []
    for file, clips in shard_members(catalog).items():
        settled = {}
        for clip in clips:
            entry = entries.get(clip.id)
            if entry is None or entry.shard not in (file, None):
                continue
            sources = unchanged_sources(entry.sources, clip, catalog.root)
            if sources and (entry.actor, entry.emotion) == (clip.actor, clip.emotion):
                settled[clip.id] = dataclasses.replace(entry, sources=sources)
        complete = len(settled) == len(clips)
        readable = [clip for clip, entry in settled.items() if not entry.reason]
        stands = complete and bool(readable) and readable == on_disk.get(file)
        old = shard_entries.get(file)
        stands = stands and file not in distrusted
        plans.append(ShardPlan(file, clips, settled, old if stands else None, old))
    return plans


def forget_damage(plan: ShardPlan, folder: Path, spec: FeatureSpec) -> ShardPlan:
    """Read the rows that would be copied from a shard; those of a damaged clip are not settled."""
    if plan.is_done:
        return plan
    settled = {
        clip: entry
        for clip, entry in plan.settled.items()
        if entry.reason or checksums.is_intact(folder, plan.old, entry, spec)
    }
    return dataclasses.replace(plan, settled=settled)


def shard_members(catalog: Catalog) -> dict[str, tuple[Clip, ...]]:
    """Share the clips out among shard files: one an actor, numbered parts for a large one."""
    members = {}
    for actor in catalog.actors:
        clips = [clip for clip in catalog.clips if clip.actor == actor]
        for part, first in enumerate(range(0, len(clips), CLIPS_PER_SHARD)):
            number = f"-{part + 1}" if part else ""
            members[f"actor-{actor:02d}{number}.h5"] = tuple(clips[first : first + CLIPS_PER_SHARD])
    return members


def unchanged_sources(
    recorded: tuple[Source, ...], clip: Clip, root: Path
) -> tuple[Source, ...] | None:
    """Return the sources of a clip with today's time stamps; None if any content changed."""
    if [source.path for source in recorded] != [
        sources.relative_path(path, root) for path in clip.sources
    ]:
        return None
    current = []
    for source, path in zip(recorded, clip.sources, strict=True):
        try:
            state = path.stat()
            same = state.st_size == source.bytes and (
                state.st_mtime_ns == source.modified_ns
                or sources.file_sha256(path) == source.sha256
            )
        except OSError:
            return None
        if not same:
            return None
        current.append(dataclasses.replace(source, modified_ns=state.st_mtime_ns))
    return tuple(current)
