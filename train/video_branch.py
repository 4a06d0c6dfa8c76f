"""How the network sees: a (2+1)D CNN on the edges of a face, and on their change.

Faces are soon known by heart where a dozen people are all there is to learn from. Which way edges
run, in each small cell of a picture, is more alike between people than the pictures are: it does
not tell a contour's exact place, nor skin, hair and light.
"""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from train.layers import embedded, normalized

FILTERS = (32, 64)

STANDARDIZATION_EPSILON = 1e-3
"""Variance below which a clip counts as one grey, in pictures of [0, 1]."""

CELL_PX = 4
"""Side of a cell, in pixels of half the pictures' size."""

FAINT = 0.02
"""Strength of an edge below which its logarithm turns straight, in deviations of the clip's grey
from one pixel to the next but one."""

CHANGE_GAIN = 2.0
"""Edges differ from their own mean about this many times less than from each other."""


POOLED = "float32"
"""What pools compute in, whatever the others do: TensorFlow has none in float16 for a CPU."""


def embed(frames: keras.KerasTensor, dropout: float, calibrated: bool = False) -> keras.KerasTensor:
    """Turn frame tensors into embeddings.

    Parameters
    ----------
    frames
        uint8, shape (batch, frame_count, size, size, 3).
    dropout
        Part of the embedding dropped in training.
    calibrated
        Whether frames hold the person at rest beside the picture, see :func:`train.rest.relate`.

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
    x = averaged(x, 2, "frames_pool")
    if calibrated:
        x = nearest_shown(x[..., :2] / 255)
        x = level_and_change(edges(x[..., :1], "video"), edges(x[..., 1:], "rest"))
    else:
        x = nearest_shown(keras.ops.mean(x, axis=-1, keepdims=True) / 255)
        x = level_and_change(edges(x, "video"))
    for stage, filters in enumerate(FILTERS):
        if stage:
            x = keras.layers.MaxPooling3D(2, dtype=POOLED, name="video_pool")(x)
        for kind, size in (("space", (1, 3, 3)), ("time", (3, 1, 1))):
            name = f"video_{kind}_{stage}"
            x = keras.layers.Conv3D(filters, size, padding="same", use_bias=False, name=name)(x)
            x = normalized(x, name)
    return embedded(x, dropout, "video")


def nearest_shown(x: keras.KerasTensor) -> keras.KerasTensor:
    """Show the nearest picture in time, the earlier of two, instead of each black one.

    Black pictures are missing ones, and a face stays what it was. Where all are, nothing changes.

    Parameters
    ----------
    x
        Pictures, shape (batch, time, height, width, channels).

    Returns
    -------
    keras.KerasTensor
        Same shape.
    """
    count = x.shape[1]
    missing = keras.ops.all(keras.ops.equal(x, 0), axis=(2, 3, 4))
    instants = np.arange(count, dtype=np.int32)
    apart = np.abs(instants[:, np.newaxis] - instants)
    # A missing one is farther than any other.
    distance = keras.ops.cast(missing, "int32")[:, np.newaxis] * count + apart
    chosen = keras.ops.one_hot(keras.ops.argmin(distance, axis=-1), count, dtype=x.dtype)
    pictures = keras.ops.reshape(x, (-1, count, int(np.prod(x.shape[2:]))))
    return keras.ops.reshape(keras.ops.matmul(chosen, pictures), (-1, *x.shape[1:]))


def edges(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Describe grey pictures of [0, 1] by the logarithm of their edges, see :func:`edge_cells`.

    Standardised a clip: skin, hair and light tell who it is, not what is felt.
    """
    x = x - keras.ops.mean(x, axis=(1, 2, 3, 4), keepdims=True)
    variance = keras.ops.mean(keras.ops.square(x), axis=(1, 2, 3, 4), keepdims=True)
    x = x / keras.ops.sqrt(variance + STANDARDIZATION_EPSILON)
    return keras.ops.log1p(edge_cells(x, name) / FAINT)


def edge_cells(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Measure how strong edges of each direction are, in each cell of each picture.

    Parameters
    ----------
    x
        Grey pictures, shape (batch, time, size, size, 1).
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time, size / CELL_PX, size / CELL_PX, 4); 0 where nothing is to be seen.

    Notes
    -----
    Cells are those of Dalal & Triggs 2005, "Histograms of oriented gradients for human detection".
    Instead of the angle of a slope, which divides, each direction is given by how much steeper it
    is than the one at right angles to it.
    """
    slopes = keras.layers.Conv3D(
        4,
        (1, 3, 3),
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(directions().tolist()),
        trainable=False,
        name=f"{name}_slopes",
    )(x)
    slopes = keras.ops.abs(keras.layers.ZeroPadding3D((0, 1, 1), name=f"{name}_rim")(slopes))
    steeper = keras.ops.relu(slopes - keras.ops.roll(slopes, 2, axis=-1))
    return averaged(steeper, CELL_PX, f"{name}_cells")


def averaged(x: keras.KerasTensor, side: int, name: str) -> keras.KerasTensor:
    """Average squares of each picture."""
    return keras.layers.AveragePooling3D((1, side, side), dtype=POOLED, name=name)(x)


def directions() -> NDArray[np.float64]:
    """Kernels of the slopes across a picture, down it and along its diagonals, (1, 3, 3, 1, 4).

    Directions at right angles to each other are two apart.
    """
    across = np.zeros((3, 3))
    across[1] = -1, 0, 1
    falling, rising = (across + across.T) / np.sqrt(2), (across.T - across) / np.sqrt(2)
    kernels = across, falling, across.T, rising
    return np.stack(kernels, axis=-1)[np.newaxis, :, :, np.newaxis]


def level_and_change(
    x: keras.KerasTensor, rest: keras.KerasTensor | None = None
) -> keras.KerasTensor:
    """Stand what is seen at each instant beside how it departs from its mean over time.

    Parameters
    ----------
    x
        Shape (batch, time, height, width, features).
    rest
        What is seen of the person at rest, of the same shape. Then the level is the departure from
        its mean.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, time, height, width, 2 * features).
    """
    change = (x - keras.ops.mean(x, axis=1, keepdims=True)) * CHANGE_GAIN
    if rest is not None:
        x = (x - keras.ops.mean(rest, axis=1, keepdims=True)) * CHANGE_GAIN
    return keras.layers.Concatenate(name="video_input")([x, change])
