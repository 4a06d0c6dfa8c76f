"""Temperatures and calibration error, against known temperatures and the definition."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve

from train.evaluation import calibration


def drawn(clips=6000, seed=0):
    """Logits, and labels drawn from the very probabilities that they give."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(clips, 8))
    chances = softmax(logits, axis=1).cumsum(axis=1)
    return logits, (random.random((clips, 1)) < chances).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    logits, label = drawn()
    given = (logits * temperature).astype(np.float32)
    found = calibration.fit_temperature(given, label)
    assert found == pytest.approx(temperature, rel=0.05)
    # What is added to all logits of a clip changes nothing.
    assert calibration.fit_temperature(given + 50, label) == pytest.approx(found, rel=1e-3)
    after = calibration.calibration(softmax(given / found, axis=1), label)
    assert after["expected_calibration_error"] < 0.02
    if temperature == 3.0:
        before = calibration.calibration(softmax(given, axis=1), label)
        assert before["expected_calibration_error"] > 5 * after["expected_calibration_error"]


def test_temperatures_stay_in_bounds_and_finite():
    logits, _ = drawn(200)
    low, high = calibration.TEMPERATURE_RANGE
    found = calibration.fit_temperature(logits, logits.argmax(axis=1))
    assert found == pytest.approx(low, rel=0.01)
    found = calibration.fit_temperature(logits, logits.argmin(axis=1))
    assert found == pytest.approx(high, rel=0.01)
    huge = 1e4 * np.eye(8, dtype=np.float32)
    assert np.isfinite(calibration.fit_temperature(huge, np.arange(8)[::-1]))


def test_calibration_of_two_bins_by_hand():
    probabilities = np.zeros((5, 8))
    probabilities[:2, 3], probabilities[:2, 4] = 0.95, 0.05
    probabilities[2:, 3], probabilities[2:, 4] = 0.55, 0.45
    found = calibration.calibration(probabilities, np.array([3, 4, 3, 3, 3]))
    # Three answers at 0.55 that are all right, two at 0.95 of which one is.
    assert found["expected_calibration_error"] == pytest.approx((3 * 0.45 + 2 * 0.45) / 5)
    assert found["bins"] == [
        {"clips": 3, "confidence": pytest.approx(0.55), "accuracy": 1.0},
        {"clips": 2, "confidence": pytest.approx(0.95), "accuracy": 0.5},
    ]


def test_bins_are_those_of_scikit_learn():
    logits, label = drawn(500, seed=1)
    probabilities = softmax(logits, axis=1).astype(np.float32)
    probabilities[0], probabilities[1] = np.eye(8)[3], 1 / 8
    bins = calibration.calibration(probabilities, label)["bins"]
    right = probabilities.argmax(axis=1) == label
    accuracy, confidence = calibration_curve(right, probabilities.max(axis=1), n_bins=10)
    assert [row["accuracy"] for row in bins] == pytest.approx(accuracy)
    assert [row["confidence"] for row in bins] == pytest.approx(confidence)
    assert sum(row["clips"] for row in bins) == 500
