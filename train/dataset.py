"""Rows to ``tf.data``: row numbers are shuffled, whole batches are read."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Collection, Iterator

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import InputError
from train import cepstrum, table, views, voices
from train.heads import INPUT_NAMES, LESSONS
from train.reading import BatchMemory, MfccStatistics, RowReader
from train.table import Rows

READERS = 2
"""Batches read at the same time: one is copied while the other waits for the disk."""

PREFETCHED_BATCHES = 2
"""Batches that wait for the network. Reading one takes a small part of a step: more would lie idle,
and memory would depend on how many of them a corpus fills."""

EVALUATION_BATCH_SIZE = 16
"""Rows of a batch outside of training: no more than there, so that judging needs no more memory."""

ALIKE_STREAM = 9
"""Sets whose face is drawn apart from what else a step draws by its seed."""

MAX_EPOCHS = 1 << 20
MAX_STEPS = 1 << 40

pure = functools.partial(tf.numpy_function, stateful=False)
"""A NumPy function that gives the same for the same arguments, as readers and augmentations do.

Where operations have to be deterministic, as in every seeded training, ``tf.data`` calls a stateful
one only when its batch is asked for: nothing would be read ahead."""


def in_order(rows: Rows, batch_size: int, inputs: Collection[str] = INPUT_NAMES) -> tf.data.Dataset:
    """Return batches of every row once, in the order of the table, for validation and test.

    See :func:`shuffled` for ``inputs``.
    """
    numbers = tf.data.Dataset.range(len(rows)).batch(batch_size)
    # One at a time, one ahead: a training's own batches wait beside these.
    return numbers.map(tensor_reader(RowReader(rows), inputs)).prefetch(1)


def shuffled(
    rows: Rows,
    batch_size: int,
    seed: int,
    known: MfccStatistics | None = None,
    first_epoch: int = 0,
    without: Collection[str] = (),
    inputs: Collection[str] = INPUT_NAMES,
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
    known
        Of the training rows: what masked stretches of the MFCC are set to, and how far speakers
        differ. None leaves all rows as they are.
    first_epoch
        Number of the first epoch.
    without
        Names out of :data:`train.heads.CHANGES` of what is not done to the rows.
    inputs
        Names of the tensors that are read, changed and returned.

    Returns
    -------
    tf.data.Dataset
        ``({"mfcc", "frames"}, targets, weights)`` with the same label for every name in
        ``train.heads.LESSONS``, see :func:`steps_per_epoch`. Weights are 1, or 0 for the names of a
        head whose modality the row's clip lacks; that tensor is zero, changed or not.
    """

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        keys = tf.random.stateless_uniform([len(rows)], [seed, epoch])
        permutation = tf.data.Dataset.from_tensor_slices(tf.argsort(keys, stable=True))
        steps = permutation.batch(batch_size).enumerate()
        return steps.map(lambda step, numbers: (numbers, [seed, epoch * MAX_STEPS + step]))

    alike = table.Alike(rows)

    def draw_alike(numbers: NDArray[np.int64], seed: NDArray[np.int64]) -> NDArray[np.int64]:
        return alike.draw(numbers, np.random.default_rng((*seed, ALIKE_STREAM)))

    reader, memory = RowReader(rows), BatchMemory()
    read, read_frames = tensor_reader(reader, inputs), tensor_reader(reader, ("frames",))
    tracts = cepstrum.tract_maps(rows.spec)
    complete = bool((rows.has_audio & rows.has_video).all())

    def change_mfcc(mfcc: tf.Tensor, step_seed: tf.Tensor) -> tf.Tensor:
        mean, deviation = (
            tf.constant(value.reshape(1, -1, 1, 1))
            for value in (known.mean, known.speaker_deviation)
        )
        if "tract" not in without:
            mfcc = voices.change_tract(mfcc, tf.constant(tracts), step_seed)
        if "voices" not in without:
            mfcc = voices.change_voice(mfcc, deviation, step_seed)
        if "tempo" not in without:
            mfcc = voices.change_tempo(mfcc, step_seed)
        if "shift" not in without:
            mfcc = voices.shift_mfcc(mfcc, step_seed)
        if "masks" not in without:
            mfcc = voices.mask_mfcc(mfcc, mean, step_seed)
        return mfcc

    def change_frames(numbers: tf.Tensor, frames: tf.Tensor, step_seed: tf.Tensor) -> tf.Tensor:
        shape = frames.shape
        if "halves" not in without:
            others = pure(draw_alike, [numbers, step_seed], tf.int64)
            frames = pure(
                lambda *values: views.exchange_halves(*values, memory.empty),
                [frames, read_frames(others, step_seed)[0]["frames"], step_seed],
                tf.uint8,
            )
        if "views" not in without:
            frames = pure(
                lambda frames, seed: views.change_view(frames, seed, memory.empty),
                [frames, step_seed],
                tf.uint8,
            )
        frames.set_shape(shape)
        return frames

    def load(numbers: tf.Tensor, step_seed: tf.Tensor) -> tuple[dict, dict, dict]:
        tensors, targets, weights = read(numbers, step_seed)
        if known is None:
            return tensors, targets, weights
        # A missing modality is known by its zeros.
        if "mfcc" in tensors:
            mfcc = change_mfcc(tensors["mfcc"], step_seed)
            heard = tf.reshape(weights["audio"], (-1, 1, 1, 1))
            tensors["mfcc"] = mfcc if complete else mfcc * heard
        if "frames" in tensors:
            frames = change_frames(numbers, tensors["frames"], step_seed)
            shown = tf.cast(tf.reshape(weights["video"], (-1, 1, 1, 1, 1)), tf.uint8)
            tensors["frames"] = frames if complete else frames * shown
        return tensors, targets, weights

    # Numbers are shuffled, tensors read last: what waits in the queue is eight bytes a row.
    epochs = tf.data.Dataset.range(first_epoch, MAX_EPOCHS).flat_map(epoch_batches)
    return epochs.map(load, num_parallel_calls=READERS).prefetch(PREFETCHED_BATCHES)


def shuffled_for(
    branch: keras.Model,
    rows: Rows,
    batch_size: int,
    seed: int,
    known: MfccStatistics,
    first_epoch: int = 0,
    without: Collection[str] = (),
) -> tf.data.Dataset:
    """Return what :func:`shuffled` does, but only what a part of the network reads and learns.

    Parameters
    ----------
    branch
        See :func:`train.model.lessons`.
    rows, batch_size, seed, known, first_epoch, without
        See :func:`shuffled`.
    """
    batches = shuffled(rows, batch_size, seed, known, first_epoch, without, branch.input)
    return restricted(branch, batches)


def restricted(branch: keras.Model, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return batches with nothing but what a part of the network reads and learns."""
    return batches.map(
        lambda inputs, targets, weights: (
            {name: inputs[name] for name in branch.input},
            {name: targets[name] for name in branch.output},
            {name: weights[name] for name in branch.output},
        )
    )


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Raise an InputError of the loader as what it is.

    TensorFlow turns whatever happens in its threads into an error of its own, whose text holds
    ours.
    """
    try:
        yield
    except tf.errors.UnknownError as error:
        ours = re.search(r"InputError: (.+)\nTraceback", error.message)
        if ours is None:
            raise
        raise InputError(ours[1]) from None


def steps_per_epoch(rows: Rows, batch_size: int) -> int:
    """Batches in one epoch of :func:`shuffled`."""
    return -(-len(rows) // batch_size)


def tensor_reader(
    reader: RowReader, inputs: Collection[str]
) -> Callable[..., tuple[dict, dict, dict]]:
    """Return the function that turns a batch of row numbers into inputs, targets and weights.

    With a seed, people at rest are drawn by it, see :meth:`train.reading.RowReader.relate`.

    Parameters
    ----------
    reader
        Reads the rows.
    inputs
        Names of the tensors wanted.
    """
    rows, memory = reader.rows, BatchMemory()
    having = np.stack([rows.having(head) for head in LESSONS], axis=1).astype(np.float32)
    kinds = {
        "mfcc": tf.TensorSpec((None, *rows.spec.mfcc_shape), tf.float32),
        "frames": tf.TensorSpec((None, *rows.spec.frames_shape), tf.uint8),
    }
    kinds = {name: kind for name, kind in kinds.items() if name in inputs}

    def tensors(numbers: NDArray[np.int64], *seed: NDArray[np.int64]) -> tuple[NDArray, ...]:
        mfcc, frames, label = reader.read(numbers, memory.empty, inputs)
        related = reader.relate(numbers, mfcc, frames, *seed)
        wanted = (tensor for tensor in related if tensor is not None)
        return label, having[numbers], *wanted

    def read(
        numbers: tf.Tensor, *seed: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        types = [tf.int64, tf.float32, *(kind.dtype for kind in kinds.values())]
        label, having, *given = pure(tensors, [numbers, *seed], types)
        label.set_shape((None,))
        having.set_shape((None, len(LESSONS)))
        for tensor, kind in zip(given, kinds.values(), strict=True):
            tensor.set_shape(kind.shape)
        targets, weights = {}, {}
        for column, names in enumerate(LESSONS.values()):
            targets |= dict.fromkeys(names, label)
            weights |= dict.fromkeys(names, having[:, column])
        return dict(zip(kinds, given, strict=True)), targets, weights

    return read
