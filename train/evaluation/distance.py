"""Distances of features from those of training, see ``train.models.layers.MahalanobisDistance``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from pipeline.spec import EMOTIONS

NORMAL_DEVIATION = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""

NORMAL_99 = 2.3263
"""Its 99th percentile, in standard deviations above the mean."""


def fit_gaussians(
    features: NDArray[np.float32], label: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Describe each class by a normal distribution; all share one covariance.

    Parameters
    ----------
    features
        Shape (clips, features).
    label
        Index of the emotion, shape (clips,).

    Returns
    -------
    whitening : ndarray of float32, shape (features, features)
        Euclidean distances of features times this are Mahalanobis distances.
    means : ndarray of float32, shape (8, features)
        Class means times ``whitening``; an absent class has that of all clips.

    Notes
    -----
    The covariance is shrunk as in Ledoit & Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices".
    """
    features = features.astype(np.float64)
    means = np.tile(features.mean(axis=0), (len(EMOTIONS), 1))
    for emotion in np.unique(label):
        means[emotion] = features[label == emotion].mean(axis=0)
    covariance, _ = ledoit_wolf(features - means[label], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whitening = vectors / np.sqrt(np.maximum(values, 1e-12))
    return whitening.astype(np.float32), (means @ whitening).astype(np.float32)


def usual_limit(distances: NDArray[np.float32]) -> float:
    """Return what 99 of 100 distances like these, (clips,), stay below; above 0.

    Their logarithm is taken as normal, with its median and its median absolute deviation (Rousseeuw
    & Croux 1993, "Alternatives to the median absolute deviation"): the 99th percentile of the few
    people of a validation would be that of the oddest one.
    """
    logs = np.log(np.maximum(distances, np.finfo(np.float32).eps))
    middle = np.median(logs)
    deviation = NORMAL_DEVIATION * np.median(np.abs(logs - middle))
    return float(np.exp(middle + NORMAL_99 * deviation))


def nearest_mean(
    features: NDArray[np.float32], whitening: NDArray[np.float32], means: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Mahalanobis distance of each clip (clips, features) to the nearest class mean."""
    apart = (features @ whitening)[:, np.newaxis] - means
    return np.sqrt(np.square(apart).sum(axis=-1).min(axis=1))
