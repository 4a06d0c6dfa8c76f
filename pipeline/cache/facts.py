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
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.corpora.sources import Source
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

FORMAT_VERSION = 3

SHARD_SUFFIX = ".h5"
MANIFEST_PATTERN = "actor-*.json"
SHARD_PATTERN = re.compile(r"actor-\d+-[0-9a-f]{10}(\.\d+)?\.h5", re.ASCII)
"""Actor, what identifies its clips, and how many older shards of the same clips there are."""

FEATURES = "run 'make features'"

PARSING = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading JSON of unknown content may raise."""


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
    bytes, sha256, mfcc_offset, frames_offset
        Size and content of the file, and the bytes before each tensor.
    clips
        Its clips, sorted by id.
    libraries, seconds, finished
        Versions of what made it, how long that took, and when it was finished (UTC, ISO 8601).
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
    return folder / f"{shard.removesuffix(SHARD_SUFFIX)}.json"


def canonical_sha256(content: object) -> str:
    """SHA-256 of what some JSON says, in hexadecimal, whatever its layout."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: dict, spec: FeatureSpec) -> dict:
    """Return what a manifest or an index says, with format, spec and checksum."""
    content = {
        "format_version": FORMAT_VERSION,
        "digest": spec.digest,
        "spec": json.loads(spec.to_json()),
        **content,
    }
    return content | {"checksum": canonical_sha256(content)}


def read_sealed(path: Path, what: str) -> dict:
    """Read JSON that :func:`sealed` made; anything else is an InputError."""
    try:
        content = json.loads(path.read_bytes())
        version, checksum = content["format_version"], content.pop("checksum", None)
    except FileNotFoundError as error:
        raise InputError(f"expected {what} at {path}, got nothing; {FEATURES} first") from error
    except (OSError, *PARSING) as error:
        raise unusable(path, what, error) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"expected cache format {FORMAT_VERSION} in {path}, got {version!r}; "
            f"remove {path.parent} and {FEATURES} again"
        )
    if checksum != canonical_sha256(content):
        raise unusable(path, what, "another checksum")
    return content | {"checksum": checksum}


def unusable(path: Path, what: str, got: object) -> InputError:
    """Make the error of a manifest or an index that is not one of this version."""
    return InputError(f"expected {what} of this version in {path}, got: {got}; {FEATURES} again")


def write_manifest(folder: Path, facts: ShardFacts, spec: FeatureSpec) -> ShardFacts:
    """Write the manifest of a shard, which counts from now on; return it with its checksum."""
    content = dataclasses.asdict(facts)
    for clip in content["clips"]:
        # The shard says both.
        del clip["actor"], clip["shard"]
    del content["checksum"]
    content = sealed(content, spec)
    atomic.write_durably(manifest_path(folder, facts.file), json.dumps(content, indent=1).encode())
    return dataclasses.replace(facts, checksum=content["checksum"])


def read_manifest(path: Path, spec: FeatureSpec) -> ShardFacts:
    """Read the manifest of a shard whose numbers have to mean what a spec says.

    Raises
    ------
    InputError
        If it is missing, damaged, of another format or of another spec.
    """
    content = read_sealed(path, "a manifest")
    try:
        if content["digest"] != spec.digest:
            raise ValueError(f"features of spec {content['digest']}")
        del content["format_version"], content["digest"], content["spec"]
        shared = {"actor": content["actor"], "shard": content["file"]}
        clips = tuple(clip_of(clip | shared) for clip in content["clips"])
        facts = record_of(ShardFacts, content | {"clips": clips})
        if manifest_path(path.parent, facts.file) != path:
            raise ValueError(f"the manifest of {facts.file!r}")
        refuse_contradictions(facts, spec)
    except PARSING as error:
        raise unusable(path, "a manifest", error) from error
    return facts


def clip_of(values: dict) -> ClipEntry:
    """Make an entry of parsed JSON."""
    sources = tuple(record_of(Source, source) for source in values["sources"])
    checksums = tuple(values["checksums"])
    return record_of(ClipEntry, values | {"sources": sources, "checksums": checksums})


def record_of(kind: type, values: dict) -> Any:
    """Make a record of parsed JSON that has exactly its fields, each of its own type."""
    for name, allowed in types_of(kind).items():
        if type(values[name]) not in allowed:
            raise TypeError(f"expected {allowed} for {name}, got {values[name]!r}")
    return kind(**values)


@functools.cache
def types_of(kind: type) -> dict[str, set[type]]:
    """Types of the values that each field's annotation allows; True is no int."""
    allowed = {}
    for name, hint in typing.get_type_hints(kind).items():
        kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        # JSON writes 2.0 as 2.0, but people may write 2.
        kinds = (float, int) if hint is float else kinds
        allowed[name] = {typing.get_origin(kind) or kind for kind in kinds}
    return allowed


def refuse_contradictions(facts: ShardFacts, spec: FeatureSpec) -> None:
    """Compare what a manifest says with itself and with the spec.

    Its name stays in the folder, its tensors in the file, and its clips are exactly its rows.
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
