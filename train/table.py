"""The table of cached rows, and their tensors read by number.

The tensors of a shard lie contiguously in its file, so a row is one ``pread`` at a known offset:
no HDF5 lock, no mapping that counts as memory, and the interpreter lock is free while it copies.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import shards
from pipeline.errors import InputError
from pipeline.index import Index
from pipeline.spec import CLEAN, FeatureSpec

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
    shard, row
        Place of each row: number in ``shards`` and position in the file.
    label, actor
        Index of its emotion, and its person.
    clip, variant
        Where it came from.
    face_found
        Whether its window shows a face.
    """

    spec: FeatureSpec
    shards: tuple[Path, ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    actor: NDArray[np.int64]
    clip: NDArray[np.str_]
    variant: NDArray[np.str_]
    face_found: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.row)


def select_rows(index: Index, actors: Sequence[int], variants: bool = False) -> Rows:
    """List the rows of some actors.

    Parameters
    ----------
    index
        A finished cache.
    actors
        Whose rows.
    variants
        Whether the augmented ones are wanted beside the clean ones.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        If a shard is missing or foreign, or an actor has no rows.
    """
    if missing := sorted(set(actors) - set(index.actors)):
        raise InputError(
            f"expected actors out of {index.actors} in {index.folder}, got "
            f"{missing}; name others or extract theirs"
        )
    paths, columns = [], []
    for entry in index.shards:
        if entry.actor not in actors:
            continue
        path = index.folder / entry.file
        with shards.open_shard(path, index.spec) as file:
            variant = file["variant"].asstr()[:].astype(str)
            wanted = np.flatnonzero(np.ones_like(variant, bool) if variants else variant == CLEAN)
            columns.append(
                (
                    np.full(len(wanted), len(paths)),
                    wanted,
                    file["label"][:][wanted],
                    np.full(len(wanted), entry.actor),
                    file["clip"].asstr()[:].astype(str)[wanted],
                    variant[wanted],
                    file["face_found"][:][wanted],
                )
            )
        paths.append(path)
    return Rows(index.spec, tuple(paths), *map(np.concatenate, zip(*columns, strict=True)))


class RowReader:
    """Reads rows by number into fresh batches. Safe to call from several threads.

    Parameters
    ----------
    rows
        The table that the numbers refer to.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.files: list[int] = []
        self.offsets: list[tuple[int, int]] = []
        weakref.finalize(self, close_all, self.files)
        for path in rows.shards:
            with shards.open_shard(path, rows.spec) as file:
                places = (file["mfcc"].id.get_offset(), file["frames"].id.get_offset())
            if None in places:
                raise InputError(
                    f"expected contiguous tensors in {path}, got chunks; run 'make features' again"
                )
            self.offsets.append(places)
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
        """
        spec = self.rows.spec
        mfcc = empty((len(numbers), *spec.mfcc_shape), np.float32)
        frames = empty((len(numbers), *spec.frames_shape), np.uint8)
        for place, number in enumerate(numbers):
            shard, row = self.rows.shard[number], int(self.rows.row[number])
            for tensor, offset in zip((mfcc, frames), self.offsets[shard], strict=True):
                target = memoryview(tensor[place]).cast("B")
                read = os.preadv(self.files[shard], [target], offset + row * len(target))
                if read != len(target):
                    raise InputError(
                        f"expected {len(target)} bytes of row {row} in "
                        f"{self.rows.shards[shard]}, got {read}; the file is cut "
                        "short, remove it and run 'make features' again"
                    )
        return mfcc, frames, self.rows.label[numbers]


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
    for shard, path in enumerate(rows.shards):
        with shards.open_shard(path, rows.spec) as file:
            for row in rows.row[rows.shard == shard]:
                image = file["mfcc"][row].astype(np.float64)[..., 0]
                sums += image.mean(axis=1), np.square(image).mean(axis=1)
    mean, square = sums / len(rows)
    return mean.astype(np.float32), (square - mean**2).astype(np.float32)
