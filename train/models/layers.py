"""Layers of the branches and of their fusion, registered so that a saved model finds them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.spec import EMOTIONS

register = keras.saving.register_keras_serializable(package="train")

BATCH_NORMALIZATION_MOMENTUM = 0.9
"""Keras' 0.99 averages over hundreds of steps, more than the first epochs have."""

MEL_BANDS = 128
"""Of :func:`librosa.feature.mfcc`, whose discrete cosine transform the coefficients are."""

INSTANT_FEATURES = 96
"""Features of each instant, before time is pooled."""

EMBEDDING = 64
"""Features that an encoder describes a clip by."""

LACKING = -1e9
"""Logit of a class that a corpus lacks; its share of a softmax is zero in float32."""

PRESENT_ROW = 0.5
"""Height of the row of pixels, as a part of the frame, by which frames are known to be there."""


def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Apply batch normalisation and ReLU."""
    x = keras.layers.BatchNormalization(
        momentum=BATCH_NORMALIZATION_MOMENTUM, name=f"{name}_normalization"
    )(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def folded(x: keras.KerasTensor) -> keras.KerasTensor:
    """Make each frame a sample of its own: (batch, time, …) to (batch * time, …)."""
    return keras.ops.reshape(x, (-1, *x.shape[2:]))


def unfolded(x: keras.KerasTensor, time: int) -> keras.KerasTensor:
    """Undo :func:`folded`."""
    return keras.ops.reshape(x, (-1, time, *x.shape[1:]))


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
class LevelAndChange(keras.layers.Layer):
    """Concatenate features and their difference from the mean over time.

    Input (batch, time, …, features); output (batch, time, …, 2 * features). With a second input
    (batch, …, features), the speaker reference, the level is the difference from that.

    Parameters
    ----------
    gain
        Factor on differences.
    """

    def __init__(self, gain: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.gain = gain

    def call(
        self, x: keras.KerasTensor, reference: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        """Concatenate both."""
        change = (x - keras.ops.mean(x, axis=1, keepdims=True)) * self.gain
        level = x if reference is None else (x - reference[:, np.newaxis]) * self.gain
        return keras.ops.concatenate([level, change], axis=-1)

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"gain": self.gain}


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


@register
class Presence(keras.layers.Layer):
    """Whether a tensor holds anything: 1 or 0, shape (batch, 1).

    A missing modality is all zeros. Of frames one row of pixels is looked at, which is enough to
    tell a frame from none.
    """

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Compare with zero."""
        if len(x.shape) == 5:
            x = x[:, :, int(PRESENT_ROW * x.shape[2])]
        axes = tuple(range(1, len(x.shape)))
        found = keras.ops.any(keras.ops.not_equal(x, 0), axis=axes)
        return keras.ops.cast(found, "float32")[:, np.newaxis]


@register
class LogitAdjustment(keras.layers.Layer):
    """Add the logarithm of the class prior to logits in training only.

    The network then learns logits of a corpus in which every class is as frequent, whatever the
    frequencies in training, which is what UAR counts.

    Parameters
    ----------
    prior
        Frequency of each class in training, shape (classes,). With several corpora a row for each,
        (corpora, classes), 0 for a class that a corpus lacks. The layer is then called with the
        number of each sample's corpus, (batch,), beside logits (batch, outputs, classes), and a
        class that is lacking is left out of the softmax, in training or not.

    Notes
    -----
    The logit-adjusted loss of Menon et al. 2021, "Long-tail learning via logit adjustment",
    section 4.2, with a temperature of 1.
    """

    def __init__(self, prior: list[float] | list[list[float]], **options: Any) -> None:
        super().__init__(**options)
        self.prior = np.asarray(prior, float).tolist()

    def call(
        self,
        logits: keras.KerasTensor,
        corpus: keras.KerasTensor | None = None,
        training: bool | None = None,
    ) -> keras.KerasTensor:
        """Add it."""
        if corpus is None:
            return logits + keras.ops.log(self.prior) if training else logits
        prior = np.asarray(self.prior, np.float32)
        added = np.log(np.where(prior > 0, prior, 1)) if training else np.zeros_like(prior)
        added, present = (
            keras.ops.take(values, corpus, axis=0)[:, np.newaxis] for values in (added, prior > 0)
        )
        # Not infinite: a mean over outputs and a gradient have to stay numbers.
        return keras.ops.where(present, logits + added, LACKING)

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"prior": self.prior}


@register
class Temperature(keras.layers.Layer):
    """Divide logits by a temperature that is fitted on validation actors after training.

    Notes
    -----
    Guo et al. 2017, "On calibration of modern neural networks", section 4.2.
    """

    def build(self, shape: tuple) -> None:
        """Make the temperature, 1 until it is fitted."""
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="temperature"
        )

    def call(self, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Divide by it."""
        return logits / self.temperature


@register
class LogLinearPool(keras.layers.Layer):
    """Weighted sum of the branches' calibrated logits.

    Called with ``(logits, present, distance, correction)``: lists of (batch, classes), (batch, 1)
    and (batch, 1), one of each branch, and what the fusion's dense layers add, (batch, classes).
    A branch weighs 1 where its modality is there and its embedding within the distances of
    validation clips, and by the inverse square of its distance beyond. The correction weighs the
    product of the branches' weights.

    Parameters
    ----------
    trained
        Which branches were trained; others weigh nothing.

    Notes
    -----
    The log-linear opinion pool of Genest & Zidek 1986, "Combining probability distributions: a
    critique and an annotated bibliography". With weights of 1 it is the product of the branches'
    probabilities: Bayes' rule where modalities are independent given the emotion.
    """

    def __init__(self, trained: list[bool], **options: Any) -> None:
        super().__init__(**options)
        self.trained = list(trained)

    def call(
        self,
        logits: list[keras.KerasTensor],
        present: list[keras.KerasTensor],
        distance: list[keras.KerasTensor],
        correction: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Sum them."""
        together, pooled = 1.0, 0.0
        parts = zip(logits, present, distance, self.trained, strict=True)
        for values, there, apart, trained in parts:
            weight = there * float(trained) / keras.ops.square(keras.ops.maximum(apart, 1.0))
            pooled, together = pooled + weight * values, together * weight
        return pooled + together * correction

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"trained": self.trained}


def class_logits(embedding: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Return logits of the emotions, shape (batch, 8), in float32 whatever the precision."""
    return keras.layers.Dense(len(EMOTIONS), dtype="float32", name=name)(embedding)


def summarize(x: keras.KerasTensor, dropout: float, name: str) -> keras.KerasTensor:
    """Describe each instant, pool time, project: features over time to an embedding.

    Parameters
    ----------
    x
        Shape (batch, time, …).
    dropout
        Rate of the embedding's dropout in training.
    name
        What the layers' names begin with.

    Returns
    -------
    keras.KerasTensor
        Shape (batch, EMBEDDING).
    """
    x = keras.layers.Reshape((x.shape[1], -1), name=f"{name}_instants")(x)
    x = keras.layers.Dropout(dropout / 2, name=f"{name}_instant_dropout")(x)
    x = keras.layers.Dense(INSTANT_FEATURES, use_bias=False, name=f"{name}_instant")(x)
    x = normalized(x, f"{name}_instant")
    x = keras.layers.Concatenate(name=f"{name}_mean_and_max")(
        [keras.ops.mean(x, axis=1), keras.ops.max(x, axis=1)]
    )
    x = keras.layers.Dense(EMBEDDING, use_bias=False, name=f"{name}_dense")(x)
    x = normalized(x, f"{name}_dense")
    return keras.layers.Dropout(dropout, name=f"{name}_embedding_dropout")(x)


@register
class EmbeddingDistance(keras.layers.Layer):
    """How far an embedding lies from those of training: 1 at the 99th percentile of validation.

    Input (batch, features); output (batch, 1), 0 or more: the Mahalanobis distance to the nearest
    class mean, divided by what 99 of 100 validation clips stay below. Above 1 a clip is unlike
    anything the branch was trained on. Until it is fitted all distances are 0.

    Parameters
    ----------
    classes
        Number of class means.

    Notes
    -----
    Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks", with the covariance that all classes share.
    """

    def __init__(self, classes: int = len(EMOTIONS), **options: Any) -> None:
        super().__init__(**options)
        self.classes = classes

    def build(self, shape: tuple) -> None:
        """Make the whitening matrix and the whitened class means, zero until they are fitted."""
        size = shape[-1]
        options = {"initializer": "zeros", "trainable": False, "dtype": "float32"}
        self.whitening = self.add_weight(shape=(size, size), name="whitening", **options)
        self.means = self.add_weight(shape=(self.classes, size), name="means", **options)

    def call(self, embedding: keras.KerasTensor) -> keras.KerasTensor:
        """Whiten, and measure the distance to the nearest mean."""
        white = keras.ops.matmul(embedding, self.whitening)
        apart = white[:, np.newaxis] - self.means[np.newaxis]
        squares = keras.ops.sum(keras.ops.square(apart), axis=-1)
        return keras.ops.sqrt(keras.ops.min(squares, axis=-1, keepdims=True))

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"classes": self.classes}
