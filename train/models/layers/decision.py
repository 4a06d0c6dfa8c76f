"""From logits to probabilities: class prior, temperature, and the pool of the branches."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from pipeline.spec import EMOTIONS
from train.models.layers.shared import register

LACKING = -1e9
"""Logit of a class that a corpus lacks; its share of a softmax is zero in float32."""

STEEPNESS = 8.0
"""A branch at 1.25 times the usual distance weighs a sixth. Beyond what it was trained on a network
is as sure as ever: with a square it would outvote the other branch."""

PRESENT_ROW = 0.5
"""Height of the row of pixels, as a part of the frame, by which frames are known to be there."""


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
class MahalanobisDistance(keras.layers.Layer):
    """How far features lie from those of training: 1 at the limit of validation.

    Input (batch, features); output (batch, 1), 0 or more: the Mahalanobis distance to the nearest
    class mean, divided by what 99 of 100 clips like those of validation stay below. Above 1 a clip
    is unlike anything the branch was trained on. Until it is fitted all distances are 0.

    Parameters
    ----------
    classes
        Number of class means.

    Notes
    -----
    Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples and
    adversarial attacks", with the covariance that all classes share. Features of layers before the
    last one, averaged over space and time, tell more than an embedding, as they found.
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

    def call(self, features: keras.KerasTensor) -> keras.KerasTensor:
        """Whiten, and measure the distance to the nearest mean."""
        white = keras.ops.matmul(features, self.whitening)
        apart = white[:, np.newaxis] - self.means[np.newaxis]
        squares = keras.ops.sum(keras.ops.square(apart), axis=-1)
        return keras.ops.sqrt(keras.ops.min(squares, axis=-1, keepdims=True))

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"classes": self.classes}


@register
class LogLinearPool(keras.layers.Layer):
    """Weighted sum of the branches' calibrated logits.

    Called with ``(logits, present, distance, correction)``: lists of (batch, classes), (batch, 1)
    and (batch, 1), one of each branch, and what the fusion's dense layers add, (batch, classes).
    A branch weighs 1 where its modality is there and its features within the distances of
    validation clips, and beyond by its distance to the power of -``STEEPNESS``. The correction
    weighs the product of the branches' weights.

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
            within = keras.ops.maximum(apart, 1.0) ** -STEEPNESS
            weight = there * float(trained) * within
            pooled, together = pooled + weight * values, together * weight
        return pooled + together * correction

    def get_config(self) -> dict:
        """Return what the layer is made of."""
        return super().get_config() | {"trained": self.trained}
