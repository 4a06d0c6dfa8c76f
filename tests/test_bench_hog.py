"""The plain baseline of faces: what it is given, and whom it knows."""

import types

import numpy as np

from bench import hog


def test_edges_of_another_direction_are_another_description():
    frames = np.zeros((20, 112, 112, 3), np.uint8)
    frames[:, :, 56:] = 255
    upright = hog.describe(frames)
    assert upright.shape == (3 * 7 * 7 * 4 * 8,)
    lying = hog.describe(np.swapaxes(frames, 1, 2).copy())
    assert np.dot(upright, lying) < 0.1 * np.dot(upright, upright)


def test_what_a_person_always_looks_like_is_removed():
    random = np.random.default_rng(0)
    actor, label = np.repeat([1, 2, 3, 4], 40), np.tile([0, 1], 80)
    faces = random.normal(0, 30, (5, 16))[actor]
    features = faces + label[:, np.newaxis] + random.normal(0, 0.3, (160, 16))
    features = hog.without_means(types.SimpleNamespace(actor=actor), features)
    new = actor > 2
    uar, war = hog.recall(features[~new], label[~new], features[new], label[new])
    assert uar == war == 100
