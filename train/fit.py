"""Train, choose the best epoch by validation actors, test once, and save: one linear function."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
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
LOG_NAME = "log.csv"
CHOSEN_BY = "val_fused_accuracy"
"""The loss grows with a confidence that the temperatures take back, while answers get better."""


def fit(
    index: Index,
    folder: Path,
    split: Split,
    settings: Settings,
    go_on: bool = False,
    progress: bool = True,
) -> dict:
    """Train on a cache and leave a tested model in a folder.

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
        The test metrics, see :func:`train.evaluate.metrics`.

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
    test = table.select_rows(index, split.test, **dealt)

    work = folder / TRAINING_FOLDER
    started_with = {
        **asdict(settings),
        **json.loads(json.dumps(asdict(split))),
        "cache": index.fingerprint,
    }
    state = resume.read_state(work, started_with) if go_on else None
    if state is None:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)

    known = reading.mfcc_statistics(clean)
    network = model.build_fusion_cnn(index.spec, known.mean, known.variance, settings.dropout)
    compile_network(network, settings)
    first_epoch = 0
    if state is not None:
        resume.restore(network, work, state, settings.learning_rate)
        keep_epochs(work / LOG_NAME, state.epoch)
        first_epoch = settings.epochs if state.stopped_early else state.epoch

    steps = dataset.steps_per_epoch(training, settings.batch_size)
    bar = [Progress(settings.epochs, steps, first_epoch)] if progress else []
    kept = callbacks(work, settings, started_with, steps, state)
    try:
        with dataset.input_errors(), runtime.storage_errors(work):
            network.fit(
                dataset.shuffled(training, settings.batch_size, settings.seed, known, first_epoch),
                validation_data=dataset.in_order(validation, settings.batch_size),
                epochs=settings.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=steps,
                callbacks=kept + bar,
                shuffle=False,
                verbose=0,
            )
    finally:
        for shown in bar:
            shown.bar.close()
    resume.load_best(network, work, resume.read_state(work, started_with))

    votes = confidence.fit_votes(evaluate.predict(network, validation), validation.label)
    trained = network.get_weights()
    network = model.build_fusion_cnn(
        index.spec, known.mean, known.variance, settings.dropout, votes
    )
    network.set_weights(trained)

    chosen_by = evaluate.predict(network, validation)
    temperatures = confidence.fit_temperatures(chosen_by, validation.label)
    probabilities = confidence.temper(evaluate.predict(network, test), temperatures)
    judged = evaluate.metrics(test, probabilities) | {
        "stamp": split.stamp,
        "validation": evaluate.head_averages(validation, chosen_by),
        "votes": votes,
    }
    report = folder / "report"
    evaluate.write_report(report, test, probabilities, judged)
    figures.draw_curves(report / "learning_curves.png", work / LOG_NAME)
    robustness.write(report, robustness.measure(network, test))
    artefact.save(
        artefact.Artefact(
            network,
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


def compile_network(network: keras.Model, settings: Settings) -> None:
    """Give the network its losses and its optimizer."""
    network.compile(
        optimizer=schedule.optimizer(settings),
        loss=dict.fromkeys(HEADS, "sparse_categorical_crossentropy"),
        metrics={head: ["accuracy"] for head in HEADS},
        jit_compile=runtime.xla(),
    )
    # Variables that come into being in the first step make TensorFlow trace it twice.
    network.optimizer.build(network.trainable_variables)
    answers = dict.fromkeys(HEADS, keras.ops.full((1, len(EMOTIONS)), 1.0))
    labels = dict.fromkeys(HEADS, keras.ops.zeros((1,), "int64"))
    network.compute_loss(None, labels, answers)
    network.compute_metrics(None, labels, answers)
    network.reset_metrics()


def callbacks(
    work: Path, settings: Settings, started_with: dict, steps: int, state: resume.State | None
) -> list[keras.callbacks.Callback]:
    """List what happens beside the gradient steps, in order."""
    first_epoch = state.epoch if state else 0
    watched = [
        keras.callbacks.ReduceLROnPlateau(
            monitor=CHOSEN_BY, mode="max", factor=0.5, patience=settings.plateau_patience
        ),
        keras.callbacks.EarlyStopping(monitor=CHOSEN_BY, mode="max", patience=settings.patience),
    ]
    return [
        resume.StopWhenDiverged(work),
        schedule.WarmupCosine(
            round(settings.warmup_epochs * steps), settings.epochs * steps, first_epoch * steps
        ),
        *watched,
        keras.callbacks.CSVLogger(work / LOG_NAME, append=state is not None),
        keras.callbacks.TensorBoard(work / "tensorboard", write_graph=False),
        resume.Resume(work, started_with, watched, CHOSEN_BY, work / LOG_NAME, state),
    ]


def keep_epochs(log: Path, epochs: int) -> None:
    """Drop what an interrupted training logged after its last saved state."""
    lines = log.read_bytes().splitlines(keepends=True)
    storage.write_durably(log, b"".join(lines[: 1 + epochs]))
