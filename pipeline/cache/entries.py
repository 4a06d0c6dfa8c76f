"""What an index says of raw files, clips and shards, and when it contradicts itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.spec import EMOTIONS, FeatureSpec

SHARD_PATTERN = re.compile(r"actor-\d+(-\d+)?\.h5", re.ASCII)

Entry = TypeVar("Entry")

KINDS = {
    "str": {str},
    "int": {int},
    "bool": {bool},
    "str | None": {str, type(None)},
    "int | None": {int, type(None)},
    "tuple[int, ...]": {tuple},
    "tuple[Source, ...]": {tuple},
}
"""Types of the values that each annotation below allows; True is no int."""


@dataclass(frozen=True)
class Source:
    """A raw file as it was when its clip was extracted.

    Parameters
    ----------
    path
        Relative to the raw folder, with forward slashes.
    bytes, sha256
        Size and content.
    modified_ns
        Modification time. A different one alone only makes the content be compared.
    """

    path: str
    bytes: int
    sha256: str
    modified_ns: int


@dataclass(frozen=True)
class ClipEntry:
    """A clip in the index: where it came from and where its rows are.

    Parameters
    ----------
    clip, actor, emotion
        Identity, person, and emotion name.
    sources
        Files it was made from.
    shard
        File that holds its rows; None if it could not be read.
    face_found
        Whether a face was found in its window.
    reason
        Why it could not be read; None if it could.
    row
        Position in the shard of its first row; the others follow in the order of the spec's
        ``row_names``. None without rows.
    checksums
        CRC-32 of each of its rows, see :func:`pipeline.cache.checksums.of_row`.
    """

    clip: str
    actor: int
    emotion: str
    sources: tuple[Source, ...]
    shard: str | None
    face_found: bool
    reason: str | None = None
    row: int | None = None
    checksums: tuple[int, ...] = ()


@dataclass(frozen=True)
class ShardEntry:
    """A shard in the index.

    Parameters
    ----------
    file, actor, rows
        Its name, its person, and how many rows it holds.
    bytes, sha256
        Size and content of the whole file.
    mfcc_offset, frames_offset
        Bytes before each tensor.
    """

    file: str
    actor: int
    rows: int
    bytes: int
    sha256: str
    mfcc_offset: int
    frames_offset: int


def entry_of(kind: type[Entry], values: dict) -> Entry:
    """Make an entry of parsed JSON.

    Raises
    ------
    TypeError
        If it has not exactly the fields of its kind, each of its own type.
    """
    entry = kind(**values)
    for field in dataclasses.fields(kind):
        value = getattr(entry, field.name)
        if type(value) not in KINDS[field.type]:
            raise TypeError(f"expected {field.type} for {field.name}, got {value!r}")
    return entry


def refuse_contradictions(
    spec: FeatureSpec, shards: Sequence[ShardEntry], clips: Sequence[ClipEntry]
) -> None:
    """Compare the entries of an index with each other and with its spec.

    Raises
    ------
    ValueError
        If a name could leave the folder, a tensor lies outside of its file, or the clips of a
        shard are not exactly its rows.
    """
    for shard in shards:
        mfcc_end = shard.mfcc_offset + shard.rows * spec.mfcc_bytes
        frames_end = shard.frames_offset + shard.rows * spec.frames_bytes
        if not SHARD_PATTERN.fullmatch(shard.file):
            raise ValueError(f"a shard named {shard.file!r}")
        if not (
            0 < shard.mfcc_offset < mfcc_end <= shard.frames_offset < frames_end <= shard.bytes
        ):
            raise ValueError(f"tensors outside of {shard.file}")
    of_shard = {shard.file: shard for shard in shards}
    firsts: dict[str, list[int]] = {shard.file: [] for shard in shards}
    names: set[str] = set()
    for clip in clips:
        held = clip.reason is None
        rows = len(spec.row_names) if held else 0
        known = clip.emotion in EMOTIONS and clip.clip not in names
        if not known or held != (clip.shard in of_shard) or held != (clip.row is not None):
            raise ValueError(f"clip {clip.clip!r} twice, without an emotion or without its shard")
        if len(clip.checksums) != rows or not all(type(n) is int for n in clip.checksums):
            raise ValueError(f"expected {rows} checksums of clip {clip.clip!r}")
        if held and clip.actor != of_shard[clip.shard].actor:
            raise ValueError(f"clip {clip.clip!r} in the shard of another actor")
        names.add(clip.clip)
        if held:
            firsts[clip.shard].append(clip.row)
    for shard in shards:
        held = sorted(firsts[shard.file])
        step = len(spec.row_names)
        if shard.rows != step * len(held) or held != list(range(0, shard.rows, step)):
            raise ValueError(f"clips that are not the {shard.rows} rows of {shard.file}")
