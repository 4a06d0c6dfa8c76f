"""Rows from shards to tensors, against h5py itself and against the usual loaders.

Measured as a seeded training runs, with deterministic operations: these decide how much ``tf.data``
reads ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf

from bench import media
from bench.timing import medians
from pipeline.cache import index
from pipeline.spec import EMOTIONS
from train import runtime
from train.data import dataset, reader, statistics
from train.data.rows import Rows, select_rows
from train.loop import stage
from train.models import video
from train.settings import Settings

ROWS = 400
BATCH = 16
SEED = 0
ROUNDS = 5
EPOCHS = 12
"""Epochs in one measurement, as many as a training has: a loader is started once, and the
project's own checks each row in the first."""

WORKING_STEPS = 4 * ROWS // BATCH
"""Training steps in one measurement: some epochs, because a training starts its loader once too."""


def read_with_h5py(rows: Rows) -> None:
    """Read all frames in order into one preallocated buffer."""
    buffer = np.empty((BATCH, *rows.spec.frames_shape), np.uint8)
    for path in rows.shards * EPOCHS:
        with h5py.File(path) as file:
            frames = file["frames"]
            for first in range(0, len(frames), BATCH):
                last = min(first + BATCH, len(frames))
                frames.read_direct(buffer, np.s_[first:last], np.s_[: last - first])


def drain(data: tf.data.Dataset) -> None:
    """Take every batch of a dataset."""
    for _ in data:
        pass


def ours(rows: Rows) -> tf.data.Dataset:
    """Shuffled epochs of the project's own loader, without augmentation."""
    return dataset.shuffled(rows, BATCH, SEED).take(EPOCHS * dataset.steps_per_epoch(rows, BATCH))


def from_generator(rows: Rows) -> tf.data.Dataset:
    """Build the usual loader: a generator of single rows and a shuffle buffer."""

    def generate() -> Iterator[tuple]:
        for path in rows.shards:
            with h5py.File(path) as file:
                for row in range(len(file["label"])):
                    yield file["mfcc"][row], file["frames"][row], file["label"][row]

    signature = (
        tf.TensorSpec(rows.spec.mfcc_shape, tf.float32),
        tf.TensorSpec(rows.spec.frames_shape, tf.uint8),
        tf.TensorSpec((), tf.int64),
    )
    data = tf.data.Dataset.from_generator(generate, output_signature=signature)
    return data.repeat(EPOCHS).shuffle(64).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def from_records(rows: Rows, folder: Path) -> tf.data.Dataset:
    """TFRecord files with the same content, written once."""
    path = folder / "rows.tfrecord"
    if not path.is_file():
        with tf.io.TFRecordWriter(str(path)) as writer:
            own = reader.RowReader(rows)
            for row in range(len(rows)):
                tensors = own.read(np.array([row])) | {"label": rows.label[row : row + 1]}
                features = {
                    name: tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[tensor[0].tobytes()])
                    )
                    for name, tensor in tensors.items()
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
    columns = dict.fromkeys(("mfcc", "frames", "label"), tf.io.FixedLenFeature((), tf.string))

    def parse(text: tf.Tensor) -> tuple[tf.Tensor, ...]:
        example = tf.io.parse_single_example(text, columns)
        return (
            tf.reshape(tf.io.decode_raw(example["mfcc"], tf.float32), rows.spec.mfcc_shape),
            tf.reshape(tf.io.decode_raw(example["frames"], tf.uint8), rows.spec.frames_shape),
            tf.io.decode_raw(example["label"], tf.int64)[0],
        )

    data = tf.data.TFRecordDataset(str(path)).repeat(EPOCHS).shuffle(64)
    return data.map(parse, tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def from_npy(rows: Rows, folder: Path) -> tf.data.Dataset:
    """One .npy file a row, loaded by a mapped function."""
    folder = folder / "rows-npy"
    if not folder.is_dir():
        folder.mkdir()
        own = reader.RowReader(rows)
        for row in range(len(rows)):
            np.save(folder / f"{row}.npy", own.read(np.array([row]))["frames"][0])

    def load(number: tf.Tensor) -> tf.Tensor:
        frames = tf.numpy_function(
            lambda n: np.load(folder / f"{n}.npy"), [number], tf.uint8, stateful=False
        )
        return tf.ensure_shape(frames, rows.spec.frames_shape)

    data = tf.data.Dataset.range(len(rows)).shuffle(len(rows)).repeat(EPOCHS)
    return data.map(load, tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def epoch_seconds(network: keras.Model, data: tf.data.Dataset) -> Callable[[], None]:
    """Return the work of real training steps on a dataset."""

    def train() -> None:
        network.fit(data, steps_per_epoch=WORKING_STEPS, epochs=1, verbose=0, shuffle=False)

    return train


def measure(folder: Path) -> Iterator[dict]:
    """Yield one result a claim."""
    runtime.make_reproducible(SEED)
    cache = index.find_cache(media.cached_rows(folder, ROWS))
    rows = select_rows(cache, cache.actors)
    loaders = {
        "ours": lambda: drain(ours(rows)),
        "generator": lambda: drain(from_generator(rows)),
        "records": lambda: drain(from_records(rows, folder)),
        "npy": lambda: drain(from_npy(rows, folder)),
    }
    for work in loaders.values():
        work()  # files are written and cached, functions are traced
    took = medians(ROUNDS, h5py=partial(read_with_h5py, rows), **loaders)
    rates = {name: EPOCHS * len(rows) / value for name, value in took.items()}
    yield {
        "what": "loader, shuffled, batch 16: rows/s",
        "ours": rates["ours"],
        "against": "h5py into one buffer, in order",
        "theirs": rates["h5py"],
        "ratio": rates["ours"] / rates["h5py"],
        "target": ">= 0.6",
    }
    names = {"generator": "from_generator", "records": "TFRecord", "npy": "np.load"}
    best = max(names, key=rates.__getitem__)
    for name, title in names.items():
        yield {
            "what": "loader, shuffled, batch 16: rows/s",
            "ours": rates["ours"],
            "against": title + (" (their best)" if name == best else ""),
            "theirs": rates[name],
            "ratio": rates["ours"] / rates[name],
            "target": ">= 2",
        }

    settings = Settings()
    branch = video.build(rows.spec, statistics.mfcc_statistics(rows), settings)
    model = stage.trainer_of(branch, settings, (1 / len(EMOTIONS),) * len(EMOTIONS)).model
    frames = reader.RowReader(rows).read(np.arange(ROWS), ("frames",))
    in_memory = tf.data.Dataset.from_tensor_slices((frames, rows.label))
    in_memory = in_memory.shuffle(ROWS).batch(BATCH).repeat().prefetch(tf.data.AUTOTUNE)
    works = {
        "cache": epoch_seconds(model, dataset.shuffled(rows, BATCH, SEED, ("frames",))),
        "memory": epoch_seconds(model, in_memory),
    }
    for work in works.values():
        work()
    took = medians(ROUNDS, **works)
    yield {
        "what": f"{WORKING_STEPS} training steps of the video branch from the cache: s",
        "ours": took["cache"],
        "against": "the same tensors in memory",
        "theirs": took["memory"],
        "ratio": took["cache"] / took["memory"],
        "target": "<= 1.05",
    }
