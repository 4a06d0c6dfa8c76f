"""How the network hears: unlike readers of the MFCC image, each with its own opinion.

Networks that learn from a dozen speakers each mistake something of these speakers for the emotion;
unlike networks mistake unlike things, and their mean is right more often than any of them. What
makes them unlike is how they read, and what: the coefficients, or the mel bands behind them.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from numpy.typing import NDArray

from train import cepstrum
from train.heads import READERS
from train.layers import embedded, normalized

CNN_FILTERS = (24, 40, 80)
GRU_FILTERS = 96
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
    The recurrent unit is that of Cho et al. 2014, "Learning phrase representations using RNN
    encoder-decoder for statistical machine translation".
    """
    variance = np.maximum(variance, 1e-6)
    # Keras 3.12 and 3.15 agree on statistics of the last axis alone.
    columns = keras.layers.Permute((2, 3, 1), name="mfcc_last")(mfcc)
    x = keras.layers.Normalization(mean=mean, variance=variance, name="mfcc_normalization")(columns)
    views = {
        "cepstrum": level_and_course(x, "cepstrum"),
        "bands": level_and_course(mel_bands(columns, mean, variance), "bands"),
    }
    heard = {}
    for reader in READERS:
        view, kind = reader.split("_")
        name = f"audio_{reader}"
        heard[reader] = embedded(HOW[kind](views[view], dropout, name), dropout, name)
    return heard


def mel_bands(
    columns: keras.KerasTensor, mean: NDArray[np.float32], variance: NDArray[np.float32]
) -> keras.KerasTensor:
    """Turn coefficients back into mel bands, as smooth as they leave them, and standardise these.

    Neighbouring coefficients have little to do with each other, neighbouring bands much: a
    resonance of the vocal tract, or a harmonic, that moves is still the same one.

    Parameters
    ----------
    columns
        Shape (batch, time, 1, mfcc_count).
    mean, variance
        Of the coefficients, shape (mfcc_count,).

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time, 1, cepstrum.READ_BANDS).
    """
    transform = cepstrum.band_map(len(mean))
    # Of coefficients that do not correlate, as those of a cosine transform hardly do.
    deviation = np.sqrt(np.square(transform).T @ variance)
    bands = keras.layers.Dense(
        cepstrum.READ_BANDS,
        kernel_initializer=keras.initializers.Constant((transform / deviation).tolist()),
        bias_initializer=keras.initializers.Constant((-(mean @ transform) / deviation).tolist()),
        trainable=False,
        name="mel_bands",
    )
    return bands(columns)


def level_and_course(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Stand what is heard at each instant beside its change, shape (batch, time, height, 2).

    Without its mean over time, what a speaker's voice is like cancels out.
    """
    level = keras.layers.Permute((1, 3, 2), name=f"{name}_columns")(x)
    course = level - keras.ops.mean(level, axis=1, keepdims=True)
    return keras.layers.Concatenate(name=f"{name}_input")([level, course])


def hear_as_picture(view: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Convolve over neighbouring coefficients or bands and columns: the 2D CNN.

    Parameters
    ----------
    view
        Shape (batch, time, height, 2), see :func:`level_and_course`.
    dropout
        A quarter of it is the part of the features that is dropped after each stage.
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 8, height / 8, features).
    """
    x = keras.layers.Conv2D(
        CNN_FILTERS[0], 5, 2, padding="same", use_bias=False, name=f"{name}_stem"
    )(view)
    x = normalized(x, f"{name}_stem")
    for stage, filters in enumerate(CNN_FILTERS):
        if stage:
            x = keras.layers.MaxPooling2D(2, name=f"{name}_pool_{stage}")(x)
        for number in range(1 + min(stage, 1)):
            layer = f"{name}_{stage}_{number}"
            x = keras.layers.Conv2D(
                filters, 3, padding="same", use_bias=False, name=f"{layer}_convolution"
            )(x)
            x = normalized(x, layer)
        x = keras.layers.SpatialDropout2D(dropout / 4, name=f"{name}_dropout_{stage}")(x)
    return x


def hear_in_order(view: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Read columns one after the other, forwards and backwards: the recurrent network.

    Parameters
    ----------
    view, dropout, name
        See :func:`hear_as_picture`.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time / 2, 2 * GRU_UNITS).
    """
    x = keras.layers.Reshape((view.shape[1], -1), name=f"{name}_rows")(view)
    x = keras.layers.Conv1D(GRU_FILTERS, 5, 2, padding="same", use_bias=False, name=f"{name}_stem")(
        x
    )
    x = normalized(x, f"{name}_stem")
    x = keras.layers.SpatialDropout1D(dropout / 4, name=f"{name}_stem_dropout")(x)
    one_way = keras.layers.GRU(GRU_UNITS, return_sequences=True, name=f"{name}_one_way")
    return keras.layers.Bidirectional(one_way, name=f"{name}_both_ways")(x)


HOW: dict[str, Callable[[keras.KerasTensor, float, str], keras.KerasTensor]] = {
    "cnn": hear_as_picture,
    "gru": hear_in_order,
}
"""Ways to hear, by the last part of a reader's name; the first says which view it is given."""
