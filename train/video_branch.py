"""How the network sees: a (2+1)D CNN on grey, standardised pictures and their motion."""

from __future__ import annotations

import keras

from train.layers import embedded, normalized

FILTERS = (16, 32, 64, 96)

STANDARDIZATION_EPSILON = 1e-3
"""Variance below which a clip counts as one grey, in pictures of [0, 1]."""

MOTION_GAIN = 3.0
"""A face differs from its own mean about this many times less than from one grey."""


def embed(frames: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Turn frame tensors into embeddings.

    Parameters
    ----------
    frames
        uint8, shape (batch, frame_count, size, size, 3).
    dropout
        Part of the embedding dropped in training.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, EMBEDDING).

    Notes
    -----
    Spatial and temporal convolutions are separate, after Tran et al. 2018, "A closer look at
    spatiotemporal convolutions for action recognition".
    """
    # Pooled before anything else is done: what follows has a twelfth of the numbers to do.
    x = keras.ops.cast(frames, keras.config.floatx())
    x = keras.layers.AveragePooling3D((1, 2, 2), name="frames_pool")(x)
    # Grey and standardised a clip: skin, hair and light tell who it is, not what is felt.
    x = keras.ops.mean(x, axis=-1, keepdims=True) / 255
    # Black pictures are missing ones: they count neither as light nor as movement.
    shown = keras.ops.cast(keras.ops.any(x > 0, axis=(2, 3, 4), keepdims=True), x.dtype)
    part = keras.ops.maximum(keras.ops.mean(shown, axis=1, keepdims=True), keras.config.epsilon())
    x = (x - clip_mean(x, part)) * shown
    x = x / keras.ops.sqrt(clip_mean(keras.ops.square(x), part) + STANDARDIZATION_EPSILON)
    # What moves, beside what is there: the change of a face is more alike than faces are.
    motion = (x - keras.ops.mean(x, axis=1, keepdims=True) / part) * shown * MOTION_GAIN
    x = keras.layers.Concatenate(name="video_input")([x, motion])
    for stage, filters in enumerate(FILTERS):
        # Strides shrink the picture before the costly convolutions: three times cheaper than
        # pooling after them.
        size = (1, 3, 3) if stage else (1, 5, 5)
        x = keras.layers.Conv3D(
            filters, size, (1, 2, 2), padding="same", use_bias=False, name=f"video_space_{stage}"
        )(x)
        x = normalized(x, f"video_space_{stage}")
        if stage:
            x = keras.layers.Conv3D(
                filters, (3, 1, 1), padding="same", use_bias=False, name=f"video_time_{stage}"
            )(x)
            x = normalized(x, f"video_time_{stage}")
        if stage == 1:
            x = keras.layers.MaxPooling3D((2, 1, 1), name="video_pool")(x)
    return embedded(x, dropout, "video")


def clip_mean(x: keras.KerasTensor, part: keras.KerasTensor) -> keras.KerasTensor:
    """Mean of each clip over the part of its pictures that is shown; the others have to be zero."""
    return keras.ops.mean(x, axis=(1, 2, 3, 4), keepdims=True) / part
