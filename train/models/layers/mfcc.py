"""Layers of the audio branch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from train.models.layers.shared import register

MEL_BANDS = 128
"""Of :func:`librosa.feature.mfcc`, whose discrete cosine transform the coefficients are."""


@register
class MelBands(keras.layers.Layer):
    """MFCCs back to mel bands, as smooth as the coefficients leave them, standardised.

    Neighbouring bands have much to do with each other, neighbouring coefficients little.
    Input (batch, time, 1, mfcc_count); output (batch, time, 1, bands).

    Parameters
    ----------
    mean, variance
        Of the coefficients in training, shape (mfcc_count,).
    bands
        A divisor of ``MEL_BANDS``; each is the mean of neighbouring ones.
    """

    def __init__(
        self, mean: list[float], variance: list[float], bands: int = 32, **options: Any
    ) -> None:
        super().__init__(**options)
        self.mean, self.variance = ([float(value) for value in v] for v in (mean, variance))
        self.bands = bands

    def call(self, mfcc: keras.KerasTensor) -> keras.KerasTensor:
        """Undo the cosine transform, average neighbours, standardise."""
        transform = cosine_transform(len(self.mean)).reshape(len(self.mean), self.bands, -1)
        transform = transform.mean(axis=2)
        # Of coefficients that do not correlate, as those of a cosine transform hardly do.
        scale = 1 / np.sqrt(np.square(transform).T @ np.array(self.variance))
        offset = -(np.array(self.mean) @ transform) * scale
        return keras.ops.matmul(mfcc, np.float32(transform * scale)) + np.float32(offset)

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        names = ("mean", "variance", "bands")
        return super().get_config() | {name: getattr(self, name) for name in names}


def cosine_transform(mfcc_count: int) -> NDArray[np.float64]:
    """Return the spectrum in dB that each coefficient stands for, shape (mfcc_count, MEL_BANDS).

    Rows are orthonormal: coefficients times this are mel bands, bands times its transpose are
    coefficients.
    """
    return fft.idct(np.eye(mfcc_count, MEL_BANDS), axis=1, norm="ortho")


@register
class ColumnMean(keras.layers.Layer):
    """Mean of MFCC images over the columns that hold anything.

    Input (batch, mfcc_count, mfcc_columns, 1); output (batch, mfcc_count).
    """

    def call(self, mfcc: keras.KerasTensor) -> keras.KerasTensor:
        """Divide the sum by the number of columns that are not all zero."""
        held = keras.ops.any(keras.ops.not_equal(mfcc, 0), axis=(1, 3))
        count = keras.ops.sum(keras.ops.cast(held, mfcc.dtype), axis=1, keepdims=True)
        return keras.ops.sum(mfcc, axis=(2, 3)) / keras.ops.maximum(count, 1.0)
