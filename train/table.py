"""The table of cached rows, and their tensors read by number.

The tensors of a shard lie contiguously in its file, so a row is one ``pread`` at a known offset:
no HDF5 lock, no mapping that counts as memory, and the interpreter lock is free while it copies.
"""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import checksums
from pipeline.errors import InputError
from pipeline.index import Index
from pipeline.spec import EMOTIONS, FeatureSpec
from train import protocol

ALIGNMENT_BYTES = 64
"""What Eigen asks of a tensor's address on processors with AVX-512, and enough for all others."""


@dataclass(frozen=True)
class Rows:
    """A table of cached rows: where each one lies and what it is.

    Parameters
    ----------
    spec
        Shapes of the tensors.
    shards
        Files the rows lie in.
    offsets
        Bytes before the MFCCs and before the frames of each file.
    shard, row
        Place of each row: number in ``shards`` and position in the file.
    label, actor
        Index of its emotion, and its person.
    clip, variant
        Where it came from.
    face_found
        Whether its window shows a face.
    identity, checksum
        CRC-32 of what each row is, and of the whole row, see :func:`pipeline.checksums.of_row`.
    """

    spec: FeatureSpec
    shards: tuple[Path, ...]
    offsets: tuple[tuple[int, int], ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    actor: NDArray[np.int64]
    clip: NDArray[np.str_]
    variant: NDArray[np.str_]
    face_found: NDArray[np.bool_]
    identity: NDArray[np.int64]
    checksum: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the rows where ``chosen``, shape (rows,), is true."""
        columns = (
            column.name
            for column in dataclasses.fields(self)
            if column.name not in ("spec", "shards", "offsets")
        )
        return dataclasses.replace(self, **{name: getattr(self, name)[chosen] for name in columns})


def select_rows(
    index: Index,
    actors: Sequence[int],
    variants: bool = False,
    left_out: Collection[str] = (),
    clip_seed: int | None = None,
) -> Rows:
    """List the rows of some actors, as the index has them; no shard is opened.

    Parameters
    ----------
    index
        A finished cache.
    actors
        Whose rows.
    variants
        Whether the augmented ones are wanted beside the clean ones.
    left_out
        Ids of clips whose rows are not wanted.
    clip_seed
        See :class:`train.protocol.Split`. With a number, whose clips are meant is random.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        If a shard is missing or has another size, an actor has no rows, or none is wanted.
    """
    if missing := sorted(set(actors) - set(index.actors)):
        raise InputError(
            f"expected actors out of {index.actors} in {index.folder}, got "
            f"{missing}; name others or extract theirs"
        )
    names = index.spec.row_names if variants else index.spec.row_names[:1]
    dealt = protocol.deal_clips(clip_owners(index), clip_seed)
    wanted = [
        clip for clip in index.clips if dealt.get(clip.clip) in actors and clip.clip not in left_out
    ]
    if not wanted:
        raise InputError(
            f"expected rows of actors {sorted(actors)} in {index.folder}, got only clips that are "
            "left out; remove the copies of recordings from the raw folder"
        )
    holding = {clip.shard for clip in wanted}
    chosen = [entry for entry in index.shards if entry.file in holding]
    number = {entry.file: place for place, entry in enumerate(chosen)}
    for entry in chosen:
        refuse_other_size(index.folder / entry.file, entry.bytes)
    columns = [
        (
            number[clip.shard],
            clip.row + place,
            EMOTIONS.index(clip.emotion),
            clip.actor,
            clip.clip,
            name,
            clip.face_found,
            identity,
            checksum,
        )
        for clip in sorted(wanted, key=lambda clip: (number[clip.shard], clip.row))
        for place, (name, identity, checksum) in enumerate(
            zip(names, checksums.of_clip(clip, index.spec), clip.checksums, strict=False)
        )
    ]
    return Rows(
        index.spec,
        tuple(index.folder / entry.file for entry in chosen),
        tuple((entry.mfcc_offset, entry.frames_offset) for entry in chosen),
        *(np.array(column) for column in zip(*columns, strict=True)),
    )


def refuse_other_size(path: Path, size: int) -> None:
    """Raise unless a shard is there and as long as it was written."""
    got = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
    if got != f"{size} bytes":
        raise InputError(
            f"expected a shard of {size} bytes at {path}, got {got}; run 'make features' again"
        )


def clip_owners(index: Index) -> dict[str, int]:
    """Actor of each clip that has rows."""
    return {entry.clip: entry.actor for entry in index.clips if entry.shard is not None}


def source_hashes(index: Index, split: protocol.Split) -> set[str]:
    """Hashes of the recordings that a split trains on or chooses by."""
    dealt = protocol.deal_clips(clip_owners(index), split.clip_seed)
    return {
        source.sha256
        for entry in index.clips
        for source in entry.sources
        if dealt.get(entry.clip) in split.train + split.validation
    }


class RowReader:
    """Reads rows by number into fresh batches. Safe to call from several threads.

    Each row is compared with its checksum when it is first read. What the page cache holds does not
    rot, and a comparison costs as much as five further reads.

    Parameters
    ----------
    rows
        The table that the numbers refer to.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.files: list[int] = []
        self.checked = np.zeros(len(rows), bool)
        weakref.finalize(self, close_all, self.files)
        for path in rows.shards:
            self.files.append(os.open(path, os.O_RDONLY))

    def read(
        self,
        numbers: NDArray[np.int64],
        empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.int64]]:
        """Read a batch.

        Parameters
        ----------
        numbers
            Positions in the table, shape (batch,).
        empty
            Makes the arrays that are read into.

        Returns
        -------
        mfcc : ndarray of float32, shape (batch, mfcc_count, mfcc_columns, 1)
        frames : ndarray of uint8, shape (batch, frame_count, size, size, 3)
        label : ndarray of int64, shape (batch,)

        Raises
        ------
        InputError
            If a row is not what was written; the message names file, row and clip.
        """
        spec = self.rows.spec
        mfcc = empty((len(numbers), *spec.mfcc_shape), np.float32)
        frames = empty((len(numbers), *spec.frames_shape), np.uint8)
        for place, number in enumerate(numbers):
            self.read_tensor(number, 0, mfcc[place])
            self.read_tensor(number, 1, frames[place])
            if not self.checked[number]:
                self.check(number, mfcc[place], frames[place])
        return mfcc, frames, self.rows.label[numbers]

    def read_tensor(self, number: int, tensor: int, target: NDArray) -> None:
        """Read the MFCC (0) or the frames (1) of a row into an array."""
        shard, row = self.rows.shard[number], int(self.rows.row[number])
        view = memoryview(target).cast("B")
        place = self.rows.offsets[shard][tensor] + row * len(view)
        try:
            read = os.preadv(self.files[shard], [view], place)
        except OSError as error:
            raise self.damage(number, f"no answer ({error.strerror})") from error
        if read != len(view):
            raise self.damage(number, f"{read} of {len(view)} bytes")

    def check(self, number: int, mfcc: NDArray, frames: NDArray) -> None:
        """Compare a row with its checksum, and remember that it is sound."""
        if (
            checksums.of_row(int(self.rows.identity[number]), mfcc, frames)
            != (self.rows.checksum[number])
        ):
            raise self.damage(number, "other bytes")
        self.checked[number] = True

    def damage(self, number: int, got: str) -> InputError:
        """Make the error that names a row."""
        shard, row = self.rows.shard[number], int(self.rows.row[number])
        return checksums.damage(self.rows.shards[shard], row, str(self.rows.clip[number]), got)


def close_all(files: list[int]) -> None:
    """Close file descriptors."""
    for file in files:
        os.close(file)


class BatchMemory:
    """Arrays that TensorFlow adopts instead of copying, their memory used again when it lets go.

    Fresh memory costs as much as reading into it. An array may be handed to TensorFlow alone:
    slices of it do not keep its memory.
    """

    def __init__(self) -> None:
        self.free: dict[int, list[NDArray[np.uint8]]] = {}

    def empty(self, shape: tuple[int, ...], dtype: type) -> NDArray:
        """Return an uninitialised array, aligned as TensorFlow asks for."""
        length = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = self.free.setdefault(length, [])
        try:
            block = free.pop()
        except IndexError:
            block = np.empty(length + ALIGNMENT_BYTES, np.uint8)
        start = -block.ctypes.data % ALIGNMENT_BYTES
        array = block[start : start + length].view(dtype).reshape(shape)
        weakref.finalize(array, free.append, block).atexit = False
        return array


def mfcc_statistics(rows: Rows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of each MFCC coefficient over some rows, read one at a time.

    Parameters
    ----------
    rows
        Clean training rows.

    Returns
    -------
    mean, variance : ndarray of float32, shape (mfcc_count,)
    """
    sums = np.zeros((2, rows.spec.mfcc_count))
    reader = RowReader(rows)
    for number in range(len(rows)):
        image = reader.read(np.array([number]))[0][0].astype(np.float64)[..., 0]
        sums += image.mean(axis=1), np.square(image).mean(axis=1)
    mean, square = sums / len(rows)
    return mean.astype(np.float32), (square - mean**2).astype(np.float32)
