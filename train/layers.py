"""What both branches of the network are built of."""

from __future__ import annotations

import keras

BATCH_NORMALIZATION_MOMENTUM = 0.9
"""Keras' 0.99 averages over some hundred steps, more than the first epochs have."""

INSTANT = 96
"""Features of each instant, before time is pooled."""

EMBEDDING = 96


def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Batch normalisation and rectification."""
    x = keras.layers.BatchNormalization(
        momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_normalization"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def embedded(x: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Describe each instant, pool time, project and drop out: the end of whatever hears or sees.

    Parameters
    ----------
    x
        Shape (batch, time, …). Places stay apart: a mouth is not a brow, nor a low band a high one.
    dropout
        Part of the embedding dropped in training.
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, EMBEDDING).
    """
    x = keras.layers.Reshape((x.shape[1], -1), name=f"{name}_instants")(x)
    x = keras.layers.Dropout(dropout / 2, name=f"{name}_instant_dropout")(x)
    x = keras.layers.Dense(INSTANT, use_bias=False, name=f"{name}_instant")(x)
    x = normalized(x, f"{name}_instant")
    x = keras.layers.Concatenate(name=f"{name}_summary")(
        [keras.ops.mean(x, axis=1), keras.ops.max(x, axis=1)]
    )
    x = keras.layers.Dense(EMBEDDING, use_bias=False, name=f"{name}_dense")(x)
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(normalized(x, f"{name}_dense"))
