"""The index that completes a cache: what its shards hold, and the raw files they were made from.

A cache is a folder named by the digest of its spec, ``data/cache/<digest>/``, with one
``actor-NN.h5`` for each actor (numbered parts for a large one) and an ``index.json`` written last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import PARTIAL_SUFFIX, refusals_named, replace_durably
from pipeline.cache.entries import ClipEntry, ShardEntry, Source, entry_of, refuse_contradictions
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

FORMAT_VERSION = 2
INDEX_NAME = "index.json"


@dataclass(frozen=True)
class Index:
    """What a complete cache holds.

    Parameters
    ----------
    folder
        Where its shards are.
    spec
        What their numbers mean.
    shards, clips
        Its content, sorted by actor and clip.
    libraries
        Versions of the libraries that made it.
    """

    folder: Path
    spec: FeatureSpec
    shards: tuple[ShardEntry, ...]
    clips: tuple[ClipEntry, ...]
    libraries: dict[str, str]

    @property
    def actors(self) -> list[int]:
        """Sorted numbers of the actors that have rows."""
        return sorted({shard.actor for shard in self.shards})

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any byte of any shard, and with its clips."""
        contents = [[shard.file, shard.sha256] for shard in self.shards]
        contents += [[clip.shard, clip.row] for clip in self.clips if clip.shard]
        return content_sha256(contents)[:16]

    @property
    def rows(self) -> int:
        """Number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Size of all shards."""
        return sum(shard.bytes for shard in self.shards)


def content_sha256(content: object) -> str:
    """SHA-256 of what some JSON says, in hexadecimal, whatever its layout."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_index(index: Index) -> None:
    """Write ``index.json``, the mark of a complete cache, in one step."""
    content = {
        "format_version": FORMAT_VERSION,
        "digest": index.spec.digest,
        "spec": json.loads(index.spec.to_json()),
        "emotions": EMOTIONS,
        "libraries": index.libraries,
        "shards": [dataclasses.asdict(entry) for entry in index.shards],
        "clips": [dataclasses.asdict(entry) for entry in index.clips],
    }
    content["sha256"] = content_sha256(content)
    path = index.folder / INDEX_NAME
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        # Piece by piece: the text of a large corpus is longer than its entries.
        with refusals_named(path), partial.open("w", encoding="utf-8") as stream:
            json.dump(content, stream, indent=1)
        replace_durably(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_index(folder: Path) -> Index:
    """Read the index of a complete cache.

    Raises
    ------
    InputError
        If there is none, it is damaged, or it is of another format.
    """
    path = folder / INDEX_NAME
    if not path.is_file():
        raise InputError(
            f"expected a finished cache in {folder}, got no {INDEX_NAME}; run 'make features' first"
        )
    again = "run 'make features' again, it makes a new one from the shards"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, sha256 = content["format_version"], content.pop("sha256", None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"expected an index in {path}, got something else ({error}); {again}"
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"expected cache format {FORMAT_VERSION} in {path}, got {version!r}; {again}"
        )
    if sha256 != content_sha256(content):
        raise InputError(f"expected {path} as it was written, got other content; {again}")
    try:
        return index_of(folder, content)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected an index of this version in {path}, got: {error}; run 'make features' again"
        ) from error


def index_of(folder: Path, content: dict) -> Index:
    """Make an index of parsed JSON.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not what :func:`write_index` writes.
    """
    spec = FeatureSpec.from_json(json.dumps(content["spec"]))
    if content["digest"] != spec.digest or content["emotions"] != list(EMOTIONS):
        raise ValueError("another digest or other emotions")
    clips = tuple(
        entry_of(
            ClipEntry,
            values
            | {
                "sources": tuple(entry_of(Source, source) for source in values["sources"]),
                "checksums": tuple(values["checksums"]),
            },
        )
        for values in content["clips"]
    )
    shards = tuple(entry_of(ShardEntry, values) for values in content["shards"])
    libraries = dict(content["libraries"])
    refuse_contradictions(spec, shards, clips)
    return Index(folder, spec, shards, clips, libraries)


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
        state = "no finished cache" if root.is_dir() else "nothing"
        raise InputError(f"expected a cache in {root}, got {state}; run 'make features' first")
    return read_index(finished[0])
