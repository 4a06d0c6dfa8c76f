"""Faces followed over time, and answers without flicker."""

import itertools

import numpy as np
import pytest

from infer.prediction import smooth
from infer.prediction.smooth import Smoother
from infer.reading import tracks
from infer.reading.tracks import Tracker
from pipeline.features.detectors import Box, Face
from pipeline.spec import EMOTIONS


def face(x, y=100.0, side=80.0, confidence=0.9):
    return Face(Box(x, y, side, side), confidence)


def follow(frames):
    """Numbers of the faces of each frame, every 0.3 s, sorted by place."""
    tracker = Tracker()
    return tracker, [tracker.update(0.3 * n, found) for n, found in enumerate(frames)]


def test_faces_that_pass_each_other_keep_their_numbers():
    """They move evenly in opposite directions, one a little above the other."""
    frames = [[face(100 + 20 * n, 100), face(400 - 20 * n, 150)] for n in range(16)]
    _, numbers = follow(frames)
    assert numbers == [[1, 2]] * 16
    reverse = [list(reversed(found)) if n % 2 else found for n, found in enumerate(frames)]
    _, numbers = follow(reverse)
    assert all(n == ([2, 1] if place % 2 else [1, 2]) for place, n in enumerate(numbers))


def test_a_face_that_moves_by_its_own_width_is_followed():
    _, numbers = follow([[face(100 + 75 * n)] for n in range(8)])
    assert numbers == [[1]] * 8


def test_a_missed_find_costs_no_number_and_a_long_absence_does():
    tracker, numbers = follow([[face(100)], [], [face(110)], *[[]] * 8, [face(110)]])
    assert [n for n in numbers if n] == [[1], [1], [2]]
    assert list(tracker.tracks) == [1, 2]


def test_another_face_in_the_same_place_at_the_same_time_is_another():
    _, numbers = follow([[face(100)], [face(100), face(103, side=30)], [face(100)]])
    assert numbers[0] == numbers[2] == [1] and numbers[1][0] == 1 and numbers[1][1] == 2


def test_a_box_moves_evenly_between_finds_and_goes_after_half_a_second():
    tracker = Tracker()
    for time, x in ((0.0, 0.0), (0.4, 40.0), (3.0, 40.0)):
        tracker.update(time, [face(x)])
    track = tracker.get(1)
    assert [track.at(t)[0].x for t in (0.0, 0.1, 0.2, 0.4)] == pytest.approx([0, 10, 20, 40])
    assert track.at(0.64)[0].x == pytest.approx(40)
    assert track.at(0.66) is None and track.at(2.0) is None and track.at(-0.3) is None
    assert tracks.LOST_SECONDS == 0.5


def test_faces_that_left_long_ago_are_forgotten():
    tracker = Tracker()
    for number in range(50):
        tracker.update(10.0 * number, [face(100)])
        tracker.forget(10.0 * number - 15)
    assert list(tracker.tracks) == [49, 50] and tracker.get(3).at(20.0) is None


def test_faces_of_an_earlier_frame_are_recognised():
    tracker, _ = follow([[face(100), face(300)], [face(110), face(300)]])
    assert tracker.recognise(0.15, [face(302), face(104), face(600)]) == [2, 1, None]
    assert len(tracker.tracks) == 2


def test_the_sum_of_overlaps_decides():
    """Taking the best pair first would leave the other without any."""
    expected = [Box(0, 0, 100, 100), Box(60, 0, 100, 100)]
    found = [Box(50, 0, 100, 100), Box(-90, 0, 100, 100)]
    assert tracks.assign(expected, found) == {0: 1, 1: 0}
    best = {}
    for order in itertools.permutations(range(2)):
        total = sum(
            tracks.faces.overlap(tracks.grown(expected[order[n]]), tracks.grown(found[n]))
            for n in range(2)
        )
        best[order] = total
    assert max(best, key=best.get) == (1, 0)


def test_smoothing_is_a_first_order_low_pass():
    smoother = Smoother(seconds=2.0)
    first, second = np.eye(8, dtype=np.float32)[2], np.eye(8, dtype=np.float32)[5]
    smoother(0.0, first)
    for n in range(1, 20):
        state, _ = smoother(n / 2, second)
        assert state[2] == pytest.approx(np.exp(-n / 4), abs=1e-5)
        assert state.sum() == pytest.approx(1, abs=1e-5)


def test_an_earlier_answer_does_not_shake_the_filter():
    smoother = Smoother(1.0)
    first, second = (np.eye(8, dtype=np.float32)[n] for n in (1, 2))
    smoother(3.0, first)
    smoothed, label = smoother(0.5, second)
    assert smoothed == pytest.approx(first) and label == EMOTIONS[1]


def test_a_label_does_not_flicker():
    random = np.random.default_rng(0)
    near = np.full(8, 0.05, np.float32)
    near[[2, 5]] = 0.35

    def changes(seconds):
        smoother, labels = Smoother(seconds), []
        for n in range(200):
            noisy = near + random.normal(0, 0.03, 8).astype(np.float32)
            labels.append(smoother(n * 1.28, noisy)[1])
        return sum(a != b for a, b in itertools.pairwise(labels))

    assert changes(0.0) > 50
    assert changes(smooth.SECONDS) < 10
    assert changes(4.0) == 0


def test_a_label_follows_a_clear_change_and_unsure_is_said():
    smoother = Smoother(1.0, min_confidence=0.5)
    assert smoother(0.0, np.eye(8, dtype=np.float32)[4])[1] == "angry"
    labels = [smoother(n * 1.28, np.eye(8, dtype=np.float32)[7])[1] for n in range(1, 4)]
    assert labels[-1] == "surprised"
    assert Smoother(1.0, 0.5)(0.0, np.full(8, 1 / 8, np.float32))[1] == smooth.UNSURE
    first = np.array([0.1, 0.6, 0.3, 0, 0, 0, 0, 0])
    for least, said in ((0.0, "calm"), (0.6, "calm"), (0.61, "unsure"), (1.0, "unsure")):
        assert smooth.named(first, least) == said
    assert set(EMOTIONS).isdisjoint({smooth.UNSURE})
