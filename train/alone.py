"""One branch of the network trained alone, with its own head."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import keras

from train import dataset, resume, runtime, schedule
from train.reading import MfccStatistics
from train.settings import Settings
from train.table import Rows


def learn(
    branch: keras.Model,
    training: Rows,
    known: MfccStatistics,
    settings: Settings,
    work: Path,
    without: Collection[str] = (),
) -> None:
    """Train a branch through all its epochs; nobody chooses one.

    Parameters
    ----------
    branch
        See :func:`train.model.lessons`.
    training
        Rows to learn from.
    known
        Of these rows.
    settings
        How to train.
    work
        Folder of the training, for the message of one that diverges.
    without
        Names out of :data:`train.heads.CHANGES` of what is not done to the rows.

    Raises
    ------
    InputError
        If the loss is no longer a number.
    """
    branch.compile(
        schedule.optimizer(settings),
        dict.fromkeys(branch.output, "sparse_categorical_crossentropy"),
        jit_compile=runtime.jit_compile(),
    )
    branch.optimizer.build(branch.trainable_variables)
    rows = dataset.shuffled_for(
        branch, training, settings.batch_size, settings.seed, known, without=without
    )
    steps = dataset.steps_per_epoch(training, settings.batch_size)
    warmup_steps = round(settings.warmup_epochs * steps)
    branch.fit(
        rows,
        epochs=settings.epochs,
        steps_per_epoch=steps,
        callbacks=[
            resume.StopWhenDiverged(work),
            schedule.WarmupCosine(warmup_steps, settings.epochs * steps),
        ],
        shuffle=False,
        verbose=0,
    )
