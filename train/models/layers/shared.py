"""What branches of either kind are made of."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pipeline.spec import EMOTIONS

BATCH_NORMALIZATION_MOMENTUM = 0.9
"""Keras' 0.99 averages over hundreds of steps, more than the first epochs have."""

INSTANT_FEATURES = 96
"""Features of each instant, before time is pooled."""

EMBEDDING = 64
"""Features that an encoder describes a clip by."""

register = keras.saving.register_keras_serializable(package="train")


def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Apply batch normalisation and ReLU."""
    x = keras.layers.BatchNormalization(
        momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_normalization"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def folded(x: keras.KerasTensor) -> keras.KerasTensor:
    """Make each frame a sample of its own: (batch, time, …) to (batch * time, …)."""
    return keras.ops.reshape(x, (-1, *x.shape[2:]))


def unfolded(x: keras.KerasTensor, time: int) -> keras.KerasTensor:
    """Undo :func:`folded`."""
    return keras.ops.reshape(x, (-1, time, *x.shape[1:]))


@register
class LevelAndChange(keras.layers.Layer):
    """Concatenate features and their difference from the mean over time.

    Input (batch, time, …, features); output (batch, time, …, 2 * features). With a second input
    (batch, …, features), the speaker reference, the level is the difference from that.

    Parameters
    ----------
    gain
        Factor on differences.
    """

    def __init__(self, gain: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.gain = gain

    def call(
        self, x: keras.KerasTensor, reference: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        """Concatenate both."""
        change = (x - keras.ops.mean(x, axis=1, keepdims=True)) * self.gain
        level = x if reference is None else (x - reference[:, np.newaxis]) * self.gain
        return keras.ops.concatenate([level, change], axis=-1)

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"gain": self.gain}


def class_logits(embedding: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return logits of the emotions, shape (batch, 8), in float32 whatever the precision."""
    return keras.layers.Dense(len(EMOTIONS), dtype="float32", name=name)(embedding)


def summarize(x: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Describe each instant, pool time, project: features over time to an embedding.

    Parameters
    ----------
    x
        Shape (batch, time, …).
    dropout
        Rate of the embedding's dropout in training.
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, EMBEDDING).
    """
    x = keras.layers.Reshape((x.shape[1], -1), name=f"{name}_instants")(x)
    x = keras.layers.Dropout(dropout / 2, name=f"{name}_instant_dropout")(x)
    x = keras.layers.Dense(INSTANT_FEATURES, use_bias=False, name=f"{name}_instant")(x)
    x = normalized(x, f"{name}_instant")
    x = keras.layers.Concatenate(name=f"{name}_mean_and_max")(
        [keras.ops.mean(x, axis=1), keras.ops.max(x, axis=1)]
    )
    x = keras.layers.Dense(EMBEDDING, use_bias=False, name=f"{name}_dense")(x)
    x = normalized(x, f"{name}_dense")
    return keras.layers.Dropout(dropout, name=f"{name}_embedding_dropout")(x)
