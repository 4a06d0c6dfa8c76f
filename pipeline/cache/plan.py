"""What a cache should hold against what it holds: which shards to make. Decides only."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.cache.facts import SHARD_SUFFIX, ClipEntry, ShardFacts
from pipeline.corpora.sources import Source

MAX_CLIPS = 16
"""Clips of a shard at most: about 50 MB with variants, so that an interruption costs seconds."""

HASH_BITS = 64


@dataclass(frozen=True)
class FileState:
    """A raw file now.

    Parameters
    ----------
    bytes, modified_ns
        As the file system says.
    sha256
        Of its content; None where that was not read.
    """

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
    """What a cache folder holds.

    Parameters
    ----------
    shards
        Complete shards, whether or not an index names them.
    modified_ns
        See :class:`pipeline.cache.index.Index`.
    named
        Shard that the last index, or this run, means for each clip.
    """

    shards: Sequence[ShardFacts] = ()
    modified_ns: Mapping[tuple[str, str], int] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What counts as fresh.

    Parameters
    ----------
    reader
        Identifies the code that reads media now.
    retry_bad
        Whether clips that could not be read are tried again in any case.
    only_wanted
        Whether shards that hold other clips too are of no use.
    accept_failures
        Whether no clip that could not be read is tried again.
    """

    reader: str = ""
    retry_bad: bool = False
    only_wanted: bool = False
    accept_failures: bool = False


@dataclass(frozen=True)
class ShardPlan:
    """A shard to be made: its file, its actor and the ids of its clips, sorted."""

    file: str
    actor: int
    clips: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What to do.

    Parameters
    ----------
    make
        Shards to be made.
    held
        Shard that holds each fresh clip.
    reasons
        Why each other clip is not fresh.
    absent
        Cached clips that are not wanted, sorted.
    """

    make: tuple[ShardPlan, ...]
    held: Mapping[str, str]
    reasons: Mapping[str, str]
    absent: tuple[str, ...]


def plan(
    wanted: Sequence[WantedClip],
    states: Mapping[str, FileState],
    known: Known,
    rules: Rules,
) -> Plan:
    """Decide which shards to make. Takes time in proportion to the clips.

    Parameters
    ----------
    wanted
        The clips as they should be.
    states
        Their raw files now, by path.
    known
        The cache as it is.
    rules
        What counts as fresh.

    Returns
    -------
    Plan
        A shard is made where one of its clips is not fresh; with it its other clips.
    """
    held, reasons = choose(wanted, states, known, rules)
    generations: dict[str, int] = {}
    for shard in known.shards:
        name, generation = split_name(shard.file)
        generations[name] = max(generation, generations.get(name, -1))
    make = []
    for actor, ids in group(wanted):
        if any(clip in reasons for clip in ids):
            name = shard_name(actor, ids)
            # An intact shard is never overwritten: the index of the moment may name it.
            generation = generations.get(name, -1) + 1
            make.append(ShardPlan(join_name(name, generation), actor, ids))
    names = {clip.id for clip in wanted}
    cached = {clip.clip for shard in known.shards for clip in shard.clips}
    return Plan(tuple(make), held, reasons, tuple(sorted(cached - names)))


def choose(
    wanted: Sequence[WantedClip],
    states: Mapping[str, FileState],
    known: Known,
    rules: Rules,
) -> tuple[dict[str, str], dict[str, str]]:
    """Find a fresh copy of each clip: the latest, where several shards hold one.

    A copy with rows counts before a failure, and of shards of the same clips the one that is named.

    Returns
    -------
    held : dict of str to str
        Shard of each fresh clip.
    reasons : dict of str to str
        Why the others are not fresh.
    """
    by_id = {clip.id: clip for clip in wanted}
    held: dict[str, str] = {}
    failed = {clip.clip for shard in known.shards for clip in shard.clips if clip.reason}

    def stays(clip: str, kept: str, later: str) -> bool:
        """Whether a clip's copy counts before a later one of the same clips."""
        same = split_name(kept)[0] == split_name(later)[0]
        return same and clip not in failed and known.named.get(clip) == kept

    reasons = dict.fromkeys(by_id, "not cached yet")
    for shard in by_age(known.shards):
        if rules.only_wanted and any(clip.clip not in by_id for clip in shard.clips):
            continue
        for entry in shard.clips:
            if entry.clip not in by_id:
                continue
            clip = by_id[entry.clip]
            reason = stale_source(entry, clip, states, known.modified_ns)
            reason = reason or unread(entry, shard, rules)
            if reason is None:
                kept = held.get(entry.clip)
                if kept is None or (
                    entry.reason is None and not stays(entry.clip, kept, shard.file)
                ):
                    held[entry.clip] = shard.file
            elif entry.clip not in held:
                reasons[entry.clip] = reason
    return held, {clip: reason for clip, reason in reasons.items() if clip not in held}


def by_age(shards: Iterable[ShardFacts]) -> list[ShardFacts]:
    """Sort shards, the latest last."""
    return sorted(shards, key=lambda shard: (shard.finished, shard.file))


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
    if tuple(source.path for source in entry.sources) != clip.paths:
        return f"its files were others, now they are {', '.join(clip.paths)}"
    for source in entry.sources:
        state = states[source.path]
        if state.bytes != source.bytes:
            return f"{source.path} had {source.bytes} bytes, now it has {state.bytes}"
        if state.sha256 is not None:
            if state.sha256 != source.sha256:
                return f"the content of {source.path} changed"
        elif state.modified_ns not in times_of(source, modified_ns):
            return f"{source.path} has another time stamp"
    return None


def times_of(source: Source, modified_ns: Mapping[tuple[str, str], int]) -> tuple[int | None, ...]:
    """Modification times under which a raw file is known to have the content of a cached one."""
    return source.modified_ns, modified_ns.get((source.path, source.sha256))


def unread(entry: ClipEntry, shard: ShardFacts, rules: Rules) -> str | None:
    """Say why a clip that could not be read is tried again; None if it is not."""
    if entry.reason is None or rules.accept_failures:
        return None
    if entry.transient:
        return f"its failure may pass: {entry.reason}"
    if rules.retry_bad:
        return "it could not be read, and is to be tried again"
    if shard.libraries.get("reader") != rules.reader:
        return "it could not be read, by another version of the reader"
    return None


def to_hash(
    wanted: Iterable[WantedClip],
    states: Mapping[str, FileState],
    known: Known,
    everything: bool = False,
) -> list[str]:
    """List the raw files whose content has to be read to tell whether they changed.

    Parameters
    ----------
    wanted, states, known
        See :func:`plan`.
    everything
        Whether to read every file that is cached, not only those whose time stamp moved.

    Returns
    -------
    list of str
        Paths, sorted.
    """
    paths = {path for clip in wanted for path in clip.paths}
    unsure: set[str] = set()
    sure: set[str] = set()
    for shard in known.shards:
        for entry in shard.clips:
            for source in entry.sources:
                if source.path not in paths or states[source.path].bytes != source.bytes:
                    continue
                same = states[source.path].modified_ns in times_of(source, known.modified_ns)
                (sure if same and not everything else unsure).add(source.path)
    return sorted(unsure - sure)


def group(wanted: Iterable[WantedClip]) -> Iterator[tuple[int, tuple[str, ...]]]:
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
    if len(hashed) <= MAX_CLIPS or not bit:
        if hashed:
            yield hashed
        return
    for side in (0, 1):
        yield from halve([pair for pair in hashed if pair[0] >> (bit - 1) & 1 == side], bit - 1)


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
