"""The shard format, version 3: one HDF5 file of rows, written once, and how it is read.

``/mfcc`` float32 (N, 40, 44, 1) and, behind it, ``/frames`` uint8 (N, 20, 112, 112, 3) RGB are
contiguous; ``/label`` int64, ``/clip`` and ``/variant`` UTF-8 say what each row is. Attributes:
``format_version``, ``digest``, ``spec`` (JSON), ``actor``. The manifest beside the file says the
rest, see :mod:`pipeline.cache.facts`.

HDF5 may crash on a damaged file, so it opens none: training reads rows at the offsets in the
manifest and compares their CRC-32, and :func:`check_shard` compares the file's SHA-256 before
HDF5 sees it. HDF5 may crash, too, where the disk refuses what it writes, so it writes to memory.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache.facts import (
    FORMAT_VERSION,
    ClipEntry,
    ShardFacts,
    manifest_path,
    write_manifest,
)
from pipeline.corpora.sources import Source
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

REMEDY = "'make verify REPAIR=1' makes its shard again, --skip-bad trains without the clip"

TEXT = h5py.string_dtype("utf-8")


class CachedRow(NamedTuple):
    """The tensors of one row, and the name of its variant."""

    variant: str
    mfcc: NDArray[np.float32]
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class ClipRows:
    """What a shard gets of one clip: its rows, or the reason why there are none.

    Parameters
    ----------
    clip, emotion, sources
        See :class:`pipeline.cache.facts.ClipEntry`.
    rows
        In the order of the spec's ``row_names``; empty where there is a reason.
    face_found, has_audio, has_video, reason, transient
        See :class:`pipeline.cache.facts.ClipEntry`.
    """

    clip: str
    emotion: str
    sources: tuple[Source, ...]
    rows: tuple[CachedRow, ...] = ()
    face_found: bool = False
    has_audio: bool = False
    has_video: bool = False
    reason: str | None = None
    transient: bool = False


@dataclass(frozen=True)
class Fault:
    """Something in a cache that is not as it was written.

    Parameters
    ----------
    file
        Name in the folder.
    reason
        What is wrong.
    row
        Position of the damaged row; None where it is not one row.
    clips
        Clips that cannot be read any more because of it.
    """

    file: str
    reason: str
    row: int | None = None
    clips: tuple[str, ...] = ()

    def __str__(self) -> str:
        place = self.file if self.row is None else f"{self.file} row {self.row}"
        lost = f"{len(self.clips)} clips" if len(self.clips) > 1 else "".join(self.clips)
        return f"{place}{', ' if lost else ''}{lost}: {self.reason}"


def row_identity(clip: ClipEntry, variant: str) -> int:
    """CRC-32 of what a row is, without its tensors."""
    sources = [[source.path, source.bytes, source.sha256] for source in clip.sources]
    seen = [clip.face_found, clip.has_audio, clip.has_video]
    text = json.dumps([clip.actor, clip.label, clip.clip, variant, *seen, sources])
    return zlib.crc32(text.encode())


def row_checksum(identity: int, mfcc: NDArray[np.float32], frames: NDArray[np.uint8]) -> int:
    """CRC-32 of a row: what it is, then its tensors.

    Notes
    -----
    As zlib computes it (ISO 3309). It catches every damage within 32 bits for certain, any other
    but for one in 2^32. It guards against decay, not against malice; the file's SHA-256 does both.
    """
    return zlib.crc32(frames, zlib.crc32(mfcc, identity))


def write_shard(
    folder: Path,
    file: str,
    spec: FeatureSpec,
    actor: int,
    clips: Sequence[ClipRows],
    libraries: dict[str, str],
    seconds: float,
    finished: str,
) -> ShardFacts:
    """Write a shard, then its manifest.

    Parameters
    ----------
    folder, file
        The cache, and the name of the shard.
    spec, actor
        What the rows mean, and whose they are.
    clips
        At least one, sorted by id.
    libraries, seconds, finished
        See :class:`pipeline.cache.facts.ShardFacts`.

    Raises
    ------
    OSError
        If the disk refuses; then there is no manifest, and the shard does not count.
    """
    content, offsets = b"", (0, 0)
    if any(clip.rows for clip in clips):
        content, offsets = encode(spec, actor, clips)
        with atomic.replacing(folder / file) as partial:
            partial.write_bytes(content)
    facts = ShardFacts(
        file,
        actor,
        sum(len(clip.rows) for clip in clips),
        len(content),
        hashlib.sha256(content).hexdigest(),
        *offsets,
        tuple(entries(file, actor, clips)),
        libraries,
        round(seconds, 3),
        finished,
    )
    return write_manifest(folder, facts, spec)


def encode(
    spec: FeatureSpec, actor: int, clips: Sequence[ClipRows]
) -> tuple[memoryview, tuple[int, int]]:
    """Lay rows out as an HDF5 file in memory; return it and the offsets of both tensors."""
    rows = [row for clip in clips for row in clip.rows]
    labels = [EMOTIONS.index(clip.emotion) for clip in clips for _ in clip.rows]
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["digest"] = spec.digest
        file.attrs["spec"] = spec.to_json()
        file.attrs["actor"] = actor
        mfcc = file.create_dataset("mfcc", (len(rows), *spec.mfcc_shape), np.float32)
        frames = file.create_dataset("frames", (len(rows), *spec.frames_shape), np.uint8)
        # The order of writing is the order in the file; one tensor whole, then the other.
        for place, row in enumerate(rows):
            mfcc[place] = row.mfcc
        for place, row in enumerate(rows):
            frames[place] = row.frames
        file.create_dataset("label", data=labels, dtype=np.int64)
        names = [clip.clip for clip in clips for _ in clip.rows]
        file.create_dataset("clip", data=names, dtype=TEXT)
        file.create_dataset("variant", data=[row.variant for row in rows], dtype=TEXT)
        offsets = mfcc.id.get_offset(), frames.id.get_offset()
    return memory.getbuffer(), offsets


def entries(file: str, actor: int, clips: Sequence[ClipRows]) -> Iterator[ClipEntry]:
    """Yield what the manifest says of each clip."""
    row = 0
    for clip in clips:
        entry = ClipEntry(
            clip.clip,
            actor,
            clip.emotion,
            file,
            clip.sources,
            row if clip.rows else None,
            (),
            clip.face_found,
            clip.has_audio,
            clip.has_video,
            clip.reason,
            clip.transient,
        )
        checksums = tuple(
            row_checksum(
                row_identity(entry, own.variant), *map(np.ascontiguousarray, (own.mfcc, own.frames))
            )
            for own in clip.rows
        )
        yield ClipEntry(**{**vars(entry), "checksums": checksums})
        row += len(clip.rows)


def has_file(folder: Path, facts: ShardFacts) -> bool:
    """Whether the file of a shard is there and as long as it was written."""
    if not facts.rows:
        return True
    try:
        return (folder / facts.file).stat().st_size == facts.bytes
    except FileNotFoundError:
        return False


def remove_shard(folder: Path, file: str) -> None:
    """Remove a shard, the manifest first: what is left of an interrupted removal does not count."""
    manifest_path(folder, file).unlink(missing_ok=True)
    (folder / file).unlink(missing_ok=True)


def read_tensor(file: int, offset: int, row: int, shape: tuple[int, ...], dtype: type) -> NDArray:
    """Read one row of a contiguous tensor; what the file lacks stays zero."""
    tensor = np.zeros(shape, dtype)
    os.preadv(file, [memoryview(tensor).cast("B")], offset + row * tensor.nbytes)
    return tensor


def read_clip(
    folder: Path, facts: ShardFacts, clip: ClipEntry, spec: FeatureSpec
) -> Iterator[CachedRow]:
    """Read and check the rows of one clip.

    Raises
    ------
    InputError
        If a row is not what was written; the message names file, row and clip.
    """
    path = folder / facts.file
    with path.open("rb") as file:
        number = file.fileno()
        for place, (variant, written) in enumerate(
            zip(spec.row_names, clip.checksums, strict=True)
        ):
            row = clip.row + place
            try:
                mfcc = read_tensor(number, facts.mfcc_offset, row, spec.mfcc_shape, np.float32)
                frames = read_tensor(number, facts.frames_offset, row, spec.frames_shape, np.uint8)
            except OSError as error:
                raise damage(path, row, clip.clip, f"no answer ({error.strerror})") from error
            if row_checksum(row_identity(clip, variant), mfcc, frames) != written:
                raise damage(path, row, clip.clip)
            yield CachedRow(variant, mfcc, frames)


def damage(path: Path, row: int, clip: str, got: str = "other bytes") -> InputError:
    """Make the error that names a damaged row."""
    return InputError(
        f"expected row {row} of {path}, clip {clip}, as it was written, got {got}; {REMEDY}"
    )


def check_shard(folder: Path, facts: ShardFacts, spec: FeatureSpec) -> list[Fault]:
    """Read a shard from its first byte to its last, and compare all of it with its manifest.

    Returns
    -------
    list of Fault
        Damaged rows, where the tensors are damaged; else what is wrong with the file.
    """
    if not facts.rows:
        return []
    everyone = tuple(clip.clip for clip in facts.clips if not clip.reason)
    try:
        content = (folder / facts.file).read_bytes()
    except OSError as error:
        return [Fault(facts.file, f"cannot be read: {error.strerror}", clips=everyone)]
    if len(content) != facts.bytes:
        reason = f"expected {facts.bytes} bytes, got {len(content)}"
        return [Fault(facts.file, reason, clips=everyone)]
    faults = list(check_rows(memoryview(content), facts, spec))
    if not faults and hashlib.sha256(content).hexdigest() != facts.sha256:
        faults = [Fault(facts.file, "other bytes outside of the rows' tensors, which are sound")]
    if not faults and (reason := contradiction(content, facts, spec)):
        faults = [Fault(facts.file, f"{reason} is not what the manifest says", clips=everyone)]
    return faults


def check_rows(content: memoryview, facts: ShardFacts, spec: FeatureSpec) -> Iterator[Fault]:
    """Compare the checksum of every row of a file."""
    for clip in facts.clips:
        for place, written in enumerate(clip.checksums):
            row, variant = clip.row + place, spec.row_names[place]
            mfcc_start = facts.mfcc_offset + row * spec.mfcc_bytes
            frames_start = facts.frames_offset + row * spec.frames_bytes
            found = row_checksum(
                row_identity(clip, variant),
                content[mfcc_start : mfcc_start + spec.mfcc_bytes],
                content[frames_start : frames_start + spec.frames_bytes],
            )
            if found != written:
                reason = f"its {variant} row is not what was written"
                yield Fault(facts.file, reason, row, (clip.clip,))


def contradiction(content: bytes, facts: ShardFacts, spec: FeatureSpec) -> str | None:
    """Open a file whose SHA-256 is right, and name the column that disagrees with the manifest."""
    held = [clip for clip in facts.clips if not clip.reason]
    step = len(spec.row_names)
    expected = {
        "label": [clip.label for clip in held for _ in range(step)],
        "clip": [clip.clip for clip in held for _ in range(step)],
        "variant": [name for _ in held for name in spec.row_names],
    }
    with h5py.File(io.BytesIO(content), "r") as file:
        attributes = {
            "format_version": FORMAT_VERSION,
            "digest": spec.digest,
            "spec": spec.to_json(),
            "actor": facts.actor,
        }
        for name, value in attributes.items():
            if file.attrs[name] != value:
                return name
        for name, values in expected.items():
            column = file[name] if name == "label" else file[name].asstr()
            if column[:].tolist() != values:
                return name
        offsets = file["mfcc"].id.get_offset(), file["frames"].id.get_offset()
        return None if offsets == (facts.mfcc_offset, facts.frames_offset) else "a tensor's offset"
