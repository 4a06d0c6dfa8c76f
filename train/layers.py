"""What both branches of the network are built of."""

from __future__ import annotations

from functools import partial

import keras
import tensorflow as tf

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


def fuse_normalization(network: keras.Model) -> None:
    """Let a network normalise batches by TensorFlow's fused kernel, in training.

    Keras composes the same numbers of many operations, which makes a training step a sixth longer.
    Layers stay Keras' own, so that what is saved needs nothing of this project.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.call = partial(normalize_fused, layer)


def normalize_fused(
    layer: keras.layers.BatchNormalization,
    inputs: tf.Tensor,
    training: bool | None = None,
    mask: tf.Tensor | None = None,
) -> tf.Tensor:
    """Do what a layer's own ``call`` does: normalise the last axis, and update the averages."""
    if not training:
        return type(layer).call(layer, inputs, training=False, mask=mask)
    values = tf.reshape(inputs, (1, 1, -1, inputs.shape[-1]))
    normal, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=values,
        scale=layer.gamma,
        offset=layer.beta,
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=layer.epsilon,
        is_training=True,
    )
    # The kernel estimates the variance of what the batch is a sample of, Keras the batch's own.
    count = tf.cast(tf.shape(values)[2], variance.dtype)
    variance *= (count - 1) / count
    for average, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        average.assign(average * layer.momentum + now * (1 - layer.momentum))
    return tf.reshape(normal, tf.shape(inputs))


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
