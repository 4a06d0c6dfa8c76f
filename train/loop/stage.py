"""One stage of a training: gradient steps on some rows, and what happens beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import atomic
from train import runtime
from train.data import dataset
from train.data.rows import Rows
from train.data.statistics import Prior
from train.loop import checkpoint, schedule
from train.loop.progress import Progress
from train.models.layers import LogitAdjustment
from train.settings import Settings

LOG_NAME = "log.csv"
LOG_COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
MONITOR = "val_accuracy"
"""The loss grows with a confidence that the temperatures take back, while answers get better."""


@dataclass(frozen=True)
class Training:
    """What all stages of a training share.

    Parameters
    ----------
    folder
        Gets a folder for each stage.
    settings
        How to train.
    prior
        Frequency of each emotion in the training rows, shape (8,), or (corpora, 8).
    started_with
        What an interrupted training has to agree with.
    resume
        Whether to go on where each stage was interrupted.
    progress
        Whether to show a bar and a line an epoch.
    """

    folder: Path
    settings: Settings
    prior: Prior
    started_with: dict
    resume: bool
    progress: bool


@dataclass(frozen=True)
class Trainer:
    """A compiled model, which is traced once for all of its stages.

    Parameters
    ----------
    model
        See :func:`trainer_of`.
    fresh
        Values of the optimizer's variables before its first step: each stage starts from them.
    """

    model: keras.Model
    fresh: tuple[NDArray, ...]


def train(
    trainer: Trainer,
    name: str,
    training: Training,
    rows: Rows,
    validation: Rows | None,
    epochs: int,
) -> None:
    """Train a network; it ends with the weights of its best epoch.

    A stage that is finished is not done again: the network gets what it ended with.

    Parameters
    ----------
    trainer
        Of the network.
    name
        Of the stage, its folder and its bar.
    training
        What all stages share.
    rows
        What is learned from.
    validation
        What the best epoch is chosen by, and the stage ended; None: all epochs are done and the
        last one counts.
    epochs
        Most epochs.

    Raises
    ------
    InputError
        If a row is not what was written, the interrupted stage had other settings or is damaged,
        or the loss is not finite.
    OSError
        If the disk refuses.
    """
    folder, settings = training.folder / name, training.settings
    model = trainer.model
    for variable, value in zip(model.optimizer.variables, trainer.fresh, strict=True):
        variable.assign(value)
    state = checkpoint.read_state(folder, training.started_with) if training.resume else None
    folder.mkdir(parents=True, exist_ok=True)
    first_epoch = 0
    if state is not None:
        checkpoint.restore(model, folder, state, settings.learning_rate)
        keep_epochs(folder / LOG_NAME, state.epoch)
        first_epoch = epochs if state.stopped_early else state.epoch
    if first_epoch < epochs:
        steps = dataset.steps_per_epoch(rows, settings.batch_size)
        inputs = list(model.input)
        callbacks, saved = callbacks_of(name, training, validation, epochs, steps, state)
        seed = settings.seed
        given = dataset.shuffled(rows, settings.batch_size, seed, inputs, first_epoch)
        watched = validation and dataset.in_order(validation, settings.batch_size, inputs)
        with dataset.input_errors(), runtime.storage_errors(folder):
            try:
                model.fit(
                    given,
                    validation_data=watched,
                    epochs=epochs,
                    initial_epoch=first_epoch,
                    steps_per_epoch=steps,
                    callbacks=callbacks,
                    shuffle=False,
                    verbose=0,
                )
            finally:
                # Where a step fails Keras does not, and the bar would come after the error.
                if training.progress:
                    callbacks[-1].on_train_end()
        state = saved.state
    checkpoint.load(model, folder, state.best, state)


def trainer_of(network: keras.Model, settings: Settings, prior: Prior) -> Trainer:
    """Compile what is trained of a network.

    Parameters
    ----------
    network
        Its outputs are a dict. Those whose names end in ``_logits`` are each trained; where there
        is none, ``logits`` is.
    settings
        Of the optimizer.
    prior
        See :class:`train.models.layers.LogitAdjustment`.

    Returns
    -------
    Trainer
        Its model's output is (batch, trained outputs, 8), logits. With several corpora it has the
        further input ``corpus``.
    """
    taught = [tensor for name, tensor in network.output.items() if name.endswith("_logits")]
    stacked = keras.ops.stack(taught or [network.output["logits"]], axis=1)
    adjust, inputs = LogitAdjustment(np.array(prior).tolist(), dtype="float32"), dict(network.input)
    if np.ndim(prior) == 2:
        inputs["corpus"] = keras.Input((), dtype="int64", name="corpus")
    adjusted = adjust(stacked, inputs.get("corpus"))
    model = keras.Model(inputs, adjusted)
    model.compile(
        optimizer=schedule.optimizer(settings),
        loss=mean_crossentropy,
        metrics=[accuracy],
        jit_compile=runtime.jit_compile(),
    )
    # Variables that come into being in the first step make TensorFlow trace it twice.
    model.optimizer.build(model.trainable_variables)
    return Trainer(model, tuple(np.array(variable) for variable in model.optimizer.variables))


def mean_crossentropy(label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of each output, averaged, shape (batch,)."""
    labels = keras.ops.tile(keras.ops.reshape(label, (-1, 1)), (1, logits.shape[1]))
    losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    return keras.ops.mean(losses, axis=-1)


def accuracy(label: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Whether the mean of the outputs' logits is highest at the label, shape (batch,)."""
    mean = keras.ops.mean(logits, axis=1)
    return keras.metrics.sparse_categorical_accuracy(keras.ops.reshape(label, (-1,)), mean)


def callbacks_of(
    name: str,
    training: Training,
    validation: Rows | None,
    epochs: int,
    steps: int,
    state: checkpoint.State | None,
) -> tuple[list[keras.callbacks.Callback], checkpoint.Checkpoint]:
    """List what happens beside the gradient steps, in order, and the callback that saves."""
    folder, settings = training.folder / name, training.settings
    first_epoch = state.epoch if state else 0
    remembered: list[keras.callbacks.Callback] = []
    if validation is not None:
        kind = {"monitor": MONITOR, "mode": "max"}
        remembered = [
            keras.callbacks.ReduceLROnPlateau(
                factor=0.5, patience=settings.plateau_patience, **kind
            ),
            keras.callbacks.EarlyStopping(patience=settings.patience, **kind),
        ]
    saved = checkpoint.Checkpoint(
        folder,
        training.started_with,
        remembered,
        MONITOR if remembered else None,
        folder / LOG_NAME,
        state,
    )
    warmup = round(settings.warmup_epochs * steps)
    listed = [
        checkpoint.StopWhenDiverged(training.folder),
        schedule.WarmupCosine(warmup, epochs * steps, first_epoch * steps),
        *remembered,
        keras.callbacks.CSVLogger(folder / LOG_NAME, append=state is not None),
        keras.callbacks.TensorBoard(training.folder / "tensorboard" / name, write_graph=False),
        saved,
    ]
    if training.progress:
        listed.append(Progress(name, epochs, steps, first_epoch))
    return listed, saved


def keep_epochs(log: Path, epochs: int) -> None:
    """Drop what an interrupted stage logged after its last saved state."""
    lines = log.read_bytes().splitlines(keepends=True) if log.is_file() else []
    atomic.write_durably(log, b"".join(lines[: 1 + epochs]))


def join_logs(folder: Path, trained: Sequence[str]) -> Path:
    """Write the epochs of all stages of a training, in order, as one CSV; return its path.

    Columns: stage, epoch from 1, loss, accuracy, val_loss, val_accuracy (empty in stages without
    validation), learning_rate.
    """
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ("stage", *LOG_COLUMNS), extrasaction="ignore", restval="")
    writer.writeheader()
    names = (*trained, "fusion")
    for stage in (*names, *(f"refit-{name}" for name in names)):
        log = folder / stage / LOG_NAME
        if not log.is_file():
            continue
        with log.open(encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                # Keras writes NA for what an epoch does not have.
                known = {name: value for name, value in row.items() if value != "NA"}
                writer.writerow(known | {"stage": stage, "epoch": int(row["epoch"]) + 1})
    joined = folder / LOG_NAME
    atomic.write_durably(joined, stream.getvalue().encode())
    return joined
