"""Index to ``tf.data``: row numbers are shuffled, whole batches are read.

The tensors of a shard lie contiguously in its file, so a row is one ``pread`` at a known offset:
no HDF5 lock, no mapping that counts as memory, and the interpreter lock is free while it copies.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import shards
from pipeline.errors import InputError
from pipeline.index import Index
from pipeline.spec import CLEAN, FeatureSpec

READERS = 2
"""Batches read at the same time: one is copied while the other waits for the disk."""

PREFETCHED_BATCHES = 4

ALIGNMENT_BYTES = 64
"""What Eigen asks of a tensor's address on processors with AVX-512, and enough for all others."""

MAX_EPOCHS = 1 << 20
MAX_STEPS = 1 << 40

HEADS = ("fused", "audio", "video")
"""The outputs of the network, each with the same target."""

TIME_MASK_COLUMNS = 14
FREQUENCY_MASK_COEFFICIENTS = 10
TIME_SHIFT_COLUMNS = 4

BRIGHTNESS_SHIFT = 25.0
"""Largest change of light, in grey levels of 255."""

VIEW_SHIFT = 0.03
"""Largest move of the pictures, as a part of their side."""

VIEW_ZOOMS = (0.96, 1.04)
VIEW_TURN_DEGREES = 2.0


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


def in_order(rows: Rows, batch_size: int) -> tf.data.Dataset:
    """Return batches of every row once, in the order of the table, for validation and test."""
    numbers = tf.data.Dataset.range(len(rows)).batch(batch_size)
    loaded = numbers.map(tensor_reader(rows), num_parallel_calls=READERS)
    return loaded.prefetch(PREFETCHED_BATCHES)


def shuffled(
    rows: Rows,
    batch_size: int,
    seed: int,
    mfcc_mean: NDArray[np.float32] | None = None,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Return batches of endless epochs for training.

    Each epoch is a permutation of the whole table that depends on seed and epoch alone, so that
    a resumed training sees what an uninterrupted one would have.

    Parameters
    ----------
    rows
        The table.
    batch_size
        Rows a batch; the last of an epoch may be smaller.
    seed
        Of the permutations and of the augmentation.
    mfcc_mean
        Shape (mfcc_count,): what masked stretches of the MFCC are set to. None leaves all rows as
        they are.
    first_epoch
        Number of the first epoch.

    Returns
    -------
    tf.data.Dataset
        ``({"mfcc", "frames"}, {"fused", "audio", "video"})``, see :func:`steps_per_epoch`.
    """

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        keys = tf.random.stateless_uniform([len(rows)], [seed, epoch])
        permutation = tf.data.Dataset.from_tensor_slices(tf.argsort(keys, stable=True))
        steps = permutation.batch(batch_size).enumerate()
        return steps.map(lambda step, numbers: (numbers, [seed, epoch * MAX_STEPS + step]))

    read, memory = tensor_reader(rows), BatchMemory()

    def load(numbers: tf.Tensor, step_seed: tf.Tensor) -> tuple[dict, dict]:
        inputs, targets = read(numbers)
        if mfcc_mean is None:
            return inputs, targets
        mean = tf.constant(mfcc_mean.reshape(1, -1, 1, 1), tf.float32)
        mfcc = mask_mfcc(shift_mfcc(inputs["mfcc"], step_seed), mean, step_seed)
        frames = tf.numpy_function(
            lambda frames, seed: change_view(frames, seed, memory.empty),
            [inputs["frames"], step_seed],
            tf.uint8,
        )
        frames.set_shape(inputs["frames"].shape)
        return {"mfcc": mfcc, "frames": frames}, targets

    # Numbers are shuffled, tensors read last: what waits in the queue is eight bytes a row.
    epochs = tf.data.Dataset.range(first_epoch, MAX_EPOCHS).flat_map(epoch_batches)
    return epochs.map(load, num_parallel_calls=READERS).prefetch(PREFETCHED_BATCHES)


def steps_per_epoch(rows: Rows, batch_size: int) -> int:
    """Batches in one epoch of :func:`shuffled`."""
    return -(-len(rows) // batch_size)


def tensor_reader(rows: Rows) -> Callable[[tf.Tensor], tuple[dict, dict]]:
    """Return the function that turns a batch of row numbers into inputs and targets."""
    reader, memory, spec = RowReader(rows), BatchMemory(), rows.spec

    def read(numbers: tf.Tensor) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        mfcc, frames, label = tf.numpy_function(
            lambda numbers: reader.read(numbers, memory.empty),
            [numbers],
            [tf.float32, tf.uint8, tf.int64],
        )
        mfcc.set_shape((None, *spec.mfcc_shape))
        frames.set_shape((None, *spec.frames_shape))
        label.set_shape((None,))
        return {"mfcc": mfcc, "frames": frames}, dict.fromkeys(HEADS, label)

    return read


def change_view(
    frames: NDArray[np.uint8],
    seed: NDArray[np.int64],
    empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
) -> NDArray[np.uint8]:
    """Turn, move, resize, mirror and light each clip of a batch, all its pictures alike.

    Parameters
    ----------
    frames
        Shape (batch, frame_count, size, size, 3).
    seed
        Two numbers that fix every choice.
    empty
        Makes the array of the result.

    Returns
    -------
    ndarray of uint8
        Same shape. Pixels from outside of a picture repeat its edge.
    """
    random = np.random.default_rng(seed)
    size = frames.shape[2]
    changed = empty(frames.shape, np.uint8)
    for clip, target in zip(frames, changed, strict=True):
        matrix = view_matrix(random, size)
        light = random.uniform(-BRIGHTNESS_SHIFT, BRIGHTNESS_SHIFT)
        for picture, place in zip(clip, target, strict=True):
            cv2.warpAffine(picture, matrix, (size, size), place, borderMode=cv2.BORDER_REPLICATE)
        flat = target.reshape(-1, size)
        (cv2.add if light > 0 else cv2.subtract)(flat, abs(light), flat)
    return changed


def view_matrix(random: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw the affine map of one clip's pictures, shape (2, 3)."""
    middle = (size_px - 1) / 2
    turn, zoom = random.uniform(-VIEW_TURN_DEGREES, VIEW_TURN_DEGREES), random.uniform(*VIEW_ZOOMS)
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += random.uniform(-VIEW_SHIFT, VIEW_SHIFT, 2) * size_px
    if random.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, size_px - 1], [0, 1, 0], [0, 0, 1]])
    return matrix


def shift_mfcc(mfcc: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Move each MFCC image of a batch in time; what leaves at one end enters at the other."""
    columns = mfcc.shape[2]
    shift = tf.random.stateless_uniform(
        [tf.shape(mfcc)[0], 1], seed, -TIME_SHIFT_COLUMNS, TIME_SHIFT_COLUMNS + 1, tf.int32
    )
    source = tf.math.floormod(tf.range(columns) + shift, columns)
    return tf.gather(mfcc, source, axis=2, batch_dims=1)


def mask_mfcc(mfcc: tf.Tensor, mean: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Set a stretch of columns and a band of coefficients of each MFCC image to the mean.

    Notes
    -----
    Park et al. 2019, "SpecAugment: A simple data augmentation method for automatic speech
    recognition", without the time warp.
    """
    for axis, widest, offset in ((2, TIME_MASK_COLUMNS, 2), (1, FREQUENCY_MASK_COEFFICIENTS, 3)):
        length = mfcc.shape[axis]
        draws = tf.random.stateless_uniform([2, tf.shape(mfcc)[0], 1, 1, 1], seed + offset)
        width = draws[0] * (widest + 1)
        start = draws[1] * (tf.cast(length, tf.float32) - width)
        place = tf.reshape(
            tf.range(length, dtype=tf.float32), [-1 if number == axis else 1 for number in range(4)]
        )
        mfcc = tf.where(
            (place >= tf.floor(start)) & (place < tf.floor(start) + tf.floor(width)), mean, mfcc
        )
    return mfcc


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
