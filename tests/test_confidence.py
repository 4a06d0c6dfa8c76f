import numpy as np
import pytest

from train import confidence


def softmax(scores):
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def calibrated(clips=6000, seed=0):
    """Scores, and labels drawn from the very probabilities the scores give."""
    random = np.random.default_rng(seed)
    scores = 2 * random.normal(size=(clips, 8))
    chances = softmax(scores).cumsum(axis=1)
    return scores, (random.random((clips, 1)) < chances).argmax(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found_and_undone(temperature):
    scores, label = calibrated()
    given = softmax(scores * temperature).astype(np.float32)
    found = confidence.fit_temperature(given, label)
    assert found == pytest.approx(temperature, rel=0.05)
    tempered = confidence.scale(given, temperature)
    assert tempered == pytest.approx(softmax(scores), abs=1e-3)
    error = confidence.calibration(tempered, label)["expected_calibration_error"]
    assert error < 0.02
    if temperature == 3.0:
        before = confidence.calibration(given, label)["expected_calibration_error"]
        assert before > 5 * error


def test_temperatures_change_no_answer_and_stay_in_bounds():
    scores, _ = calibrated(200)
    given = softmax(scores).astype(np.float32)
    assert np.array_equal(confidence.scale(given, 4.0).argmax(axis=1), given.argmax(axis=1))
    low, high = confidence.TEMPERATURE_RANGE
    assert confidence.fit_temperature(given, given.argmax(axis=1)) == pytest.approx(low, rel=0.01)
    assert confidence.fit_temperature(given, given.argmin(axis=1)) == pytest.approx(high, rel=0.01)


def test_a_probability_of_zero_stays_finite():
    sure = np.eye(8, dtype=np.float32)
    assert np.isfinite(confidence.scale(sure, 3.0)).all()
    assert np.isfinite(confidence.fit_temperature(sure, np.arange(8)[::-1]))


def test_a_head_without_a_temperature_stays_as_it_is():
    given = softmax(calibrated(5)[0]).astype(np.float32)
    tempered = confidence.temper({"fused": given, "audio": given}, {"fused": 2.0})
    assert tempered["audio"] is given
    assert tempered["fused"] == pytest.approx(softmax(np.log(given) / 2), abs=1e-6)
    assert tempered["fused"].dtype == np.float32


def test_calibration_of_two_bins_by_hand():
    probabilities = np.zeros((5, 8))
    probabilities[:2, 3], probabilities[:2, 4] = 0.95, 0.05
    probabilities[2:, 3], probabilities[2:, 4] = 0.55, 0.45
    found = confidence.calibration(probabilities, np.array([3, 4, 3, 3, 3]))
    # Two answers at 0.95 of which one is right, three at 0.55 that all are.
    assert found["expected_calibration_error"] == pytest.approx((2 * 0.45 + 3 * 0.45) / 5)
    assert [row["clips"] for row in found["bins"]] == [3, 2]
    assert [row["accuracy"] for row in found["bins"]] == [1.0, 0.5]


def told(seed=0, clips=4000):
    """Probabilities of heads whose votes all count 1, and the scores behind them."""
    random = np.random.default_rng(seed)
    scores = {head: random.normal(size=(clips, 8)) for head in ("fused", "audio", "video")}
    summed = scores | {"fused": sum(scores.values())}
    return scores, {head: softmax(values).astype(np.float32) for head, values in summed.items()}


def test_known_votes_are_found():
    scores, given = told()
    votes = {"fused": 0.3, "audio": 0.9, "video": 0.6}
    chances = softmax(sum(votes[head] * scores[head] for head in votes)).cumsum(axis=1)
    label = (np.random.default_rng(1).random((len(chances), 1)) < chances).argmax(axis=1)
    assert confidence.fit_votes(given, label) == pytest.approx(votes, abs=0.12)
    expected = softmax(sum(votes[head] * scores[head] for head in votes))
    voted = confidence.vote(given, votes)
    assert voted["fused"] == pytest.approx(expected, abs=1e-5)
    assert voted["audio"] is given["audio"] and voted["fused"].dtype == np.float32


def test_few_clips_leave_the_face_near_what_is_expected_of_it():
    scores, given = told(clips=60)
    right = confidence.fit_votes(given, scores["video"].argmax(axis=1))
    wrong = confidence.fit_votes(given, scores["video"].argmin(axis=1))
    for votes in (right, wrong):
        expected = confidence.FACE_VOTE * votes["audio"]
        assert votes["video"] == pytest.approx(expected, abs=0.15)
    assert right["video"] > wrong["video"]


def test_a_head_that_is_wrong_has_no_vote_and_one_that_is_right_no_endless_one():
    scores, given = told(clips=20_000)
    votes = confidence.fit_votes(given, scores["video"].argmax(axis=1))
    assert votes["video"] == confidence.HEAVIEST_VOTE
    votes = confidence.fit_votes(given, scores["video"].argmin(axis=1))
    assert votes["video"] == 0


def test_balanced_answers_are_those_of_a_corpus_in_equal_parts():
    random = np.random.default_rng(0)
    likelihood = random.uniform(0.1, 1, (50, 8))
    label = np.repeat(np.arange(8), [4, 8, 8, 8, 8, 8, 8, 12])
    shares = confidence.frequencies(label)
    assert shares[[0, 1, 7]] == pytest.approx([4 / 64, 8 / 64, 12 / 64])
    posterior = likelihood * shares / (likelihood * shares).sum(axis=1, keepdims=True)
    balanced = confidence.balance({"audio": posterior.astype(np.float32)}, shares)["audio"]
    equal = likelihood / likelihood.sum(axis=1, keepdims=True)
    assert balanced == pytest.approx(equal, abs=1e-6) and balanced.dtype == np.float32
    assert (balanced.argmax(axis=1) != posterior.argmax(axis=1)).any()


def test_an_emotion_nobody_shows_is_not_helped():
    shares = confidence.frequencies(np.array([1, 1, 2, 2, 2]))
    assert shares[0] == shares[2] > shares[1]
