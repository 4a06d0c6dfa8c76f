"""Rows to ``tf.data``: row numbers are shuffled, whole batches are read."""

from __future__ import annotations

import contextlib
import re
import weakref
from collections.abc import Collection, Iterator

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
    return untuned(numbers.map(BatchReader(rows, inputs)).prefetch(1))


def shuffled(
    rows: Rows,
    batch_size: int,
    seed: int,
    inputs: Collection[str] = TENSORS,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Return batches of endless epochs for training.

    Each epoch is a permutation of the whole table that depends on seed and epoch alone, so that
    a resumed training sees what an uninterrupted one would have. With several corpora it is as long
    and has an equal share of each, see :func:`balanced_order`.

    Parameters
    ----------
    rows
        The table.
    batch_size
        Rows a batch; the last of an epoch may be smaller.
    seed
        Of the permutations.
    inputs
        Names of the tensors that are read: ``mfcc``, ``frames``, where the rows have a speaker
        reference ``mfcc_reference`` and ``frames_reference``, and with several corpora ``corpus``,
        the place of each row's corpus.
    first_epoch
        Number of the first epoch.

    Returns
    -------
    tf.data.Dataset
        ``(tensors by name, labels)``, see :func:`steps_per_epoch`.
    """

    def permutation(epoch: tf.Tensor) -> tf.Tensor:
        keys = tf.random.stateless_uniform([len(rows)], [seed, epoch])
        return tf.argsort(keys, stable=True)

    def balanced(epoch: tf.Tensor) -> tf.Tensor:
        corpus = rows.corpora.number

        def order(number: np.int64) -> NDArray[np.int64]:
            return balanced_order(corpus, seed, int(number))

        numbers = tf.numpy_function(order, [epoch], tf.int64, stateful=False)
        return tf.ensure_shape(numbers, (len(rows),))

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        order = permutation(epoch) if rows.corpora is None else balanced(epoch)
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

    # Numbers are shuffled, tensors read last: what waits in the queue is eight bytes a row.
    numbers = tf.data.Dataset.range(first_epoch, MAX_EPOCHS).flat_map(epoch_batches)
    read = BatchReader(rows, inputs)
    return untuned(numbers.map(read, num_parallel_calls=READERS).prefetch(PREFETCHED_BATCHES))


def untuned(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Leave numbers of readers and batches as they are.

    TensorFlow's thread that tunes them sleeps twice as long each time, and now and then the end of
    an iteration waits until it wakes: for as long as it had taken, or a minute.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.with_options(options)


def balanced_order(corpus: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """Draw the rows of an epoch: as many as there are, an equal share from each corpus.

    A corpus' rows are taken in turn over the epochs, in a permutation of their own that is drawn
    anew after the last of them: each comes as often as any other.

    Parameters
    ----------
    corpus
        Corpus of each row, shape (rows,).
    seed, epoch
        What the order depends on.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Row numbers. Shares differ by one row at most, those of the first corpora being larger.
    """
    corpora = np.unique(corpus)
    taken = []
    for place, number in enumerate(corpora.tolist()):
        own = np.flatnonzero(corpus == number)
        share = len(corpus) // len(corpora) + (place < len(corpus) % len(corpora))
        first, last = epoch * share, (epoch + 1) * share
        turns = range(first // len(own), -(-last // len(own)))
        orders = [np.random.default_rng((seed, number, turn)).permutation(own) for turn in turns]
        start = first - turns.start * len(own)
        taken.append(np.concatenate(orders)[start : start + share])
    mixing = np.random.default_rng((seed, len(corpus), epoch))
    return mixing.permutation(np.concatenate(taken))


def steps_per_epoch(rows: Rows, batch_size: int) -> int:
    """Batches in one epoch of :func:`shuffled`."""
    return -(-len(rows) // batch_size)


class BatchReader:
    """Makes of a batch of row numbers tensors by name, and labels.

    TensorFlow keeps whatever function ``numpy_function`` is given until the process ends. Here that
    is one that holds nothing: the reader's files and memory go with the dataset, which holds this
    object.

    Parameters
    ----------
    rows, inputs
        See :func:`shuffled`.
    """

    def __init__(self, rows: Rows, inputs: Collection[str]) -> None:
        self._rows, self._reader, self._memory = rows, RowReader(rows), BatchMemory()
        self._cached = {name: kind for name, kind in self._reader.kinds.items() if name in inputs}
        self._references: dict[str, NDArray] = {}
        if rows.reference is not None:
            tensors = rows.reference.tensors
            self._references = {name: tensors[name] for name in tensors if name in inputs}
        self._corpus: dict[str, NDArray] = {}
        if rows.corpora is not None and "corpus" in inputs:
            self._corpus["corpus"] = rows.corpora.number

    def read(self, numbers: NDArray[np.int64]) -> tuple[NDArray, ...]:
        """Return labels, cached tensors, speaker references and corpora of some rows."""
        rows = self._rows
        batch = self._reader.read(numbers, self._cached, self._memory.empty)
        places = rows.reference.place[numbers] if self._references else ()
        given = [*batch.values(), *(values[places] for values in self._references.values())]
        return rows.label[numbers], *given, *(values[numbers] for values in self._corpus.values())

    def __call__(self, numbers: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Read a batch within a graph."""
        added = *self._references.values(), *self._corpus.values()
        kinds = [tf.int64, *(kind for _, kind in self._cached.values())]
        kinds += [tf.float32] * len(self._references) + [tf.int64] * len(self._corpus)
        shapes = [shape for shape, _ in self._cached.values()]
        shapes += [values.shape[1:] for values in added]
        read = weakref.WeakMethod(self.read)
        # Stateful, and operations deterministic as in every seeded training, tf.data would call it
        # only when its batch is asked for: nothing would be read ahead.
        label, *given = tf.numpy_function(
            lambda numbers: read()(numbers), [numbers], kinds, stateful=False
        )
        label.set_shape((None,))
        for tensor, shape in zip(given, shapes, strict=True):
            tensor.set_shape((None, *shape))
        names = (*self._cached, *self._references, *self._corpus)
        return dict(zip(names, given, strict=True)), label


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
