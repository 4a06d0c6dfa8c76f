"""Layers of the video branch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from train.models.layers.shared import folded, register, unfolded


@register
class GreyDownscale(keras.layers.Layer):
    """Colour frames to grey frames of half the side.

    Input uint8 (batch, time, height, width, 3); output float (batch, time, height / 2, width / 2,
    1) in [0, 1].
    """

    def call(self, frames: keras.KerasTensor) -> keras.KerasTensor:
        """Average squares of four pixels and their three channels.

        Rows are added in pairs, and a matrix averages the rest: a third of the time of a pool.
        """
        time, height, width, channels = frames.shape[1:]
        averaging = np.repeat(np.eye(width // 2, dtype=np.float32), 2 * channels, axis=0)
        rows = keras.ops.cast(frames, self.compute_dtype)[:, :, : height // 2 * 2, : width // 2 * 2]
        rows = keras.ops.reshape(rows, (-1, height // 2, 2, width // 2 * 2 * channels))
        grey = keras.ops.matmul(rows[:, :, 0] + rows[:, :, 1], averaging)
        grey = grey / (255.0 * 4 * channels)
        return keras.ops.reshape(grey, (-1, time, height // 2, width // 2, 1))


@register
class FillMissingFrames(keras.layers.Layer):
    """Replace each missing frame, which is black, by the nearest one in time.

    Of two equally near ones the earlier. Where all are missing nothing changes. Input and output
    (batch, time, height, width, channels).
    """

    def call(self, frames: keras.KerasTensor) -> keras.KerasTensor:
        """Choose for each instant the nearest frame that is not black."""
        time = frames.shape[1]
        missing = keras.ops.all(keras.ops.equal(frames, 0), axis=(2, 3, 4))
        instants = np.arange(time, dtype=np.int32)
        apart = np.abs(instants[:, np.newaxis] - instants)
        # A missing frame counts as farther away than any other.
        distance = keras.ops.cast(missing, "int32")[:, np.newaxis] * time + apart
        chosen = keras.ops.one_hot(keras.ops.argmin(distance, axis=-1), time, dtype=frames.dtype)
        flat = keras.ops.reshape(frames, (-1, time, int(np.prod(frames.shape[2:]))))
        return keras.ops.reshape(keras.ops.matmul(chosen, flat), (-1, *frames.shape[1:]))


@register
class ClipStandardization(keras.layers.Layer):
    """Subtract the mean of each clip and divide by its standard deviation.

    Parameters
    ----------
    epsilon
        Added to the variance, so that a clip of a single grey stays finite.
    """

    def __init__(self, epsilon: float = 1e-3, **options: Any) -> None:
        super().__init__(**options)
        self.epsilon = epsilon

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Standardise over all axes but the first."""
        axes = tuple(range(1, len(x.shape)))
        x = x - keras.ops.mean(x, axis=axes, keepdims=True)
        variance = keras.ops.mean(keras.ops.square(x), axis=axes, keepdims=True)
        return x / keras.ops.sqrt(variance + self.epsilon)

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"epsilon": self.epsilon}


@register
class OrientedGradients(keras.layers.Layer):
    """Strength of the edges of four directions in each cell of each frame, on a log scale.

    Input (batch, time, side, side, 1); output (batch, time, side / cell, side / cell, 4), in the
    order of the gradient's direction: across, falling, down, rising. Each is how much stronger the
    gradient is than that at right angles to it, 0 where both are alike.

    Parameters
    ----------
    cell
        Side of a cell in pixels.
    faint
        Strength below which the scale is linear rather than logarithmic.

    Notes
    -----
    Cells are those of Dalal & Triggs 2005, "Histograms of oriented gradients for human detection".
    """

    def __init__(self, cell: int = 4, faint: float = 0.02, **options: Any) -> None:
        super().__init__(**options)
        self.cell, self.faint = cell, faint

    def call(self, frames: keras.KerasTensor) -> keras.KerasTensor:
        """Compare each direction with that at right angles to it, and average cells."""
        x = folded(frames)
        across = x[:, 1:-1, 2:] - x[:, 1:-1, :-2]
        down = x[:, 2:, 1:-1] - x[:, :-2, 1:-1]
        gradients = across, (across + down) / 2**0.5, down, (down - across) / 2**0.5
        strength = keras.ops.abs(keras.ops.concatenate(gradients, axis=-1))
        opposite = keras.ops.roll(strength, 2, axis=-1)
        edges = keras.ops.pad(keras.ops.relu(strength - opposite), ((0, 0), (1, 1), (1, 1), (0, 0)))
        cells = keras.ops.average_pool(edges, self.cell, self.cell, padding="valid")
        # ONNX has no log1p.
        return unfolded(keras.ops.log(1.0 + cells / self.faint), frames.shape[1])

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"cell": self.cell, "faint": self.faint}
