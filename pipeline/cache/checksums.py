"""Where a cached row lies in its shard, and whether it still is what was written.

The tensors of a shard lie contiguously in its file, and the index says where, so a row is two
reads at known offsets: nothing of HDF5 is interpreted, whatever happened to the file since.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.index import ClipEntry, ShardEntry, Source
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec

REMEDY = "'make verify REPAIR=1' makes the clip again, --skip-bad trains without it"


class CachedRow(NamedTuple):
    """The tensors of one row, and the name of its variant."""

    variant: str
    mfcc: NDArray[np.float32]
    frames: NDArray[np.uint8]


def sources_text(sources: Sequence[Source]) -> str:
    """Raw files of a clip as a shard keeps them: JSON of path, size and SHA-256 of each."""
    return json.dumps([[source.path, source.bytes, source.sha256] for source in sources])


def of_identity(
    actor: int, label: int, clip: str, variant: str, face_found: bool, sources: str
) -> int:
    """Checksum of what a row is, without its tensors."""
    text = json.dumps([actor, label, clip, variant, face_found, sources])
    return zlib.crc32(text.encode())


def of_clip(clip: ClipEntry, spec: FeatureSpec) -> list[int]:
    """Checksums of what each row of a clip is, in the order of the spec's rows."""
    label, sources = EMOTIONS.index(clip.emotion), sources_text(clip.sources)
    return [
        of_identity(clip.actor, label, clip.clip, name, clip.face_found, sources)
        for name in spec.row_names
    ]


def of_row(identity: int, mfcc: NDArray[np.float32], frames: NDArray[np.uint8]) -> int:
    """Checksum of a whole row: what it is, then its tensors.

    Notes
    -----
    CRC-32 as zlib computes it (ISO 3309). It catches every damage to a single byte and any within
    32 bits for certain, any other but for one in 2^32. It guards against decay, not against
    malice; the whole file's SHA-256 in the index does both.
    """
    return zlib.crc32(frames, zlib.crc32(mfcc, identity))


def damage(path: Path, row: int, clip: str, got: str = "other bytes") -> InputError:
    """Make the error that names a damaged row."""
    return InputError(
        f"expected row {row} of {path}, clip {clip}, as it was written, got {got}; {REMEDY}"
    )


def read_clip(
    folder: Path, shard: ShardEntry, clip: ClipEntry, spec: FeatureSpec
) -> Iterator[CachedRow]:
    """Read and check the rows of one clip.

    Raises
    ------
    InputError
        If a row is not what was written; the message names file, row and clip.
    """
    path = folder / shard.file
    kinds = zip(spec.row_names, of_clip(clip, spec), clip.checksums, strict=True)
    with path.open("rb") as file:
        for row, (variant, known, written) in enumerate(kinds, start=clip.row):
            try:
                read = CachedRow(
                    variant,
                    read_tensor(file.fileno(), shard.mfcc_offset, row, spec.mfcc_shape, np.float32),
                    read_tensor(
                        file.fileno(), shard.frames_offset, row, spec.frames_shape, np.uint8
                    ),
                )
            except OSError as error:
                raise damage(path, row, clip.clip, f"no answer ({error.strerror})") from error
            if of_row(known, read.mfcc, read.frames) != written:
                raise damage(path, row, clip.clip)
            yield read


def is_intact(folder: Path, shard: ShardEntry, clip: ClipEntry, spec: FeatureSpec) -> bool:
    """Read the rows of one clip and say whether all of them are what was written."""
    try:
        for _ in read_clip(folder, shard, clip, spec):
            pass
    except InputError:
        return False
    return True


def read_tensor(file: int, offset: int, row: int, shape: tuple[int, ...], dtype: type) -> NDArray:
    """Read one row of a contiguous tensor; what the file lacks stays zero."""
    tensor = np.zeros(shape, dtype)
    os.preadv(file, [memoryview(tensor).cast("B")], offset + row * tensor.nbytes)
    return tensor
