"""What a shard's manifest says: the small JSON file beside it, written last.

A shard is complete once its manifest is there. Everything that decides whether rows are fresh,
where they lie, and whether they still are what was written, is in it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline import atomic
from pipeline.corpora.sources import Source
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

FORMAT_VERSION = 3

SHARD_SUFFIX = ".h5"
MANIFEST_SUFFIX = ".json"
SHARD_PATTERN = re.compile(r"actor-\d+-[0-9a-f]{10}(\.\d+)?\.h5", re.ASCII)
"""Actor, what identifies its clips, and how many older shards of the same clips there are."""

MAKE_AGAIN = "run 'make features' again"

KINDS = {
    "str": {str},
    "int": {int},
    "float": {float, int},
    "bool": {bool},
    "str | None": {str, type(None)},
    "int | None": {int, type(None)},
    "tuple[int, ...]": {tuple},
    "tuple[Source, ...]": {tuple},
    "tuple[ClipEntry, ...]": {tuple},
    "dict[str, str]": {dict},
}
"""Types of the values that each annotation allows; True is no int."""

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class ClipEntry:
    """A clip of a shard: where it came from, and where its rows are.

    Parameters
    ----------
    clip, actor, emotion
        Identity, number of the speaker, and emotion name.
    shard
        File of its rows.
    sources
        Raw files it was made from.
    row
        Position in the shard of its first row; the others follow in the order of the spec's
        ``row_names``. None without rows.
    checksums
        CRC-32 of each row, see :func:`pipeline.cache.format.row_checksum`.
    face_found, has_audio, has_video
        Whether its window shows a face, and which modalities the clip has. The tensor of a
        missing one is zero.
    reason
        Why it has no rows; None if it has.
    transient
        Whether that reason may pass by itself, such as a process that was killed.
    """

    clip: str
    actor: int
    emotion: str
    shard: str
    sources: tuple[Source, ...]
    row: int | None = None
    checksums: tuple[int, ...] = ()
    face_found: bool = False
    has_audio: bool = False
    has_video: bool = False
    reason: str | None = None
    transient: bool = False

    @property
    def label(self) -> int:
        """Index of the emotion."""
        return EMOTIONS.index(self.emotion)


@dataclass(frozen=True)
class ShardFacts:
    """The manifest of a shard.

    Parameters
    ----------
    file, actor, rows
        Its name, its speaker, and how many rows it holds. Without rows there is no file: none of
        its clips could be read.
    bytes, sha256
        Size and content of the file.
    mfcc_offset, frames_offset
        Bytes before each tensor.
    clips
        Its clips, sorted by id.
    libraries
        Versions of what made it.
    seconds
        How long it took.
    finished
        When it was finished, UTC, ISO 8601.
    checksum
        SHA-256 of what the manifest says.
    """

    file: str
    actor: int
    rows: int
    bytes: int
    sha256: str
    mfcc_offset: int
    frames_offset: int
    clips: tuple[ClipEntry, ...]
    libraries: dict[str, str]
    seconds: float
    finished: str
    checksum: str = ""


def manifest_path(folder: Path, shard: str) -> Path:
    """Path of the manifest of a shard."""
    return folder / f"{shard.removesuffix(SHARD_SUFFIX)}{MANIFEST_SUFFIX}"


def canonical_sha256(content: object) -> str:
    """SHA-256 of what some JSON says, in hexadecimal, whatever its layout."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(folder: Path, facts: ShardFacts, spec: FeatureSpec) -> ShardFacts:
    """Write the manifest of a shard, which counts from now on; return it with its checksum."""
    content: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "digest": spec.digest,
        "spec": json.loads(spec.to_json()),
        **dataclasses.asdict(facts),
    }
    for clip in content["clips"]:
        # The shard says both.
        del clip["actor"], clip["shard"]
    del content["checksum"]
    content["checksum"] = canonical_sha256(content)
    text = json.dumps(content, indent=1)
    atomic.write_durably(manifest_path(folder, facts.file), text.encode())
    return dataclasses.replace(facts, checksum=content["checksum"])


def read_manifest(path: Path, spec: FeatureSpec) -> ShardFacts:
    """Read the manifest of a shard.

    Parameters
    ----------
    path
        The manifest.
    spec
        What the shard's numbers have to mean.

    Raises
    ------
    InputError
        If it is missing, damaged, of another format or of another spec.
    """
    try:
        content = json.loads(path.read_bytes())
        version = content.pop("format_version")
    except FileNotFoundError as error:
        raise InputError(f"expected a manifest at {path}, got nothing; {MAKE_AGAIN}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"expected a manifest in {path}, got something else ({error}); {MAKE_AGAIN}"
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"expected shard format {FORMAT_VERSION} in {path}, got {version!r}; {MAKE_AGAIN}"
        )
    try:
        return facts_of(path, content, spec)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"expected the manifest {path} as it was written, got: {error}; {MAKE_AGAIN}"
        ) from error


def stated_spec(path: Path) -> FeatureSpec | None:
    """Return the spec that a manifest or an index states; None if it cannot be read."""
    try:
        return FeatureSpec.from_json(json.dumps(json.loads(path.read_bytes())["spec"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def facts_of(path: Path, content: dict, spec: FeatureSpec) -> ShardFacts:
    """Make facts of parsed JSON.

    Raises
    ------
    ValueError, KeyError, TypeError
        If it is not what :func:`write_manifest` writes.
    """
    digest, checksum = content["digest"], content.pop("checksum")
    if checksum != canonical_sha256({"format_version": FORMAT_VERSION, **content}):
        raise ValueError("another checksum")
    del content["digest"], content["spec"]
    if digest != spec.digest:
        raise ValueError(f"features of spec {digest}")
    file, actor = content["file"], content["actor"]
    clips = tuple(
        entry_of(
            ClipEntry,
            values
            | {
                "actor": actor,
                "shard": file,
                "sources": tuple(entry_of(Source, source) for source in values["sources"]),
                "checksums": tuple(values["checksums"]),
            },
        )
        for values in content["clips"]
    )
    facts = entry_of(ShardFacts, content | {"clips": clips, "checksum": checksum})
    if manifest_path(path.parent, file) != path:
        raise ValueError(f"the manifest of {file!r}")
    refuse_contradictions(facts, spec)
    return facts


def entry_of(kind: type[Entry], values: dict) -> Entry:
    """Make an entry of parsed JSON.

    Raises
    ------
    TypeError, KeyError
        If it has not exactly the fields of its kind, each of its own type.
    """
    for name, allowed in kinds_of(kind):
        if type(values[name]) not in allowed:
            raise TypeError(f"expected {allowed} for {name}, got {values[name]!r}")
    return kind(**values)


@functools.cache
def kinds_of(kind: type) -> list[tuple[str, set[type]]]:
    """Names and allowed types of the fields of an entry."""
    return [(field.name, KINDS[field.type]) for field in dataclasses.fields(kind)]


def refuse_contradictions(facts: ShardFacts, spec: FeatureSpec) -> None:
    """Compare what a manifest says with itself and with the spec.

    Raises
    ------
    ValueError
        If its name could leave the folder, a tensor lies outside of the file, or its clips are
        not exactly its rows.
    """
    if not SHARD_PATTERN.fullmatch(facts.file):
        raise ValueError(f"a shard named {facts.file!r}")
    mfcc_end = facts.mfcc_offset + facts.rows * spec.mfcc_bytes
    frames_end = facts.frames_offset + facts.rows * spec.frames_bytes
    if facts.rows and not (
        0 < facts.mfcc_offset < mfcc_end <= facts.frames_offset < frames_end <= facts.bytes
    ):
        raise ValueError(f"tensors outside of {facts.file}")
    row = 0
    for clip in facts.clips:
        count = 0 if clip.reason else len(spec.row_names)
        if clip.emotion not in EMOTIONS or clip.row != (row if count else None):
            raise ValueError(f"clip {clip.clip!r} without an emotion, or at another row")
        if len(clip.checksums) != count or not all(type(n) is int for n in clip.checksums):
            raise ValueError(f"expected {count} checksums of clip {clip.clip!r}")
        row += count
    names = [clip.clip for clip in facts.clips]
    if row != facts.rows or names != sorted(set(names)):
        raise ValueError(f"clips that are not the {facts.rows} rows of {facts.file}")
