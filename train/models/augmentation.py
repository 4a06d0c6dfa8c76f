"""Augmentation as layers: random in training, the identity otherwise.

Augmented variants in the cache are made of waveforms and whole frames. These changes are cheap
enough to be drawn anew for each batch.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from train.models.layers import MEL_BANDS, cosine_transform

TRACTS = 25
"""Vocal tract lengths to draw from; neighbours differ by 1 %."""


class RandomLayer(keras.layers.Layer):
    """A layer that changes its input in training, by random numbers of its own.

    Its generator's state is one of the layer's variables, so that a resumed training goes on with
    the numbers that an uninterrupted one draws.
    """

    def __init__(self, seed: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        """Change the input in training."""
        return self.change(x) if training else x

    def change(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Change a batch."""
        raise NotImplementedError

    def uniform(self, shape: tuple, low: float, high: float) -> keras.KerasTensor:
        """Draw uniformly from [low, high)."""
        return keras.random.uniform(shape, low, high, seed=self.seed_generator)


@keras.saving.register_keras_serializable(package="train")
class RandomView(RandomLayer):
    """Mirror, turn, shift and scale each clip, all its frames alike.

    Input and output (batch, time, height, width, 1). Pixels from outside repeat the edge; missing
    frames stay black.

    Parameters
    ----------
    degrees, shift, zoom
        Largest turn; largest shift as a part of the side; largest change of scale.
    mirror
        Whether half of the clips are mirrored.
    """

    def __init__(
        self,
        degrees: float = 2.0,
        shift: float = 0.03,
        zoom: float = 0.04,
        mirror: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.degrees, self.shift, self.zoom, self.mirror = degrees, shift, zoom, mirror

    def change(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Resample each clip once, its frames as channels."""
        batch, side = keras.ops.shape(x)[0], x.shape[2]
        turn = self.uniform((batch,), -1, 1) * math.radians(self.degrees)
        scale = 1 + self.uniform((batch,), -self.zoom, self.zoom)
        side_ways = keras.ops.ones((batch,))
        if self.mirror:
            side_ways = keras.ops.sign(self.uniform((batch,), -1, 1) + 1e-9)
        move = self.uniform((2, batch), -self.shift, self.shift) * side
        cosine, sine = keras.ops.cos(turn) * scale, keras.ops.sin(turn) * scale
        matrix = side_ways * cosine, -side_ways * sine, sine, cosine
        middle = (side - 1) / 2
        offsets = (
            middle + move[0] - middle * (matrix[0] + matrix[1]),
            middle + move[1] - middle * (matrix[2] + matrix[3]),
        )
        zero = keras.ops.zeros((batch,))
        transform = keras.ops.stack(
            [matrix[0], matrix[1], offsets[0], matrix[2], matrix[3], offsets[1], zero, zero], axis=1
        )
        frames = keras.ops.transpose(x[..., 0], (0, 2, 3, 1))
        frames = keras.ops.image.affine_transform(
            frames, transform, interpolation="bilinear", fill_mode="nearest"
        )
        return keras.ops.transpose(frames, (0, 3, 1, 2))[..., np.newaxis]

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        names = ("degrees", "shift", "zoom", "mirror")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="train")
class SpeakerPerturbation(RandomLayer):
    """Give each MFCC image the level and the range of a speaker who does not exist.

    A speaker differs from others first of all by a constant level of each coefficient, and by how
    far coefficients move from there; with a dozen speakers to learn from, a network recognises them
    by it. Input and output (batch, mfcc_count, mfcc_columns, 1).

    Parameters
    ----------
    deviation
        Standard deviation of the training speakers' mean coefficients, shape (mfcc_count,).
    level
        Standard deviation of the change of level, in ``deviation``.
    spread
        Standard deviation of the logarithm of the change of range.
    """

    def __init__(
        self, deviation: list[float], level: float = 0.7, spread: float = 0.2, **options: Any
    ) -> None:
        super().__init__(**options)
        self.deviation = [float(value) for value in deviation]
        self.level, self.spread = level, spread

    def change(self, mfcc: keras.KerasTensor) -> keras.KerasTensor:
        """Draw a level and a range for each coefficient."""
        shape = (2, keras.ops.shape(mfcc)[0], mfcc.shape[1], 1, 1)
        draws = keras.random.normal(shape, seed=self.seed_generator)
        mean = keras.ops.mean(mfcc, axis=2, keepdims=True)
        deviation = np.reshape(np.array(self.deviation, np.float32), (1, -1, 1, 1))
        ranged = (mfcc - mean) * keras.ops.exp(self.spread * draws[0])
        return mean + ranged + self.level * deviation * draws[1]

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        names = ("deviation", "level", "spread")
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable(package="train")
class VocalTractPerturbation(RandomLayer):
    """Give each MFCC image another length of the vocal tract.

    Input and output (batch, mfcc_count, mfcc_columns, 1).

    Parameters
    ----------
    fmax_hz, htk
        Highest frequency and mel scale of the coefficients.
    largest
        Largest change of the logarithm of the length.

    Notes
    -----
    Jaitly & Hinton 2013, "Vocal tract length perturbation (VTLP) improves speech recognition".
    """

    def __init__(self, fmax_hz: float, htk: bool, largest: float = 0.12, **options: Any) -> None:
        super().__init__(**options)
        self.fmax_hz, self.htk, self.largest = fmax_hz, htk, largest

    def change(self, mfcc: keras.KerasTensor) -> keras.KerasTensor:
        """Multiply each image by the matrix of a length."""
        matrices = vocal_tract_matrices(mfcc.shape[1], self.fmax_hz, self.htk, self.largest)
        chosen = self.uniform((keras.ops.shape(mfcc)[0],), 0, TRACTS)
        chosen = keras.ops.minimum(keras.ops.cast(chosen, "int32"), TRACTS - 1)
        return keras.ops.einsum("nctx,nck->nktx", mfcc, keras.ops.take(matrices, chosen, axis=0))

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        names = ("fmax_hz", "htk", "largest")
        return super().get_config() | {name: getattr(self, name) for name in names}


@functools.cache
def vocal_tract_matrices(
    mfcc_count: int, fmax_hz: float, htk: bool, largest: float
) -> NDArray[np.float32]:
    """Return matrices from MFCCs to those of longer and shorter vocal tracts.

    Parameters
    ----------
    mfcc_count, fmax_hz, htk, largest
        See :class:`VocalTractPerturbation`.

    Returns
    -------
    ndarray of float32, shape (TRACTS, mfcc_count, mfcc_count)
        To be multiplied by a row of coefficients from the left. The first raises resonances by
        ``exp(largest)``, the last lowers them by as much. The cosine transform is undone, each
        spectrum read at frequencies that much higher, and the transform done again; the highest
        bands repeat the last one.
    """
    import librosa

    cosines = cosine_transform(mfcc_count)
    middles_hz = librosa.mel_frequencies(MEL_BANDS + 2, fmin=0.0, fmax=fmax_hz, htk=htk)[1:-1]
    factors = np.exp(np.linspace(-largest, largest, TRACTS))
    warped = [
        [np.interp(middles_hz * factor, middles_hz, cosine) for cosine in cosines]
        for factor in factors
    ]
    return (np.array(warped) @ cosines.T).astype(np.float32)
