"""The video branch: a (2+1)D CNN on the edges of a face, and on their change over time.

A network on grey values memorises a dozen faces. Edge directions in small cells are more
alike between people: they hold no exact contour, no skin and no light.
"""

from __future__ import annotations

import keras

from pipeline.spec import FeatureSpec
from train.data.statistics import MfccStatistics
from train.models import augmentation, layers
from train.settings import Settings

FILTERS = (32, 64)

CHANGE_GAIN = 2.0
"""Edges differ from their mean over time about this many times less than from each other."""


def edges(frames: keras.KerasTensor, view: keras.layers.Layer | None = None) -> keras.KerasTensor:
    """Return the edges of frames, shape (batch, frame_count, size / 8, size / 8, 4).

    Parameters
    ----------
    frames
        uint8, shape (batch, frame_count, size, size, 3).
    view
        Augmentation of the grey frames.
    """
    x = layers.GreyDownscale(dtype="float32", name="grey")(frames)
    if view is not None:
        x = view(x)
    x = layers.FillMissingFrames(dtype="float32", name="filled")(x)
    x = layers.ClipStandardization(dtype="float32", name="standardization")(x)
    return layers.OrientedGradients(dtype="float32", name="edges")(x)


def build(spec: FeatureSpec, statistics: MfccStatistics, settings: Settings) -> keras.Model:
    """Build the video branch.

    Parameters
    ----------
    spec, statistics, settings
        See :func:`train.models.audio.build`.

    Returns
    -------
    keras.Model
        Input ``frames`` uint8 (batch, frame_count, size, size, 3), and ``frames_reference`` (batch,
        size / 8, size / 8, 4) where there is a speaker reference. Outputs ``embedding`` (batch,
        64), ``logits`` (batch, 8) and ``layer_means`` (batch, 96), the mean over space and time of
        each feature of both stages; with a speaker reference also ``average``, the mean of the
        edges over time, what references are means of.

    Notes
    -----
    3D convolutions in two parts, over space and over time, as in Tran et al. 2018, "A closer look
    at spatiotemporal convolutions for action recognition". They are computed as 2D convolutions of
    the same numbers, which take half the time on a CPU and can be exported.
    """
    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    inputs = {"frames": frames}
    referenced = settings.speaker_reference != "none"
    view = None
    if "view" not in settings.without:
        # A mirrored face would be compared with a reference that is not.
        view = augmentation.RandomView(mirror=not referenced, dtype="float32", name="view")
    x = edges(frames, view)
    reference: tuple[keras.KerasTensor, ...] = ()
    average = {}
    if referenced:
        inputs["frames_reference"] = keras.Input(x.shape[2:], name="frames_reference")
        reference = (inputs["frames_reference"],)
        average = {"average": keras.ops.mean(x, axis=1)}
    x = layers.LevelAndChange(CHANGE_GAIN, name="level_and_change")(x, *reference)
    means = []
    for stage, filters in enumerate(FILTERS):
        if stage:
            x = pool(x, f"pool_{stage}")
        x = convolve(x, filters, f"space_{stage}", f"time_{stage}")
        means.append(keras.ops.mean(x, axis=(1, 2, 3)))
    embedding = layers.summarize(x, settings.dropout, "video")
    logits = layers.class_logits(embedding, "logits")
    # The embedding keeps what tells emotions apart. Another camera shows in what it drops.
    layer_means = keras.layers.Concatenate(dtype="float32", name="layer_means")(means)
    outputs = {"embedding": embedding, "logits": logits, "layer_means": layer_means, **average}
    return keras.Model(inputs, outputs, name="video_branch")


def convolve(x: keras.KerasTensor, filters: int, space: str, time: str) -> keras.KerasTensor:
    """Convolve over 3 x 3 cells, then over 3 instants; shape (batch, time, height, width, filters).

    Parameters
    ----------
    x
        Shape (batch, time, height, width, features).
    filters
        Features of the result.
    space, time
        Names of the two convolutions.
    """
    count, height, width = x.shape[1:4]
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, name=space)(
        layers.folded(x)
    )
    x = layers.normalized(x, space)
    x = keras.ops.reshape(x, (-1, count, height * width, filters))
    x = keras.layers.Conv2D(filters, (3, 1), padding="same", use_bias=False, name=time)(x)
    x = layers.normalized(x, time)
    return keras.ops.reshape(x, (-1, count, height, width, filters))


def pool(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Take the largest of two instants, rows and columns each; a last odd one is dropped."""
    count = x.shape[1]
    x = layers.unfolded(keras.layers.MaxPooling2D(2, name=name)(layers.folded(x)), count)
    height, width, features = x.shape[2:]
    pairs = x[:, : count // 2 * 2]
    pairs = keras.ops.reshape(pairs, (-1, count // 2, 2, height, width, features))
    return keras.ops.max(pairs, axis=2)
