"""How the network hears: three unlike readers of the MFCC image, each with its own opinion.

Networks that learn from a dozen speakers each mistake something of these speakers for the emotion;
unlike networks mistake unlike things, and their mean is right more often than any of them.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from train.layers import embedded, normalized

CNN_FILTERS = (32, 48, 96)
TDNN_FILTERS = 128
TDNN_DILATIONS = (1, 2, 3)
GRU_FILTERS = 128
GRU_UNITS = 64
"""In each direction of time."""


def embed(
    mfcc: keras.KerasTensor,
    mean: NDArray[np.float32],
    variance: NDArray[np.float32],
    dropout: float,
) -> dict[str, keras.KerasTensor]:
    """Turn MFCC images into the embeddings of each reader.

    Parameters
    ----------
    mfcc
        float32, shape (batch, mfcc_count, mfcc_columns, 1).
    mean, variance
        Shape (mfcc_count,), over clean training rows.
    dropout
        Part of the embeddings dropped in training.

    Returns
    -------
    dict of str to keras.KerasTensor
        Of each of ``train.heads.READERS``, shape (batch, EMBEDDING).

    Notes
    -----
    The time-delay network is that of Peddinti, Povey & Khudanpur 2015, "A time delay neural network
    architecture for efficient modeling of long temporal contexts", the recurrent unit that of Cho
    et al. 2014, "Learning phrase representations using RNN encoder-decoder".
    """
    # Keras 3.12 and 3.15 agree on statistics of the last axis alone.
    x = keras.layers.Permute((2, 3, 1), name="mfcc_last")(mfcc)
    x = keras.layers.Normalization(
        mean=mean, variance=np.maximum(variance, 1e-6), name="mfcc_normalization"
    )(x)
    level = keras.layers.Permute((1, 3, 2), name="mfcc_columns")(x)
    # Beside the level of each coefficient, its course: what a speaker's voice is like cancels out.
    course = level - keras.ops.mean(level, axis=1, keepdims=True)
    columns = keras.layers.Concatenate(name="audio_input")([level, course])
    rows = keras.layers.Reshape((columns.shape[1], -1), name="audio_columns")(columns)
    heard = {
        "cnn": hear_as_picture(columns, dropout),
        "tdnn": hear_in_context(rows, dropout),
        "gru": hear_in_order(rows, dropout),
    }
    return {name: embedded(features, dropout, f"audio_{name}") for name, features in heard.items()}


def hear_as_picture(columns: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Convolve over neighbouring coefficients and columns: the 2D CNN.

    Parameters
    ----------
    columns
        Shape (batch, time, mfcc_count, 2): level and course.
    dropout
        A quarter of it is the part of the features that is dropped after each stage.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 8, mfcc_count / 8, features).
    """
    x = keras.layers.Conv2D(
        CNN_FILTERS[0], 5, 2, padding="same", use_bias=False, name="audio_cnn_stem"
    )(columns)
    x = normalized(x, "audio_cnn_stem")
    for stage, filters in enumerate(CNN_FILTERS):
        if stage:
            x = keras.layers.MaxPooling2D(2, name=f"audio_cnn_pool_{stage}")(x)
        for number in range(1 + min(stage, 1)):
            name = f"audio_cnn_{stage}_{number}"
            x = keras.layers.Conv2D(
                filters, 3, padding="same", use_bias=False, name=f"{name}_convolution"
            )(x)
            x = normalized(x, name)
        x = keras.layers.SpatialDropout2D(dropout / 4, name=f"audio_cnn_dropout_{stage}")(x)
    return x


def hear_in_context(rows: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Convolve whole columns over ever wider stretches of time: the time-delay network.

    Parameters
    ----------
    rows
        Shape (batch, time, 2 * mfcc_count): level and course.
    dropout
        See :func:`hear_as_picture`.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time, TDNN_FILTERS).
    """
    x = rows
    for stage, (size, dilation) in enumerate(((5, 1), *((3, rate) for rate in TDNN_DILATIONS))):
        name = f"audio_tdnn_{stage}"
        x = keras.layers.Conv1D(
            TDNN_FILTERS,
            size,
            dilation_rate=dilation,
            padding="same",
            use_bias=False,
            name=f"{name}_convolution",
        )(x)
        x = normalized(x, name)
        x = keras.layers.SpatialDropout1D(dropout / 4, name=f"audio_tdnn_dropout_{stage}")(x)
    return x


def hear_in_order(rows: keras.KerasTensor, dropout: float) -> keras.KerasTensor:
    """Read columns one after the other, forwards and backwards: the recurrent network.

    Parameters
    ----------
    rows
        Shape (batch, time, 2 * mfcc_count): level and course.
    dropout
        See :func:`hear_as_picture`.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 2, 2 * GRU_UNITS).
    """
    x = keras.layers.Conv1D(
        GRU_FILTERS, 5, 2, padding="same", use_bias=False, name="audio_gru_stem"
    )(rows)
    x = normalized(x, "audio_gru_stem")
    x = keras.layers.SpatialDropout1D(dropout / 4, name="audio_gru_stem_dropout")(x)
    both_ways = keras.layers.GRU(GRU_UNITS, return_sequences=True, name="audio_gru_one_way")
    return keras.layers.Bidirectional(both_ways, name="audio_gru_both_ways")(x)
