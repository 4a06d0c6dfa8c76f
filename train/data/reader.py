"""Tensors of cached rows by number, into memory that TensorFlow takes as it is.

The tensors of a shard are contiguous in its file, so a row is two ``pread`` at known offsets: no
HDF5 lock, no mapping that counts as memory, and the interpreter lock is free while it copies.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import format as shard_format
from pipeline.errors import InputError
from train.data.rows import Rows
from train.heads import TENSORS

ALIGNMENT_BYTES = 64
"""What Eigen asks of a tensor's address on processors with AVX-512, and enough for all others."""

OPEN_SHARDS = 64
"""Most files that a reader keeps open. A training has several readers at a time, and a process
often may open no more than 1,024 files."""


class OpenShard:
    """A file descriptor that is closed once nobody uses it."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)


class RowReader:
    """Reads rows by number into fresh batches. Safe to call from several threads.

    Each row is compared with its checksum when it is first read: a comparison costs as much as five
    further reads. The checksum is that of both tensors, so the first read of a row takes both,
    whatever is asked for; all further reads take no more than that. Shards are opened when they
    are needed, ``OPEN_SHARDS`` at most stay open.

    Parameters
    ----------
    rows
        The table that the numbers refer to.
    check
        Whether rows are compared at all.
    """

    def __init__(self, rows: Rows, check: bool = True) -> None:
        self.rows = rows
        self.kinds = {
            "mfcc": (rows.spec.mfcc_shape, np.float32),
            "frames": (rows.spec.frames_shape, np.uint8),
        }
        self.checked = np.full(len(rows), not check)
        # Threads share it; a shard that it drops is closed after the last read that goes on.
        self.open = functools.lru_cache(maxsize=OPEN_SHARDS)(OpenShard)

    def read(
        self,
        numbers: NDArray[np.int64],
        names: Collection[str] = TENSORS,
        empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
    ) -> dict[str, NDArray]:
        """Read a batch.

        Parameters
        ----------
        numbers
            Positions in the table, shape (batch,).
        names
            Which tensors are wanted, out of ``TENSORS``.
        empty
            Makes the arrays that are read into.

        Returns
        -------
        dict of str to ndarray
            ``mfcc`` float32 (batch, mfcc_count, mfcc_columns, 1) and ``frames`` uint8 (batch,
            frame_count, size, size, 3), those that are wanted.

        Raises
        ------
        InputError
            If a row is not what was written; the message names file, row and clip.
        """
        batch = {
            name: empty((len(numbers), *shape), kind)
            for name, (shape, kind) in self.kinds.items()
            if name in names
        }
        for place, number in enumerate(numbers):
            self.read_row(number, {name: tensors[place] for name, tensors in batch.items()})
        return batch

    def read_row(self, number: int, targets: dict[str, NDArray]) -> None:
        """Read the tensors of a row that there are arrays for; the first time compare it."""
        if self.checked[number]:
            for name, target in targets.items():
                self.read_tensor(number, name, target)
            return
        row = {
            name: targets[name] if name in targets else np.empty(shape, kind)
            for name, (shape, kind) in self.kinds.items()
        }
        for name, target in row.items():
            self.read_tensor(number, name, target)
        checksum = shard_format.row_checksum(int(self.rows.identity[number]), *row.values())
        if checksum != self.rows.checksum[number]:
            raise self.damage(number, "other bytes")
        self.checked[number] = True

    def read_tensor(self, number: int, name: str, target: NDArray) -> None:
        """Read a tensor of a row into an array."""
        shard, row = self.rows.shard[number], int(self.rows.row[number])
        view = memoryview(target).cast("B")
        place = self.rows.offsets[shard][TENSORS.index(name)] + row * len(view)
        try:
            file = self.open(self.rows.shards[shard])
            read = os.preadv(file.descriptor, [view], place)
        except OSError as error:
            raise self.damage(number, f"no answer ({error.strerror})") from error
        if read != len(view):
            raise self.damage(number, f"{read} of {len(view)} bytes")

    def damage(self, number: int, got: str) -> InputError:
        """Make the error that names a row."""
        shard, row = self.rows.shard[number], int(self.rows.row[number])
        return shard_format.damage(self.rows.shards[shard], row, str(self.rows.clip[number]), got)


class BatchMemory:
    """Arrays that TensorFlow adopts instead of copying; their memory is reused once it is free.

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
        array: NDArray = block[start : start + length].view(dtype).reshape(shape)
        weakref.finalize(array, free.append, block).atexit = False
        return array
