"""What a cache should hold against what it holds: which shards to make. Decides only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.cache.facts import SHARD_SUFFIX, ClipEntry, ShardFacts
from pipeline.corpora.clip import Clip
from pipeline.corpora.sources import Source

MAX_CLIPS = 16
"""Clips of a shard at most: about 50 MB with variants, so that an interruption costs seconds."""

HASH_BITS = 64

UNREADABLE = ""
"""The SHA-256 of a raw file that was to be hashed and could not be read."""


@dataclass(frozen=True)
class FileState:
    """A raw file now: size, modification time, and SHA-256 where its content was read."""

    bytes: int
    modified_ns: int
    sha256: str | None = None


@dataclass(frozen=True)
class WantedClip:
    """A clip that the cache should hold: identity, label, and the paths of its raw files."""

    id: str
    actor: int
    emotion: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """Complete shards of a cache, named by an index or not, and what its index says of times.

    See :class:`pipeline.cache.index.Index` for ``modified_ns``.
    """

    shards: Sequence[ShardFacts] = ()
    modified_ns: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be made: its file, its actor and the ids of its clips, sorted."""

    file: str
    actor: int
    clips: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """Which shards to make; which copy counts of each fresh clip; why the others are not fresh.

    ``failed`` are those of the others that could not be read and are only tried again. ``absent``
    are cached clips that are not wanted, sorted.
    """

    make: tuple[ShardPlan, ...]
    held: Mapping[str, ClipEntry]
    reasons: Mapping[str, str]
    failed: Mapping[str, ClipEntry]
    absent: tuple[str, ...]


def plan(
    wanted: Sequence[WantedClip],
    states: Mapping[str, FileState],
    known: Known,
    reader: str,
    retry_bad: bool = False,
    only_wanted: bool = False,
) -> Plan:
    """Decide which shards to make: those with a clip that is not fresh, with all of their clips.

    Clips that are only tried again get a shard without the others. Takes time in proportion to
    the clips.

    Parameters
    ----------
    wanted, states, known
        The clips as they should be, their raw files now, by path, and the cache as it is.
    reader
        Identifies the code that reads media now.
    retry_bad
        Whether clips that could not be read are tried again in any case.
    only_wanted
        Whether shards that hold other clips too are of no use.
    """
    by_id = {clip.id: clip for clip in wanted}
    fresh, absent = [], set()
    failed: dict[str, ClipEntry] = {}
    reasons = dict.fromkeys(by_id, "not cached yet")
    generations: dict[str, int] = {}
    for shard in by_age(known.shards):
        name, generation = split_name(shard.file)
        generations[name] = max(generation, generations.get(name, -1))
        others = {entry.clip for entry in shard.clips if entry.clip not in by_id}
        absent |= others
        for entry in shard.clips if not (others and only_wanted) else ():
            if entry.clip in by_id:
                stale = stale_source(entry, by_id[entry.clip], states, known.modified_ns)
                again = None
                if entry.reason and not stale:
                    again = second_try(entry, shard, reader, retry_bad)
                if again:
                    failed[entry.clip] = entry
                if reason := stale or again:
                    reasons[entry.clip] = reason
                else:
                    fresh.append(entry)
    held = latest(fresh)
    reasons = {clip: reason for clip, reason in reasons.items() if clip not in held}
    failed = {clip: entry for clip, entry in failed.items() if clip in reasons}
    make = []
    for actor, ids in group(wanted):
        if due := reasons.keys() & ids:
            ids = tuple(sorted(due)) if due <= failed.keys() else ids
            name = shard_name(actor, ids)
            # An intact shard is never overwritten: the index of the moment may name it.
            file = join_name(name, generations.get(name, -1) + 1)
            make.append(ShardPlan(file, actor, ids))
    return Plan(tuple(make), held, reasons, failed, tuple(sorted(absent)))


def latest(entries: Iterable[ClipEntry]) -> dict[str, ClipEntry]:
    """Choose a copy of each clip: the last, but one with rows before a failure."""
    chosen: dict[str, ClipEntry] = {}
    for entry in entries:
        before = chosen.get(entry.clip)
        if before is None or before.reason or not entry.reason:
            chosen[entry.clip] = entry
    return chosen


def by_age(shards: Iterable[ShardFacts]) -> list[ShardFacts]:
    """Sort shards, the latest last.

    Of shards of the same clips the generation says which is later, whatever the clocks of their
    machines said: none counts as finished before the one it replaces.
    """
    ages = []
    finished: dict[str, str] = {}
    for shard in sorted(shards, key=lambda shard: split_name(shard.file)):
        name, generation = split_name(shard.file)
        finished[name] = max(shard.finished, finished.get(name, ""))
        ages.append(((finished[name], name, generation), shard))
    return [shard for _, shard in sorted(ages, key=lambda age: age[0])]


def stale_source(
    entry: ClipEntry,
    clip: WantedClip,
    states: Mapping[str, FileState],
    modified_ns: Mapping[tuple[str, str], int],
) -> str | None:
    """Say why a cached clip is not what the raw folder holds; None if it is."""
    if (entry.actor, entry.emotion) != (clip.actor, clip.emotion):
        return (
            f"it was {entry.emotion} of actor {entry.actor}, "
            f"now it is {clip.emotion} of actor {clip.actor}"
        )
    if entry.transient:
        # Files that cannot be opened, or hang, were not hashed, and the clip is tried again.
        return None
    if tuple(source.path for source in entry.sources) != clip.paths:
        return f"its files were others, now they are {', '.join(clip.paths)}"
    for source in entry.sources:
        state = states[source.path]
        if state.bytes != source.bytes:
            return f"{source.path} had {source.bytes} bytes, now it has {state.bytes}"
        if state.sha256 == UNREADABLE:
            return f"{source.path} could not be read to compare it"
        if state.sha256 is not None:
            if state.sha256 != source.sha256:
                return f"the content of {source.path} changed"
        elif not is_untouched(source, state, modified_ns):
            return f"{source.path} has another time stamp"
    return None


def is_untouched(
    source: Source, state: FileState, modified_ns: Mapping[tuple[str, str], int]
) -> bool:
    """Whether a raw file has a time stamp under which it is known to be as it was cached."""
    known = source.modified_ns, modified_ns.get((source.path, source.sha256))
    return state.modified_ns in known


def second_try(entry: ClipEntry, shard: ShardFacts, reader: str, retry_bad: bool) -> str | None:
    """Say why a clip that could not be read is tried again; None if it is not."""
    if entry.transient:
        return f"its failure may pass: {entry.reason}"
    if retry_bad:
        return "it could not be read, and is to be tried again"
    if shard.libraries.get("reader") != reader:
        return "it could not be read, by another version of the reader"
    return None


def to_hash(
    wanted: Iterable[WantedClip],
    states: Mapping[str, FileState],
    known: Known,
    everything: bool = False,
) -> list[str]:
    """List the raw files whose content has to be read to tell whether they changed, sorted.

    Those of a cached size whose time stamp is no cached one; with ``everything`` all of that size.
    """
    paths = {path for clip in wanted for path in clip.paths}
    unsure: set[str] = set()
    sure: set[str] = set()
    for shard in known.shards:
        for entry in shard.clips:
            for source in entry.sources:
                if source.path in paths and (state := states[source.path]).bytes == source.bytes:
                    untouched = is_untouched(source, state, known.modified_ns)
                    (sure if untouched and not everything else unsure).add(source.path)
    return sorted(unsure - sure)


def group(wanted: Iterable[WantedClip | Clip]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Share clips out among shards: at most ``MAX_CLIPS`` of one actor, sorted by id.

    The hash of a clip's id decides, bit by bit, as in extendible hashing (Fagin et al. 1979): a
    clip that is added changes one shard, or splits it in two.
    """
    by_actor: dict[int, list[str]] = {}
    for clip in wanted:
        by_actor.setdefault(clip.actor, []).append(clip.id)
    for actor, ids in sorted(by_actor.items()):
        hashed = [(id_hash(id), id) for id in ids]
        for members in halve(hashed, HASH_BITS):
            yield actor, tuple(sorted(id for _, id in members))


def id_hash(id: str) -> int:
    """First ``HASH_BITS`` bits of the SHA-256 of a clip's id."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[: HASH_BITS // 8], "big")


def halve(hashed: list[tuple[int, str]], bit: int) -> Iterator[list[tuple[int, str]]]:
    """Split clips by the bits of their hashes until no part has more than ``MAX_CLIPS``."""
    if len(hashed) > MAX_CLIPS and bit:
        for side in (0, 1):
            yield from halve([p for p in hashed if p[0] >> (bit - 1) & 1 == side], bit - 1)
    elif hashed:
        yield hashed


def shard_name(actor: int, clips: Collection[str]) -> str:
    """Name that an actor's shard of these clips has, whatever is in them."""
    return f"actor-{actor:02d}-{hashlib.sha256(chr(10).join(clips).encode()).hexdigest()[:10]}"


def join_name(name: str, generation: int) -> str:
    """File name of a shard; the generation counts older shards of the same clips."""
    return f"{name}{f'.{generation}' if generation else ''}{SHARD_SUFFIX}"


def split_name(file: str) -> tuple[str, int]:
    """Undo :func:`join_name`."""
    name, _, generation = file.removesuffix(SHARD_SUFFIX).partition(".")
    return name, int(generation or 0)
