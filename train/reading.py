"""Tensors of cached rows by number, into memory that TensorFlow takes as it is.

The tensors of a shard are contiguous in its file, so a row is two ``pread`` at known offsets: no
HDF5 lock, no mapping that counts as memory, and the interpreter lock is free while it copies.
"""

from __future__ import annotations

import functools
import os
import weakref
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import format as shard_format
from pipeline.errors import InputError
from train import rest
from train.heads import INPUT_NAMES
from train.table import Rows

ROW_TYPES = np.float32, np.uint8
"""Of the tensors of a row, in the order of ``INPUT_NAMES``."""

REST_STREAM = 7
"""Sets what is drawn here apart from what else a step draws by its seed."""

ALIGNMENT_BYTES = 64
"""What Eigen asks of a tensor's address on processors with AVX-512, and enough for all others."""

OPEN_SHARDS = 64
"""Most files that a reader keeps open. A training has up to eight readers at a time, and a process
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
        Whether rows are compared at all, for whoever sees to it that they are elsewhere.
    """

    def __init__(self, rows: Rows, check: bool = True) -> None:
        self.rows, self.shapes = rows, (rows.spec.mfcc_shape, rows.spec.frames_shape)
        self.rest = RowReader(rows.rest.rows, check) if rows.rest is not None else None
        self.checked = np.full(len(rows), not check)
        # Threads share it; a shard that it drops is closed after the last read that goes on.
        self.open = functools.lru_cache(maxsize=OPEN_SHARDS)(OpenShard)

    def read(
        self,
        numbers: NDArray[np.int64],
        empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
        inputs: Collection[str] = INPUT_NAMES,
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None, NDArray[np.int64]]:
        """Read a batch.

        Parameters
        ----------
        numbers
            Positions in the table, shape (batch,).
        empty
            Makes the arrays that are read into.
        inputs
            Which tensors are wanted.

        Returns
        -------
        mfcc : ndarray of float32, shape (batch, mfcc_count, mfcc_columns, 1)
        frames : ndarray of uint8, shape (batch, frame_count, size, size, 3)
            None where it is not wanted.
        label : ndarray of int64, shape (batch,)

        Raises
        ------
        InputError
            If a row is not what was written; the message names file, row and clip.
        """
        kinds = zip(INPUT_NAMES, self.shapes, ROW_TYPES, strict=True)
        batches = [
            empty((len(numbers), *shape), dtype) if name in inputs else None
            for name, shape, dtype in kinds
        ]
        for place, number in enumerate(numbers):
            self.read_row(number, [batch if batch is None else batch[place] for batch in batches])
        return *batches, self.rows.label[numbers]

    def read_row(self, number: int, targets: Sequence[NDArray | None]) -> None:
        """Read the tensors of a row that there are arrays for; the first time compare it."""
        first = not self.checked[number]
        if first:
            targets = [
                np.empty(shape, dtype) if target is None else target
                for target, shape, dtype in zip(targets, self.shapes, ROW_TYPES, strict=True)
            ]
        for tensor, target in enumerate(targets):
            if target is not None:
                self.read_tensor(number, tensor, target)
        if first:
            self.check(number, *targets)

    def relate(
        self,
        numbers: NDArray[np.int64],
        mfcc: NDArray[np.float32] | None,
        frames: NDArray[np.uint8] | None,
        seed: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None]:
        """Relate tensors of some rows to their people at rest, where the table knows them.

        Parameters
        ----------
        numbers
            See :meth:`read`.
        mfcc, frames
            What it returned, or what has become of that.
        seed
            Numbers that fix which neutral clip each row is read against; None takes all of them.

        Returns
        -------
        tuple of ndarray
            See :func:`train.rest.relate`; what was given, where nobody is known.
        """
        wanted = {"mfcc": mfcc, "frames": frames}
        inputs = [name for name, tensor in wanted.items() if tensor is not None]
        at_rest = self.at_rest(numbers, seed, inputs)
        return (mfcc, frames) if at_rest is None else rest.relate(mfcc, frames, *at_rest)

    def at_rest(
        self,
        numbers: NDArray[np.int64],
        seed: NDArray[np.int64] | None = None,
        inputs: Collection[str] = INPUT_NAMES,
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None] | None:
        """Read the person of each row at rest, None where the table knows nobody.

        Parameters
        ----------
        numbers, seed
            See :meth:`relate`.
        inputs
            See :meth:`read`.

        Returns
        -------
        tuple of ndarray or None
            MFCCs and frames as of :meth:`read`.
        """
        if self.rest is None:
            return None
        serving = self.rows.rest.numbers[numbers]
        if seed is not None:
            random = np.random.default_rng((*seed, REST_STREAM))
            choice = random.integers(serving.shape[1], size=len(numbers))
            chosen = serving[np.arange(len(numbers)), choice]
            mfcc, frames, _ = self.rest.read(chosen, inputs=inputs)
            return mfcc, frames
        dealt = [
            rest.deal(*self.rest.read(np.unique(choices), inputs=inputs)[:2]) for choices in serving
        ]
        mfcc, frames = (
            None if tensors[0] is None else np.stack(tensors)
            for tensors in zip(*dealt, strict=True)
        )
        return mfcc, frames

    def read_tensor(self, number: int, tensor: int, target: NDArray) -> None:
        """Read the MFCC (0) or the frames (1) of a row into an array."""
        shard, row = self.rows.shard[number], int(self.rows.row[number])
        view = memoryview(target).cast("B")
        place = self.rows.offsets[shard][tensor] + row * len(view)
        try:
            file = self.open(self.rows.shards[shard])
            read = os.preadv(file.descriptor, [view], place)
        except OSError as error:
            raise self.damage(number, f"no answer ({error.strerror})") from error
        if read != len(view):
            raise self.damage(number, f"{read} of {len(view)} bytes")

    def check(self, number: int, mfcc: NDArray, frames: NDArray) -> None:
        """Compare a row with its checksum, and remember that it is sound."""
        identity = int(self.rows.identity[number])
        if shard_format.row_checksum(identity, mfcc, frames) != self.rows.checksum[number]:
            raise self.damage(number, "other bytes")
        self.checked[number] = True

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
        array = block[start : start + length].view(dtype).reshape(shape)
        weakref.finalize(array, free.append, block).atexit = False
        return array


class MfccStatistics(NamedTuple):
    """Statistics of the MFCCs of some rows, each of shape (mfcc_count,) and type float32.

    Parameters
    ----------
    mean, variance
        Of each coefficient.
    speaker_deviation
        Standard deviation of the speakers' own means.
    checksum
        CRC-32 of the MFCCs as they were read.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    speaker_deviation: NDArray[np.float32]
    checksum: int = 0


def mfcc_statistics(rows: Rows) -> MfccStatistics:
    """Describe the MFCCs of some rows, read one at a time, without their frames.

    Rows are not compared with their checksums, which need the frames: the first epoch of a
    training on these rows does that, and a resumed one is refused unless ``checksum`` is what it
    was. Only what is no number is looked into at once, before it makes the loss none.

    Parameters
    ----------
    rows
        Clean training rows. Those without audio do not count.

    Returns
    -------
    MfccStatistics
        Those of a standard normal distribution where no row has audio.

    Raises
    ------
    InputError
        If a statistic is no number because a row is not what was written.
    """
    rows = rows.where(rows.has_audio)
    if not len(rows):
        zeros = np.zeros(rows.spec.mfcc_count, np.float32)
        return MfccStatistics(zeros, zeros + 1, zeros)
    reader = RowReader(rows, check=False)
    actors, places = np.unique(rows.actor, return_inverse=True)
    sums = np.zeros((len(actors), 2, rows.spec.mfcc_count))
    checksum = 0
    for number, actor in enumerate(places):
        chosen = np.array([number])
        mfcc, _ = reader.relate(chosen, *reader.read(chosen, inputs=("mfcc",))[:2])
        if not np.isfinite(mfcc).all():
            comparing = RowReader(rows)
            comparing.relate(chosen, *comparing.read(chosen)[:2])
        checksum = zlib.crc32(mfcc, checksum)
        image = mfcc[0, ..., 0].astype(np.float64)
        sums[actor] += image.mean(axis=1), np.square(image).mean(axis=1)
    mean, square = sums.sum(axis=0) / len(rows)
    speakers = sums[:, 0] / np.bincount(places)[:, np.newaxis]
    values = mean, square - mean**2, speakers.std(axis=0)
    return MfccStatistics(*(value.astype(np.float32) for value in values), checksum)
