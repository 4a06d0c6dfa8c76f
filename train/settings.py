"""What a training is started with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from pipeline.errors import InputError

LONGEST_STAGE = 10
"""Most times the epochs that another stage takes."""

MAX_SEED = 2**31 - 1
"""Python, NumPy, Keras and TensorFlow take it."""


PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
"""Keras' dtype policies that a training may have."""


def at_least(least: float) -> tuple[str, Callable[[float], bool]]:
    """Say and check that a number is finite and not below another."""
    return f"of at least {least}", lambda value: least <= value < math.inf


def up_to(most: float, unit: str = "") -> tuple[str, Callable[[float], bool]]:
    """Say and check that a number is from 0 to another."""
    return f"of 0 to {most}{unit}", lambda value: 0 <= value <= most


ABOVE_ZERO = "above 0", lambda value: 0 < value < math.inf

BOUNDS = {
    "epochs": at_least(1),
    "warm_start": up_to(LONGEST_STAGE, " times the epochs"),
    "refit": up_to(LONGEST_STAGE, " times the epochs"),
    "batch_size": at_least(1),
    "learning_rate": ABOVE_ZERO,
    "warmup_epochs": at_least(0),
    "weight_decay": at_least(0),
    "clip_norm": ABOVE_ZERO,
    "patience": at_least(1),
    "plateau_patience": at_least(1),
    "dropout": ("of at least 0 and below 1", lambda value: 0 <= value < 1),
    "seed": up_to(MAX_SEED),
    "precision": (f"out of {', '.join(PRECISIONS)}", lambda value: value in PRECISIONS),
}
"""What each setting may be, in words and as a check that is false of NaN."""


@dataclass(frozen=True)
class Settings:
    """What a training is started with.

    Parameters
    ----------
    epochs
        Most epochs with validation actors apart.
    warm_start
        Part of ``epochs`` that comes before, in which the voice learns alone.
    refit
        Part of ``epochs`` that follows with the validation actors learned from too.
    batch_size
        Rows a step.
    learning_rate
        Peak, reached after the warm-up.
    warmup_epochs
        Epochs of linear rise.
    weight_decay
        Part of the rate by which weights shrink each step.
    clip_norm
        Gradients longer than this, all taken together, are shortened to it.
    patience
        Epochs without a better validation accuracy before stopping; as many as ``epochs`` never
        stop.
    plateau_patience
        Epochs without a better validation accuracy before the rate is halved.
    dropout
        Part of the embeddings dropped.
    variants
        Whether the augmented rows are trained on beside the clean ones.
    calibrated
        Whether every clip is read against one of its person at rest, see :mod:`train.rest`.
    seed
        Of weights, order and augmentation.
    precision
        Out of :data:`PRECISIONS`, of the network in training; what is saved computes in float32.

    Raises
    ------
    InputError
        If one is out of its bounds.
    """

    epochs: int = 10
    warm_start: float = 4.0
    refit: float = 0.6
    batch_size: int = 16
    learning_rate: float = 1.4e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    patience: int = 6
    plateau_patience: int = 3
    dropout: float = 0.4
    variants: bool = True
    calibrated: bool = False
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for field in fields(self):
            said, within = BOUNDS.get(field.name, ("", lambda value: True))
            value = getattr(self, field.name)
            if not within(value):
                raise InputError(
                    f"expected {field.name.replace('_', ' ')} {said}, got {value}; choose another, "
                    f"such as {field.default}"
                )

    @property
    def warm_start_epochs(self) -> int:
        """Epochs in which the voice learns alone."""
        return round(self.warm_start * self.epochs)

    @property
    def refit_epochs(self) -> int:
        """Epochs with the validation actors learned from too."""
        return round(self.refit * self.epochs)
