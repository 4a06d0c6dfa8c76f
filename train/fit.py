"""Train, let validation actors choose, learn from them too, test once, save: a straight line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras

from pipeline import storage
from pipeline.index import Index
from pipeline.spec import EMOTIONS
from train import (
    artefact,
    confidence,
    dataset,
    duplicates,
    evaluate,
    figures,
    model,
    reading,
    rest,
    resume,
    robustness,
    runtime,
    schedule,
    table,
)
from train.heads import HEADS
from train.progress import Progress
from train.protocol import Split
from train.settings import Settings

TRAINING_FOLDER = "training"
WARM_START_FOLDER = "warm-start"
REFIT_FOLDER = "refit"
LOG_NAME = "log.csv"
CHOSEN_BY = "val_mean_accuracy"
"""Of all heads, as :class:`MeanAccuracy` has it. The loss grows with a confidence that the
temperatures take back, while answers get better; the accuracy of the fused head alone, on a hundred
clips, is the highest by chance in an epoch that has taught the branches little."""


@dataclass(frozen=True)
class Stage:
    """One part of a training: the voice alone, both with validation actors apart, or the refit.

    Parameters
    ----------
    name
        What its bar is called.
    heads
        What learns; the first one's loss is shown.
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


def fit(
    index: Index,
    folder: Path,
    split: Split,
    settings: Settings,
    go_on: bool = False,
    progress: bool = True,
) -> dict:
    """Train on a cache and leave a tested model in a folder.

    The voice begins alone: it learns longer than the face, and an epoch of it is cheap. Validation
    actors choose the epoch, the votes and the temperatures; then the chosen network learns from
    them too, because every person counts where there are few.

    Parameters
    ----------
    index
        A finished cache.
    folder
        Where the model goes.
    split
        Who trains, who chooses, who tests.
    settings
        How to train.
    go_on
        Whether to go on from an interrupted training in the same folder.
    progress
        Whether to show a bar and a line an epoch.

    Returns
    -------
    dict
        The test metrics, see :func:`train.evaluate.metrics`; ``validation`` holds averages of the
        network that had not learned from its actors yet.

    Raises
    ------
    InputError
        If the cache lacks an actor, a row is not what was written, the interrupted training had
        other settings, or the loss is no longer a number.
    """
    # A recording filed under two actors leaks from one side to the other.
    copies = duplicates.left_out(duplicates.across_actors(index))
    dealt = {"clip_seed": split.clip_seed}
    training = table.select_rows(index, split.train, settings.variants, copies, **dealt)
    clean = table.select_rows(index, split.train, left_out=copies, **dealt)
    validation = table.select_rows(index, split.validation, left_out=copies, **dealt)
    all_but_test = table.select_rows(
        index, (*split.train, *split.validation), settings.variants, copies, **dealt
    )
    test = table.select_rows(index, split.test, **dealt)

    work = folder / TRAINING_FOLDER
    started_with = {
        **asdict(settings),
        **json.loads(json.dumps(asdict(split))),
        "cache": index.fingerprint,
    }
    if not go_on:
        # All stages at once: a later one of another training must not be taken for this one's.
        shutil.rmtree(work, ignore_errors=True)
    known = reading.mfcc_statistics(clean)
    network = model.build_fusion_cnn(index.spec, known.mean, known.variance, settings.dropout)
    before = settings.warm_start_epochs
    if before:
        warm_start = Stage(
            "voice", ("audio",), work, work / WARM_START_FOLDER, training, None, before
        )
        voice = compiled(network, settings, warm_start.heads)
        learn(voice, warm_start, known, settings, started_with, go_on, progress)
    lessons = compiled(network, settings)
    first = Stage("train", HEADS, work, work, training, validation, settings.epochs, before)
    learn(lessons, first, known, settings, started_with, go_on, progress)
    last = evaluate.predict(network, validation)
    resume.load_best(lessons, first.folder, resume.read_state(first.folder, started_with))
    best = evaluate.predict(network, validation)
    votes = confidence.fit_votes(best, validation.label)
    frequencies = confidence.frequencies(training.label)
    chosen_by = confidence.balance(confidence.vote(best, votes), frequencies)

    measured_by = chosen_by
    if settings.refit_epochs:
        second = Stage(
            "refit",
            HEADS,
            work,
            work / REFIT_FOLDER,
            all_but_test,
            None,
            settings.refit_epochs,
            before + settings.epochs,
        )
        schedule.renew(lessons.optimizer, settings)
        learn(lessons, second, known, settings, started_with, go_on, progress)
        # Answers grow surer with every epoch. How sure they are when the refit ends, nobody is left
        # to tell; the last epoch of the first stage had as long to learn.
        measured_by = confidence.balance(confidence.vote(last, votes), frequencies)
    temperatures = confidence.fit_temperatures(measured_by, validation.label)

    voting = model.build_fusion_cnn(
        index.spec, known.mean, known.variance, settings.dropout, votes, frequencies
    )
    voting.set_weights(network.get_weights())

    probabilities = confidence.temper(evaluate.predict(voting, test), temperatures)
    judged = evaluate.metrics(test, probabilities) | {
        "stamp": split.stamp,
        "validation": evaluate.head_averages(validation, chosen_by),
        "votes": votes,
    }
    report = folder / "report"
    evaluate.write_report(report, test, probabilities, judged)
    figures.draw_curves(report / "learning_curves.png", work / LOG_NAME)
    robustness.write(report, robustness.measure(voting, test))
    artefact.save(
        artefact.Artefact(
            voting,
            index.spec,
            split,
            asdict(settings),
            judged,
            tuple(sorted(table.source_hashes(index, split))),
            index.fingerprint,
            temperatures,
            rest.reference(validation, chosen_by),
        ),
        folder,
    )
    return judged


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
        See :func:`fit`.
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
        bar.append(Progress(stage.name, stage.heads[0], stage.epochs, steps, first_epoch))
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
        watched = dataset.in_order(stage.validation, settings.batch_size)
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
        metrics={head: ["accuracy"] for head in heads},
        jit_compile=runtime.xla(),
    )
    # Variables that come into being in the first step make TensorFlow trace it twice.
    lessons.optimizer.build(lessons.trainable_variables)
    answers = dict.fromkeys(lessons.output, keras.ops.full((1, len(EMOTIONS)), 1.0))
    labels = dict.fromkeys(lessons.output, keras.ops.zeros((1,), "int64"))
    lessons.compute_loss(None, labels, answers)
    lessons.compute_metrics(None, labels, answers)
    lessons.reset_metrics()
    return lessons


class MeanAccuracy(keras.callbacks.Callback):
    """Adds the mean of the heads' validation accuracies to what later callbacks are told."""

    def on_epoch_end(self, epoch: int, logs: dict) -> None:
        """Add it."""
        logs[CHOSEN_BY] = sum(logs[f"val_{head}_accuracy"] for head in HEADS) / len(HEADS)


def callbacks(
    stage: Stage, settings: Settings, started_with: dict, steps: int, state: resume.State | None
) -> list[keras.callbacks.Callback]:
    """List what happens beside the gradient steps, in order."""
    first_epoch = state.epoch if state else 0
    log = stage.folder / LOG_NAME
    watched: list[keras.callbacks.Callback] = []
    if stage.validation is not None:
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
        *([MeanAccuracy()] if watched else []),
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
    storage.write_durably(log, b"".join(lines[: 1 + epochs]))
