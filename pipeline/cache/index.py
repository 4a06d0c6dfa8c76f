"""The index of a cache: which shards, and which clips of them, one run of ``features`` means.

A cache is a folder named by the digest of its spec, ``data/cache/<digest>/``, with shards, their
manifests, and an ``index.json`` that is replaced in one step at the end of a run. Shards that it
does not name stay where they are.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pipeline import atomic
from pipeline.cache.facts import (
    PARSING,
    SHARD_PATTERN,
    ClipEntry,
    ShardFacts,
    canonical_sha256,
    manifest_path,
    read_manifest,
    read_sealed,
    sealed,
    unusable,
)
from pipeline.cache.plan import FileState
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

INDEX_NAME = "index.json"

TITLE = "an index"


@dataclass(frozen=True)
class Index:
    """What a cache holds for its readers.

    Parameters
    ----------
    folder, spec
        Where its shards are, and what their numbers mean.
    root
        The raw folder it was made for.
    shards
        Sorted by actor and name.
    entries
        Their clips that count, readable or not, sorted by actor and id. The others the raw folder
        lacks, or another shard holds.
    modified_ns
        Modification times under which raw files were found unchanged although their shard
        recorded another, by path and content: another shard may hold the path with other content.
    """

    folder: Path
    spec: FeatureSpec
    root: str
    shards: tuple[ShardFacts, ...]
    entries: tuple[ClipEntry, ...]
    modified_ns: Mapping[tuple[str, str], int] = field(default_factory=dict)

    @functools.cached_property
    def clips(self) -> tuple[ClipEntry, ...]:
        """Clips with rows, sorted by actor and id."""
        return tuple(clip for clip in self.entries if not clip.reason)

    @property
    def unreadable(self) -> tuple[ClipEntry, ...]:
        """Clips without rows, with the reason."""
        return tuple(clip for clip in self.entries if clip.reason)

    @property
    def actors(self) -> list[int]:
        """Sorted numbers of the actors that have rows."""
        return sorted({clip.actor for clip in self.clips})

    @functools.cached_property
    def shard_facts(self) -> dict[str, ShardFacts]:
        """Manifests by the names of their shards."""
        return {shard.file: shard for shard in self.shards}

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any byte of any row that counts."""
        rows = [[clip.clip, clip.checksums] for clip in self.clips]
        return canonical_sha256([self.spec.digest, rows])[:16]

    @property
    def rows(self) -> int:
        """Number of rows that count."""
        return len(self.clips) * len(self.spec.row_names)

    @property
    def bytes(self) -> int:
        """Size of all its shards."""
        return sum(shard.bytes for shard in self.shards)

    def without(self, clips: Collection[str]) -> Index:
        """Return the same index without some clips."""
        kept = tuple(entry for entry in self.entries if entry.clip not in clips)
        return dataclasses.replace(self, entries=kept)


def index_of(
    held: Iterable[ClipEntry],
    shards: Iterable[ShardFacts],
    states: Mapping[str, FileState],
    folder: Path,
    spec: FeatureSpec,
    root: str,
) -> Index:
    """Make the index of some clips, given the copy of each that counts.

    ``shards`` are all complete ones, ``states`` the raw files now, as far as they are known.
    """
    entries = tuple(sorted(held, key=lambda entry: (entry.actor, entry.clip)))
    named = {entry.shard for entry in entries}
    chosen = [shard for shard in shards if shard.file in named]
    chosen.sort(key=lambda shard: (shard.actor, shard.file))
    moved = {
        (source.path, source.sha256): states[source.path].modified_ns
        for entry in entries
        for source in entry.sources
        if source.path in states and states[source.path].modified_ns != source.modified_ns
    }
    return Index(folder, spec, root, tuple(chosen), entries, moved)


def write_index(index: Index) -> bool:
    """Write ``index.json`` in one step; False where it says the same already, and is left alone."""
    counting = {(entry.shard, entry.clip) for entry in index.entries}
    shards = []
    for shard in index.shards:
        said: dict[str, object] = {"file": shard.file, "manifest": shard.checksum}
        ids = [clip.clip for clip in shard.clips if (shard.file, clip.clip) not in counting]
        shards.append(said | {"excluded": ids} if ids else said)
    content = {
        "emotions": EMOTIONS,
        "root": index.root,
        "shards": shards,
        "modified_ns": [[*key, time] for key, time in sorted(index.modified_ns.items())],
        "left_out": [{"clip": clip.clip, "reason": clip.reason} for clip in index.unreadable],
    }
    text = json.dumps(sealed(content, index.spec), indent=1).encode()
    path = index.folder / INDEX_NAME
    if path.is_file() and path.read_bytes() == text:
        return False
    atomic.write_durably(path, text)
    return True


class NamedShard(NamedTuple):
    """A shard as an index names it: its file, its manifest's checksum, clips that do not count."""

    file: str
    manifest: str
    excluded: frozenset[str]


def read_index(folder: Path) -> Index:
    """Read the index of a cache and the manifests it names.

    Raises
    ------
    InputError
        If there is none, it is damaged or of another format, or a manifest is not the one it
        was written for.
    """
    path = folder / INDEX_NAME
    content = read_sealed(path, TITLE)
    try:
        spec = FeatureSpec.from_json(json.dumps(content["spec"]))
        if content["digest"] != spec.digest or content["emotions"] != list(EMOTIONS):
            raise ValueError("another digest or other emotions")
        shards, entries = [], []
        for named in shards_of(content):
            facts = read_manifest(manifest_path(folder, named.file), spec)
            if facts.checksum != named.manifest:
                raise ValueError(f"another manifest of {named.file}")
            shards.append(facts)
            entries += [clip for clip in facts.clips if clip.clip not in named.excluded]
        index = index_of(entries, shards, {}, folder, spec, str(content["root"]))
        return dataclasses.replace(index, modified_ns=times_of(content))
    except PARSING as error:
        raise unusable(path, TITLE, error) from error


def named_shards(folder: Path) -> list[NamedShard]:
    """List what the index of a cache names, without a look at the manifests.

    Raises
    ------
    InputError
        If there is no index, or it is damaged or of another format.
    """
    path = folder / INDEX_NAME
    try:
        return shards_of(read_sealed(path, TITLE))
    except PARSING as error:
        raise unusable(path, TITLE, error) from error


def shards_of(content: dict) -> list[NamedShard]:
    """Return the shards that a parsed index names."""
    shards = []
    for entry in content["shards"]:
        if not SHARD_PATTERN.fullmatch(entry["file"]):
            raise ValueError(f"a shard named {entry['file']!r}")
        excluded = frozenset(entry.get("excluded", ()))
        shards.append(NamedShard(entry["file"], entry["manifest"], excluded))
    return shards


def times_of(content: dict) -> dict[tuple[str, str], int]:
    """Return what a parsed index says of modification times, see :class:`Index`."""
    return {(path, sha256): time for path, sha256, time in content["modified_ns"]}


def find_cache(root: Path) -> Index:
    """Open the cache that a path means: the folder itself, or the one finished cache in it.

    Where several are finished, the one of the default spec is meant.

    Raises
    ------
    InputError
        If there is none, or several and none of them has the default spec.
    """
    if (root / INDEX_NAME).is_file():
        return read_index(root)
    finished = sorted(path.parent for path in root.glob(f"*/{INDEX_NAME}"))
    default = root / FeatureSpec().digest
    if len(finished) > 1 and default in finished:
        finished = [default]
    if len(finished) > 1:
        raise InputError(
            f"expected one finished cache in {root}, got "
            f"{', '.join(path.name for path in finished)}; name one of them"
        )
    if not finished:
        state = "no finished cache" if root.is_dir() else "a file" if root.is_file() else "nothing"
        raise InputError(f"expected a cache in {root}, got {state}; run 'make features' first")
    return read_index(finished[0])
