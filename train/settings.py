"""What a training is started with."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errors import InputError
from train.heads import AUGMENTATIONS, INPUTS

MAX_SEED = 2**31 - 1
"""Python, NumPy, Keras and TensorFlow take it."""

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")
"""Keras' dtype policies that a training may have."""

SPEAKER_REFERENCES = ("none", "neutral", "recording")

BRANCH_EPOCHS = tuple(f"{branch}_epochs" for branch in INPUTS)
EPOCHS = (*BRANCH_EPOCHS, "fusion_epochs", "refit_epochs")


def at_least(least: float) -> tuple[str, Callable[[float], bool]]:
    """Say and check that a number is finite and not below another."""
    return f"of at least {least}", lambda value: least <= value < math.inf


def out_of(choices: tuple[str, ...]) -> tuple[str, Callable[[str], bool]]:
    """Say and check that a name is one of some."""
    return f"out of {', '.join(choices)}", lambda value: value in choices


ABOVE_ZERO = "above 0", lambda value: 0 < value < math.inf
WITHOUT = tuple(name for names in AUGMENTATIONS.values() for name in names)

BOUNDS = {
    **{name: at_least(1) for name in BRANCH_EPOCHS},
    "fusion_epochs": at_least(1),
    "refit_epochs": at_least(0),
    "batch_size": at_least(1),
    "learning_rate": ABOVE_ZERO,
    "warmup_epochs": at_least(0),
    "weight_decay": at_least(0),
    "clip_norm": ABOVE_ZERO,
    "patience": at_least(1),
    "plateau_patience": at_least(1),
    "dropout": ("of at least 0 and below 1", lambda value: 0 <= value < 1),
    "seed": (f"of 0 to {MAX_SEED}", lambda value: 0 <= value <= MAX_SEED),
    "precision": out_of(PRECISIONS),
    "speaker_reference": out_of(SPEAKER_REFERENCES),
    "modalities": (
        f"one or more out of {', '.join(INPUTS)}, each once",
        lambda value: bool(value) and set(value) <= set(INPUTS) and len(set(value)) == len(value),
    ),
    "without": (f"out of {', '.join(WITHOUT)}", lambda value: set(value) <= set(WITHOUT)),
}
"""What each setting may be, in words and as a check that is false of NaN."""


@dataclass(frozen=True)
class Settings:
    """What a training is started with.

    Parameters
    ----------
    audio_epochs, video_epochs, fusion_epochs
        Most epochs of each stage; validation actors choose the best of them.
    refit_epochs
        Epochs in which each branch is then fine-tuned on training and validation actors; 0: none.
    batch_size
        Rows a step.
    learning_rate
        Peak of each stage, reached after the warm-up.
    warmup_epochs
        Epochs of linear rise.
    weight_decay
        Part of the rate by which weights shrink each step.
    clip_norm
        Gradients whose global norm is larger are scaled down to it.
    patience
        Epochs without a better validation accuracy before a stage stops.
    plateau_patience
        Epochs without a better validation accuracy before the rate is halved.
    dropout
        Rate of the embeddings' dropout.
    variants
        Whether the augmented rows are trained on beside the clean ones.
    modalities
        Branches that are trained.
    without
        Augmentations of :data:`train.heads.AUGMENTATIONS` that are left out.
    speaker_reference
        What each clip is compared with: nothing, the speaker's neutral clips, or all of the
        speaker's other clips; see :mod:`train.data.speaker`.
    seed
        Of weights, order and augmentation.
    precision
        Out of :data:`PRECISIONS`, in training; the saved model computes in float32.

    Raises
    ------
    InputError
        If one is out of its bounds.
    """

    audio_epochs: int = 40
    video_epochs: int = 12
    fusion_epochs: int = 2
    refit_epochs: int = 6
    batch_size: int = 16
    learning_rate: float = 1.4e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    patience: int = 8
    plateau_patience: int = 4
    dropout: float = 0.4
    variants: bool = True
    modalities: tuple[str, ...] = tuple(INPUTS)
    without: tuple[str, ...] = ()
    speaker_reference: str = "none"
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # As JSON gives a tuple back.
                object.__setattr__(self, field.name, value := tuple(value))
            said, within = BOUNDS.get(field.name, ("", lambda value: True))
            if not within(value):
                shown = ", ".join(value) if isinstance(value, tuple) else value
                raise InputError(
                    f"expected {field.name.replace('_', ' ')} {said}, got {shown}; choose "
                    f"another, such as {field.default}"
                )

    def epochs_of(self, branch: str) -> int:
        """Most epochs of a branch."""
        return getattr(self, f"{branch}_epochs")


def scaled(settings: Settings, factor: float) -> Settings:
    """Return settings with all numbers of epochs multiplied, each at least 1.

    Raises
    ------
    InputError
        If the factor is not above 0.
    """
    said, within = ABOVE_ZERO
    if not within(factor):
        raise InputError(f"expected a scale of the epochs {said}, got {factor}; choose another")
    epochs = {name: getattr(settings, name) for name in EPOCHS}
    epochs = {name: max(1, round(factor * count)) for name, count in epochs.items() if count}
    return dataclasses.replace(settings, **epochs)
