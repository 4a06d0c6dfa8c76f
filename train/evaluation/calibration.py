"""Temperature scaling, and the calibration error that is left."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

BINS = 10
TEMPERATURE_RANGE = (0.25, 8.0)
"""Bounds of a temperature: a handful of clips that are all right would ask for zero."""


def fit_temperature(logits: NDArray[np.float32], label: NDArray[np.int64]) -> float:
    """Find the temperature that divides logits for the smallest mean negative log-likelihood.

    Logits of one head have shape (clips, 8), labels (clips,).

    Returns
    -------
    float
        In ``TEMPERATURE_RANGE``; above 1 where the head was surer than it was right.

    Notes
    -----
    Guo et al. 2017, "On calibration of modern neural networks", section 4.2. The clips are those
    of the validation actors, before the network has learned from them: training actors are known
    so well that they would call every answer sure, and test actors may not choose anything.
    """
    clips, logits = np.arange(len(label)), logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = special.log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(scaled[clips, label].mean())

    found = optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURE_RANGE), method="bounded")
    return float(np.exp(found.x))


def calibration(probabilities: NDArray[np.float32], label: NDArray[np.int64]) -> dict:
    """Compute the expected calibration error of a head and the bins it is made of.

    Probabilities have shape (clips, 8), labels (clips,).

    Returns
    -------
    dict
        ``expected_calibration_error`` in [0, 1], and ``bins``: of each part of [0, 1] that holds
        an answer its number of ``clips``, mean ``confidence`` and ``accuracy``.

    Notes
    -----
    Guo et al. 2017, equation 3, in ``BINS`` equal bins. ``sklearn.calibration.calibration_curve``
    gives the same bins without their numbers of clips.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == label
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    clips, sums, hits = (np.bincount(place, weight) for weight in (None, confidence, right))
    bins = [
        {"clips": int(count), "confidence": float(total / count), "accuracy": float(hit / count)}
        for count, total, hit in zip(clips, sums, hits, strict=True)
        if count
    ]
    error = float(np.abs(sums - hits).sum() / len(label))
    return {"expected_calibration_error": error, "bins": bins}
