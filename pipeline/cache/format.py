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

import dataclasses
import datetime
import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache.facts import FORMAT_VERSION, ClipEntry, ShardFacts, write_manifest
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

REMEDY = "'make verify REPAIR=1' makes its shard again, --skip-bad trains without the clip"

TEXT = h5py.string_dtype("utf-8")


class CachedRow(NamedTuple):
    """The tensors of one row."""

    mfcc: NDArray[np.float32]
    frames: NDArray[np.uint8]


ClipRows = tuple[ClipEntry, Sequence[CachedRow]]
"""A clip with its rows in the order of the spec's ``row_names``; none where it has a reason."""


class Fault(NamedTuple):
    """A file of a cache that is not as it was written, and why.

    With the position of the damaged ``row``, if it is one row, and the ``clips`` that cannot be
    read any more.
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


def row_checksum(
    identity: int, mfcc: NDArray[np.float32] | memoryview, frames: NDArray[np.uint8] | memoryview
) -> int:
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
    count: int,
    clips: Iterable[ClipRows],
    libraries: dict[str, str],
) -> ShardFacts:
    """Write a shard, then its manifest.

    Parameters
    ----------
    folder, file
        The cache, and the name of the shard.
    spec, actor
        What the rows mean, and whose they are.
    count, clips
        How many clips there are, and each of them, sorted by id. The rows of one are laid out
        before the next is asked for.
    libraries
        See :class:`pipeline.cache.facts.ShardFacts`.

    Raises
    ------
    OSError
        If the disk refuses; then there is no manifest, and the shard does not count.
    """
    started = time.monotonic()
    content, offsets, entries = lay_out(spec, actor, count * len(spec.row_names), clips)
    if content:
        with atomic.replacing(folder / file) as partial:
            partial.write_bytes(content)
    facts = ShardFacts(
        file,
        actor,
        sum(len(entry.checksums) for entry in entries),
        len(content),
        hashlib.sha256(content).hexdigest(),
        *offsets,
        entries,
        libraries,
        round(time.monotonic() - started, 3),
        datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
    )
    return write_manifest(folder, facts, spec)


def lay_out(
    spec: FeatureSpec, actor: int, count: int, clips: Iterable[ClipRows]
) -> tuple[bytes | memoryview, tuple[int, int], tuple[ClipEntry, ...]]:
    """Lay out at most ``count`` rows as an HDF5 file in memory, each as it comes.

    Returns the file (empty without rows), the bytes before each tensor, and the entries with the
    places and checksums of their rows.
    """
    memory, entries, row = io.BytesIO(), [], 0
    with h5py.File(memory, "w") as file:
        # At once: memory that grew row by row would leave holes behind.
        memory.seek(count * spec.row_bytes)
        memory.write(b"\0")
        file.attrs.update(attributes_of(spec, actor))
        # Each tensor gets its place, whole, when its first row is written.
        mfcc = file.create_dataset("mfcc", (count, *spec.mfcc_shape), np.float32)
        frames = file.create_dataset("frames", (count, *spec.frames_shape), np.uint8)
        for entry, rows in clips:
            first, checksums = row, []
            for variant, tensors in zip(spec.row_names if rows else (), rows, strict=True):
                mfcc[row], frames[row] = tensors
                row += 1
                whole = map(np.ascontiguousarray, tensors)
                checksums.append(row_checksum(row_identity(entry, variant), *whole))
            place = first if rows else None
            entries.append(dataclasses.replace(entry, row=place, checksums=tuple(checksums)))
        for name, values in columns_of(entries, spec).items():
            file.create_dataset(name, data=values, dtype=np.int64 if name == "label" else TEXT)
        offsets = mfcc.id.get_offset(), frames.id.get_offset()
    if not row:
        return b"", (0, 0), tuple(entries)
    if row < count:
        # A clip could not be read. Datasets do not shrink: the rows go to a smaller file.
        with h5py.File(memory, "r") as file:
            return lay_out(spec, actor, row, rows_again(file, entries))
    return memory.getbuffer(), offsets, tuple(entries)


def rows_again(file: h5py.File, entries: Sequence[ClipEntry]) -> Iterator[ClipRows]:
    """Yield each clip with its rows, read from a file that was laid out a moment ago."""
    for entry in entries:
        places = range(entry.row or 0, (entry.row or 0) + len(entry.checksums))
        yield entry, [CachedRow(file["mfcc"][row], file["frames"][row]) for row in places]


def attributes_of(spec: FeatureSpec, actor: int) -> dict[str, Any]:
    """Attributes of a shard."""
    return {
        "format_version": FORMAT_VERSION,
        "digest": spec.digest,
        "spec": spec.to_json(),
        "actor": actor,
    }


def columns_of(clips: Iterable[ClipEntry], spec: FeatureSpec) -> dict[str, list]:
    """Datasets beside the tensors: what each row of some clips is."""
    held = [(clip, variant) for clip in clips if not clip.reason for variant in spec.row_names]
    return {
        "label": [clip.label for clip, _ in held],
        "clip": [clip.clip for clip, _ in held],
        "variant": [variant for _, variant in held],
    }


def read_tensor(file: int, offset: int, row: int, shape: tuple[int, ...], dtype: type) -> NDArray:
    """Read one row of a contiguous tensor; what the file lacks stays zero."""
    tensor: NDArray = np.zeros(shape, dtype)
    os.preadv(file, [memoryview(tensor).cast("B")], offset + row * tensor.nbytes)
    return tensor


def damage(path: Path, row: int, clip: str, got: str = "other bytes") -> InputError:
    """Make the error that names a damaged row."""
    return InputError(
        f"expected row {row} of {path}, clip {clip}, as it was written, got {got}; {REMEDY}"
    )


def check_shard(folder: Path, facts: ShardFacts, spec: FeatureSpec) -> list[Fault]:
    """Read a shard from its first byte to its last, and compare all of it with its manifest.

    Damaged rows are listed, where the tensors are damaged; else what is wrong with the file.
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
    if faults := list(damaged_rows(memoryview(content), facts, spec)):
        return faults
    if hashlib.sha256(content).hexdigest() != facts.sha256:
        return [Fault(facts.file, "other bytes outside of the rows' tensors, which are sound")]
    if differing := contradiction(content, facts, spec):
        return [Fault(facts.file, f"{differing} is not what the manifest says", clips=everyone)]
    return []


def damaged_rows(content: memoryview, facts: ShardFacts, spec: FeatureSpec) -> Iterator[Fault]:
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
    """Open a file whose SHA-256 is right, and name what of it disagrees with the manifest."""
    with h5py.File(io.BytesIO(content), "r") as file:
        for name, value in attributes_of(spec, facts.actor).items():
            if file.attrs[name] != value:
                return name
        for name, values in columns_of(facts.clips, spec).items():
            column = file[name] if name == "label" else file[name].asstr()
            if column[:].tolist() != values:
                return name
        offsets = file["mfcc"].id.get_offset(), file["frames"].id.get_offset()
        return None if offsets == (facts.mfcc_offset, facts.frames_offset) else "a tensor's offset"
