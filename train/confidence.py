"""How sure an answer may claim to be: temperatures of the heads, and the error that is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from pipeline.spec import EMOTIONS

CALIBRATION_BINS = 10
TEMPERATURE_RANGE = (0.25, 8.0)
"""Bounds of a temperature: a handful of clips that are all right would ask for zero."""

HEAVIEST_VOTE = 1.0
"""Bound of a vote: what it counts for in training. Few clips would trust a dense layer that has
learned next to nothing beyond both branches."""

FACE_VOTE = 0.45
"""What the face is expected to count for beside a voice of 1."""

EXPECTED_CLIPS = 360
"""How many clips that expectation weighs as much as: two people say little of the next ones."""

SMALLEST_PROBABILITY = 1e-30


def fit_temperature(probabilities: NDArray[np.float32], label: NDArray[np.int64]) -> float:
    """Find the temperature under which answers are as sure as they are right.

    Parameters
    ----------
    probabilities
        Of one head, shape (clips, 8).
    label
        Index of the true emotion, shape (clips,).

    Returns
    -------
    float
        The temperature of the smallest mean negative log-likelihood, in ``TEMPERATURE_RANGE``;
        above 1 where the head was surer than it was right.

    Notes
    -----
    Guo et al. 2017, "On calibration of modern neural networks", section 4.2. The clips are those
    of the validation actors, before the network has learned from them. One number a head can hardly
    fit so few people by heart, while training actors are known so well that they would call every
    answer sure, and test actors may not choose anything.
    """
    clips = np.arange(len(label))

    def loss(log_temperature: float) -> float:
        scaled = scale(probabilities, np.exp(log_temperature))
        return -float(np.log(np.maximum(scaled[clips, label], SMALLEST_PROBABILITY)).mean())

    low, high = np.log(TEMPERATURE_RANGE)
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(np.exp(found.x))


def scale(probabilities: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Divide the scores behind probabilities, shape (…, 8), by a temperature.

    Scores are logarithms of probabilities up to a constant, which the softmax takes away again.
    """
    scores = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))
    scores = scores / temperature
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def fit_temperatures(
    probabilities: Mapping[str, NDArray[np.float32]],
    label: NDArray[np.int64],
    having: Mapping[str, NDArray[np.bool_]],
) -> dict[str, float]:
    """Find the temperature of each head, see :func:`fit_temperature`.

    Parameters
    ----------
    probabilities, label
        See there.
    having
        Which clips count for a head, shape (clips,); a head without any gets no temperature.
    """
    return {
        head: fit_temperature(probabilities[head][chosen], label[chosen])
        for head, chosen in having.items()
        if chosen.any()
    }


def fit_votes(
    probabilities: Mapping[str, NDArray[np.float32]], label: NDArray[np.int64]
) -> dict[str, float]:
    """Find what the scores of each head should count for in the fused answer.

    Parameters
    ----------
    probabilities
        Of each head, shape (clips, 8), from a network whose votes all count 1, for clips whose
        voice and face are both there.
    label
        Index of the true emotion, shape (clips,).

    Returns
    -------
    dict of str to float
        Of each head, in [0, ``HEAVIEST_VOTE``]: the weights of the smallest negative
        log-likelihood, the face's drawn towards ``FACE_VOTE`` of the voice's by the square of its
        distance. ``"fused"`` is that of the dense layer's own scores.

    Notes
    -----
    A log-linear opinion pool, Genest & Zidek 1986, "Combining probability distributions: a
    critique and an annotated bibliography". Its loss is convex in the weights, and so is what is
    added to it: the logarithm of a normal distribution known beforehand. Validation actors
    decide for the reason given in :func:`fit_temperature`: a head that knows the training actors by
    heart would be trusted for it.
    """
    scores, clips = own_scores(probabilities), np.arange(len(label))
    heads, stacked = list(scores), np.stack(list(scores.values()))
    unexpected = np.array([{"video": 1.0, "audio": -FACE_VOTE}.get(head, 0.0) for head in heads])
    strength = EXPECTED_CLIPS / len(label)

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        pooled = np.tensordot(weights, stacked, 1)
        logarithms = pooled - special.logsumexp(pooled, axis=1, keepdims=True)
        expected = (np.exp(logarithms) * stacked).sum(axis=2)
        gradient = (expected - stacked[:, clips, label]).mean(axis=1)
        distance = float(unexpected @ weights)
        likelihood = -float(logarithms[clips, label].mean())
        return likelihood + strength * distance**2, gradient + 2 * strength * distance * unexpected

    bounds = [(0.0, HEAVIEST_VOTE)] * len(heads)
    found = optimize.minimize(loss, np.ones(len(heads)), jac=True, bounds=bounds)
    return dict(zip(heads, map(float, found.x), strict=True))


def expected_votes(heads: Collection[str]) -> dict[str, float]:
    """Weights of the heads in the fused answer where no clip has both modalities.

    Parameters
    ----------
    heads
        Those that have learned; others get no weight.
    """
    votes = {"fused": 0.0} | {head: float(head in heads) for head in ("audio", "video")}
    if votes["audio"] and votes["video"]:
        votes["video"] = FACE_VOTE
    return votes


def own_scores(
    probabilities: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float64]]:
    """Scores behind the heads' probabilities; ``"fused"`` is what the dense layer adds to both."""
    scores = {
        head: np.log(np.maximum(values.astype(np.float64), SMALLEST_PROBABILITY))
        for head, values in probabilities.items()
    }
    return scores | {"fused": scores["fused"] - scores["audio"] - scores["video"]}


def vote(
    probabilities: Mapping[str, NDArray[np.float32]], votes: Mapping[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Turn answers of a network whose votes count 1 into those it gives with other votes."""
    scores = own_scores(probabilities)
    pooled = sum(votes[head] * scores[head] for head in scores)
    fused = special.softmax(pooled, axis=1).astype(np.float32)
    return dict(probabilities) | {"fused": fused}


def frequencies(label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each emotion, shape (8,), of clips with these labels, shape (clips,).

    An emotion that nobody shows counts as the most frequent: an answer that was never taught gets
    no help.
    """
    counts = np.bincount(label, minlength=len(EMOTIONS))
    counts[counts == 0] = counts.max()
    return counts / counts.sum()


def balance(
    probabilities: Mapping[str, NDArray[np.float32]], shares: NDArray[np.float64]
) -> dict[str, NDArray[np.float32]]:
    """Divide each head's probabilities, shape (clips, 8), by shares of :func:`frequencies`.

    Notes
    -----
    A network guesses seldom what it seldom met, and RAVDESS has half as many neutral clips as of
    any other emotion. A new person gives no reason to: the answers are those of a corpus in which
    every emotion is as frequent, which is what UAR counts. Menon et al. 2021, "Long-tail learning
    via logit adjustment", section 4.1, with a temperature of 1.
    """
    balanced = {head: values / shares for head, values in probabilities.items()}
    return {
        head: (values / values.sum(axis=-1, keepdims=True)).astype(np.float32)
        for head, values in balanced.items()
    }


def temper(
    probabilities: Mapping[str, NDArray[np.float32]], temperatures: Mapping[str, float]
) -> dict[str, NDArray[np.float32]]:
    """Apply the heads' temperatures to their probabilities; a head without one stays as it is."""
    return {
        head: scale(values, temperatures[head]).astype(np.float32)
        if head in temperatures
        else np.asarray(values)
        for head, values in probabilities.items()
    }


def calibration(probabilities: NDArray[np.float32], label: NDArray[np.int64]) -> dict:
    """Compute the expected calibration error of a head and the bins it is made of.

    Parameters
    ----------
    probabilities
        Shape (clips, 8).
    label
        Index of the true emotion, shape (clips,).

    Returns
    -------
    dict
        ``expected_calibration_error`` in [0, 1], and ``bins``: of each part of [0, 1] that holds
        an answer its number of ``clips``, mean ``confidence`` and ``accuracy``.

    Notes
    -----
    Guo et al. 2017, equation 3, in ``CALIBRATION_BINS`` equal bins.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == label
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows = [
        {
            "clips": int(chosen.sum()),
            "confidence": float(confidence[chosen].mean()),
            "accuracy": float(right[chosen].mean()),
        }
        for number in range(CALIBRATION_BINS)
        for chosen in [bins == number]
        if chosen.any()
    ]
    error = sum(row["clips"] * abs(row["confidence"] - row["accuracy"]) for row in rows)
    return {"expected_calibration_error": error / len(right), "bins": rows}
