"""Rows to batches: their order, and that they are read ahead."""

import gc
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from train.data import dataset, reader, rows, speaker
from train.settings import MAX_SEED


@pytest.fixture(scope="module")
def table(small_cache):
    return rows.select_rows(small_cache, (1, 2, 3), variants=True)


def epoch_of(table, batch_size, seed=0, epoch=0):
    data = dataset.shuffled(table, batch_size, seed, first_epoch=epoch)
    return list(data.take(dataset.steps_per_epoch(table, batch_size)).as_numpy_iterator())


def test_every_row_comes_once_an_epoch(table):
    expected = reader.RowReader(table).read(np.arange(24))
    batches = list(dataset.in_order(table, 7).as_numpy_iterator())
    assert [len(label) for _, label in batches] == [7, 7, 7, 3]
    for name in ("mfcc", "frames"):
        given = np.concatenate([inputs[name] for inputs, _ in batches])
        assert np.array_equal(given, expected[name])
    assert np.concatenate([label for _, label in batches]).tolist() == table.label.tolist()
    shuffled = epoch_of(table, 7)
    given = [tensor.tobytes() for inputs, _ in shuffled for tensor in inputs["mfcc"]]
    assert sorted(given) == sorted(tensor.tobytes() for tensor in expected["mfcc"])
    label = np.concatenate([label for _, label in shuffled])
    assert np.bincount(label).tolist() == np.bincount(table.label).tolist()


def test_a_label_belongs_to_its_tensors(table):
    """The emotion of a made-up row is its loudest coefficient."""
    for inputs, label in epoch_of(table, 5):
        assert np.array_equal(inputs["mfcc"].mean(axis=(2, 3)).argmax(axis=1), label)


def test_order_depends_on_seed_and_epoch_alone(table):
    def order(seed, epoch):
        batches = epoch_of(table, 5, seed, epoch)
        return [tensor.tobytes() for inputs, _ in batches for tensor in inputs["mfcc"]]

    assert order(0, 0) != order(0, 1) != order(1, 1)
    assert set(order(0, 0)) == set(order(0, 1)) and len(set(order(0, 0))) == 24
    assert order(0, 1) == order(0, 1)
    assert len(set(order(MAX_SEED, 90))) == 24
    two = dataset.shuffled(table, 5, 0).take(10).as_numpy_iterator()
    given = [tensor.tobytes() for inputs, _ in two for tensor in inputs["mfcc"]]
    assert given == order(0, 0) + order(0, 1)


def test_batches_that_wait_keep_their_rows(table):
    """Every batch of several epochs held at once still has the rows of the files."""
    batch = reader.RowReader(table).read(np.arange(24))
    known = {a.tobytes(): b.tobytes() for a, b in zip(batch["mfcc"], batch["frames"], strict=True)}
    held = list(dataset.shuffled(table, 5, 0).take(20))
    pairs = [
        (a.tobytes(), b.tobytes())
        for inputs, _ in held
        for a, b in zip(inputs["mfcc"].numpy(), inputs["frames"].numpy(), strict=True)
    ]
    assert len(pairs) == 4 * 24 and all(known[a] == b for a, b in pairs)


def test_a_reader_goes_with_its_dataset(table):
    """TensorFlow keeps the functions of datasets: they may hold neither files nor batches."""

    def readers():
        gc.collect()
        # Not isinstance: there may be weak proxies of what is gone.
        return sum(type(each) is reader.RowReader for each in gc.get_objects())

    before = readers()
    for make in (dataset.in_order, lambda rows, size: dataset.shuffled(rows, size, 0)):
        batches = make(table, 2)
        assert len(list(batches.take(2))) == 2 and readers() == before + 1
        del batches
        assert readers() == before


def test_references_come_with_their_rows(small_cache):
    chosen = rows.select_rows(small_cache, (1, 2), variants=True)
    table = speaker.with_reference(chosen, speaker.references(small_cache, "recording"))
    names = ("mfcc", "mfcc_reference", "frames_reference")
    given = [inputs for inputs, _ in dataset.in_order(table, 5, names).as_numpy_iterator()]
    assert all(set(inputs) == set(names) for inputs in given)
    for name in names[1:]:
        expected = table.reference.tensors[name][table.reference.place]
        assert np.array_equal(np.concatenate([inputs[name] for inputs in given]), expected)
    assert set(next(iter(dataset.in_order(table, 5, ("mfcc",))))[0]) == {"mfcc"}


READ_AHEAD = """
import sys, threading
from pathlib import Path
from train import runtime
runtime.start_tensorflow(3)
from tensorflow.python.framework.config import is_op_determinism_enabled
assert is_op_determinism_enabled()
from pipeline.cache import index
from train.data import dataset, reader, rows

WAIT_SECONDS = 120
together, calls, read = threading.Barrier(2), [], reader.RowReader.read

def slow_read(self, *given, **named):
    calls.append(threading.get_ident())
    if together is not None:
        together.wait(WAIT_SECONDS)  # until another thread reads as well
    if len(calls) > 1:
        second.set()
    return read(self, *given, **named)

reader.RowReader.read = slow_read
cache = index.find_cache(Path(sys.argv[1]))
table, second = rows.select_rows(cache, (1, 2), variants=True), threading.Event()
# Training: two batches are read at the same time.
training = iter(dataset.shuffled(table, 4, 0))
next(training)
together.abort()  # before the iterator goes, which waits for its readers
del training
# Validation: the next batch is read while the network has the first.
together, second = None, threading.Event()
calls.clear()
batches = iter(dataset.in_order(table, 4))
next(batches)
assert second.wait(WAIT_SECONDS)
del batches  # before the interpreter ends, at whose end a reader waits for ever
"""


def test_batches_are_read_ahead_where_operations_are_deterministic(small_cache):
    """As in every seeded training, in a process of its own: nothing undoes determinism."""
    run = subprocess.run(
        [sys.executable, "-c", READ_AHEAD, small_cache.folder],
        cwd=Path(__file__).parents[1],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]
