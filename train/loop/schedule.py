"""The optimizer, and a warm-up and cosine decay that live beside ReduceLROnPlateau.

Keras refuses ReduceLROnPlateau on an optimizer that holds a LearningRateSchedule. Here the schedule
multiplies the optimizer's rate by the ratio of its value at this step to that at the step before,
so that whatever a plateau takes off stays off.
"""

from __future__ import annotations

import math

import keras

from train.settings import Settings


def optimizer(settings: Settings) -> keras.optimizers.Optimizer:
    """Make Adam with clipped gradients and decaying weights; small gradients are scaled up.

    Those of float16 would be zero. Each stage has an optimizer of its own: one whose variables were
    zeroed would scale by zero.
    """
    adam = keras.optimizers.Adam(
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm,
    )
    if settings.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(adam)
    return adam


def warmup_cosine(step: int, warmup_steps: int, total_steps: int, floor: float = 0.02) -> float:
    """Part of the peak learning rate at a step.

    Parameters
    ----------
    step
        From 0.
    warmup_steps
        Steps of linear rise.
    total_steps
        Step at which the floor is reached.
    floor
        Smallest value.

    Returns
    -------
    float
        In (0, 1].

    Notes
    -----
    The decay is that of Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm
    restarts", without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


class WarmupCosine(keras.callbacks.Callback):
    """Scales the optimizer's learning rate along :func:`warmup_cosine` before each step.

    Parameters
    ----------
    warmup_steps, total_steps
        Shape of the schedule.
    first_step
        Step at which a resumed training goes on; its rate is already that of the step before.
    """

    def __init__(self, warmup_steps: int, total_steps: int, first_step: int = 0) -> None:
        super().__init__()
        self.warmup_steps, self.total_steps, self.step = warmup_steps, total_steps, first_step

    def value(self, step: int) -> float:
        """Part of the peak rate at a step; 1 before the first."""
        return warmup_cosine(step, self.warmup_steps, self.total_steps) if step >= 0 else 1.0

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Scale the rate from the last step's value to this step's."""
        rate = self.model.optimizer.learning_rate
        rate.assign(rate * (self.value(self.step) / self.value(self.step - 1)))
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Log the rate, which Keras does only where ReduceLROnPlateau watches."""
        if logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
