"""What a training is started with."""

from __future__ import annotations

from dataclasses import dataclass


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

    @property
    def warm_start_epochs(self) -> int:
        """Epochs in which the voice learns alone."""
        return round(self.warm_start * self.epochs)

    @property
    def refit_epochs(self) -> int:
        """Epochs with the validation actors learned from too."""
        return round(self.refit * self.epochs)
