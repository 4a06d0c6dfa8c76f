"""Rows to ``tf.data``: row numbers are shuffled, whole batches are read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterator

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline.errors import InputError
from train.data.reader import BatchMemory, RowReader
from train.data.rows import Rows
from train.heads import TENSORS

READERS = 2
"""Batches read at the same time: one is copied while the other waits for the disk."""

PREFETCHED_BATCHES = 2
"""Batches that wait for the network. Reading one takes a small part of a step: more would lie idle,
and memory would depend on how many of them a corpus fills."""

EVALUATION_BATCH_SIZE = 16
"""Rows of a batch outside of training: no more than there, so that evaluation needs no more memory.
"""

MAX_EPOCHS = 1 << 20


def in_order(rows: Rows, batch_size: int, inputs: Collection[str] = TENSORS) -> tf.data.Dataset:
    """Return batches of every row once, in the order of the table, for validation and test.

    See :func:`shuffled` for ``inputs`` and the batches.
    """
    numbers = tf.data.Dataset.range(len(rows)).batch(batch_size)
    # One ahead: a training's own batches wait beside these.
    return numbers.map(batch_reader(rows, inputs)).prefetch(1)


def shuffled(
    rows: Rows,
    batch_size: int,
    seed: int,
    inputs: Collection[str] = TENSORS,
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
        Of the permutations.
    inputs
        Names of the tensors that are read: ``mfcc``, ``frames``, and where the rows have a speaker
        reference ``mfcc_reference`` and ``frames_reference``.
    first_epoch
        Number of the first epoch.

    Returns
    -------
    tf.data.Dataset
        ``(tensors by name, labels)``, see :func:`steps_per_epoch`.
    """

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        keys = tf.random.stateless_uniform([len(rows)], [seed, epoch])
        order = tf.data.Dataset.from_tensor_slices(tf.argsort(keys, stable=True))
        return order.batch(batch_size)

    # Numbers are shuffled, tensors read last: what waits in the queue is eight bytes a row.
    numbers = tf.data.Dataset.range(first_epoch, MAX_EPOCHS).flat_map(epoch_batches)
    read = batch_reader(rows, inputs)
    return numbers.map(read, num_parallel_calls=READERS).prefetch(PREFETCHED_BATCHES)


def steps_per_epoch(rows: Rows, batch_size: int) -> int:
    """Batches in one epoch of :func:`shuffled`."""
    return -(-len(rows) // batch_size)


def batch_reader(
    rows: Rows, inputs: Collection[str]
) -> Callable[[tf.Tensor], tuple[dict[str, tf.Tensor], tf.Tensor]]:
    """Return the function from a batch of row numbers to tensors by name, and labels."""
    reader, memory = RowReader(rows), BatchMemory()
    cached = {name: kind for name, kind in reader.kinds.items() if name in inputs}
    references = {}
    if rows.reference is not None:
        tensors = rows.reference.tensors
        references = {name: tensors[name] for name in tensors if name in inputs}

    def read(numbers: NDArray[np.int64]) -> tuple[NDArray, ...]:
        batch = reader.read(numbers, cached, memory.empty)
        places = rows.reference.place[numbers] if references else ()
        return rows.label[numbers], *batch.values(), *(v[places] for v in references.values())

    kinds = [tf.int64, *(kind for _, kind in cached.values()), *[tf.float32] * len(references)]
    shapes = [shape for shape, _ in cached.values()]
    shapes += [values.shape[1:] for values in references.values()]

    def batch(numbers: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        # Stateful, and operations deterministic as in every seeded training, tf.data would call it
        # only when its batch is asked for: nothing would be read ahead.
        label, *given = tf.numpy_function(read, [numbers], kinds, stateful=False)
        label.set_shape((None,))
        for tensor, shape in zip(given, shapes, strict=True):
            tensor.set_shape((None, *shape))
        return dict(zip((*cached, *references), given, strict=True)), label

    return batch


@contextlib.contextmanager
def input_errors() -> Iterator[None]:
    """Raise an InputError of the reader as what it is.

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
