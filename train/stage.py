"""One stage of a training: what learns, from which rows, and what happens beside its steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train import dataset, model, reading, resume, runtime, schedule, table
from train.heads import HEADS
from train.progress import Progress
from train.settings import Settings

LOG_NAME = "log.csv"
CHOSEN_BY = "val_mean_accuracy"
"""Of the heads, as :class:`MeanAccuracy` computes it. The loss grows with a confidence that the
temperatures take back, while answers get better; the accuracy of the fused head alone, on a hundred
clips, is the highest by chance in an epoch that has taught the branches little."""


@dataclass(frozen=True)
class Stage:
    """One part of a training: the audio branch alone, validation actors apart, or the refit.

    Parameters
    ----------
    name
        What its bar is called.
    heads
        Those that learn; the first one's loss is shown.
    work
        Folder of the whole training.
    folder
        Where this stage logs and saves what it needs to go on.
    rows
        What is learned from.
    validation
        What the best epoch is chosen by, and training ended; None does all epochs.
    epochs
        Most epochs.
    epochs_before
        Of the stages before: order and augmentation go on from there.
    """

    name: str
    heads: tuple[str, ...]
    work: Path
    folder: Path
    rows: table.Rows
    validation: table.Rows | None
    epochs: int
    epochs_before: int = 0


def learn(
    lessons: keras.Model,
    stage: Stage,
    known: reading.MfccStatistics,
    settings: Settings,
    started_with: dict,
    go_on: bool,
    progress: bool,
) -> None:
    """Train through a stage; the network ends with the weights of its last epoch.

    Parameters
    ----------
    lessons
        Of :func:`compiled`; the stage begins with its weights.
    stage
        What is learned from.
    known
        Of the rows of the first stage.
    settings
        How to train.
    started_with
        What an interrupted training has to agree with.
    go_on, progress
        See :func:`train.fit.fit`.
    """
    state = resume.read_state(stage.folder, started_with) if go_on else None
    stage.folder.mkdir(parents=True, exist_ok=True)
    first_epoch = 0
    if state is not None:
        resume.restore(lessons, stage.folder, state, settings.learning_rate)
        keep_epochs(stage.folder / LOG_NAME, state.epoch)
        first_epoch = stage.epochs if state.stopped_early else state.epoch

    steps = dataset.steps_per_epoch(stage.rows, settings.batch_size)
    bar = []
    if progress:
        bar.append(Progress(stage.name, stage.heads, stage.epochs, steps, first_epoch))
    kept = callbacks(stage, settings, started_with, steps, state)
    epochs = dataset.shuffled_for(
        lessons,
        stage.rows,
        settings.batch_size,
        settings.seed,
        known,
        stage.epochs_before + first_epoch,
    )
    watched = None
    if stage.validation is not None:
        watched = dataset.in_order(stage.validation, settings.batch_size, lessons.input)
        watched = dataset.restricted(lessons, watched)
    try:
        with dataset.input_errors(), runtime.storage_errors(stage.folder):
            lessons.fit(
                epochs,
                validation_data=watched,
                epochs=stage.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=steps,
                callbacks=kept + bar,
                shuffle=False,
                verbose=0,
            )
    finally:
        for shown in bar:
            shown.bar.close()


def compiled(network: keras.Model, settings: Settings, heads: Sequence[str] = HEADS) -> keras.Model:
    """Return a network's lessons with losses and an optimizer, see :func:`train.model.lessons`."""
    lessons = model.lessons(network, heads)
    lessons.compile(
        optimizer=schedule.optimizer(settings),
        loss=dict.fromkeys(lessons.output, "sparse_categorical_crossentropy"),
        # Of rows that have the head's modality.
        weighted_metrics={head: ["accuracy"] for head in heads},
        jit_compile=runtime.jit_compile(),
    )
    # Variables that come into being in the first step make TensorFlow trace it twice.
    lessons.optimizer.build(lessons.trainable_variables)
    answers = dict.fromkeys(lessons.output, keras.ops.full((1, len(EMOTIONS)), 1.0))
    labels = dict.fromkeys(lessons.output, keras.ops.zeros((1,), "int64"))
    lessons.compute_loss(None, labels, answers)
    lessons.compute_metrics(None, labels, answers)
    lessons.reset_metrics()
    return lessons


class NamedLogs(keras.callbacks.Callback):
    """Names the logs of a network with a single output as Keras names those of several."""

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Add the named ones."""
        if len(self.model.output) > 1:
            return
        (head,) = self.model.output
        for side in ("", "val_"):
            for name in ("loss", "accuracy"):
                if f"{side}{name}" in logs:
                    logs[f"{side}{head}_{name}"] = logs[f"{side}{name}"]


class MeanAccuracy(keras.callbacks.Callback):
    """Adds the mean of some heads' validation accuracies to the logs of later callbacks.

    Parameters
    ----------
    heads
        Those that some validation row has the modality of.
    """

    def __init__(self, heads: Sequence[str]) -> None:
        super().__init__()
        self.heads = heads

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Add it."""
        accuracies = [logs[f"val_{head}_accuracy"] for head in self.heads]
        logs[CHOSEN_BY] = sum(accuracies) / len(accuracies)


def callbacks(
    stage: Stage, settings: Settings, started_with: dict, steps: int, state: resume.State | None
) -> list[keras.callbacks.Callback]:
    """List what happens beside the gradient steps, in order."""
    first_epoch = state.epoch if state else 0
    log = stage.folder / LOG_NAME
    watched: list[keras.callbacks.Callback] = []
    if stage.validation is not None:
        validation = stage.validation
        judged = [head for head in stage.heads if validation.having(head).any()]
        watched = [
            keras.callbacks.ReduceLROnPlateau(
                monitor=CHOSEN_BY, mode="max", factor=0.5, patience=settings.plateau_patience
            ),
            keras.callbacks.EarlyStopping(
                monitor=CHOSEN_BY, mode="max", patience=settings.patience
            ),
        ]
    return [
        resume.StopWhenDiverged(stage.work),
        schedule.WarmupCosine(
            round(settings.warmup_epochs * steps), stage.epochs * steps, first_epoch * steps
        ),
        NamedLogs(),
        *([MeanAccuracy(judged)] if watched else []),
        *watched,
        keras.callbacks.CSVLogger(log, append=state is not None),
        keras.callbacks.TensorBoard(stage.folder / "tensorboard", write_graph=False),
        resume.Resume(
            stage.folder, started_with, watched, CHOSEN_BY if watched else None, log, state
        ),
    ]


def keep_epochs(log: Path, epochs: int) -> None:
    """Drop what an interrupted training logged after its last saved state."""
    lines = log.read_bytes().splitlines(keepends=True)
    atomic.write_durably(log, b"".join(lines[: 1 + epochs]))
