"""What the face's readers are given, against pictures whose edges are known."""

import keras
import numpy as np
import pytest

from train import video_branch

SIDE = 16
CELLS = SIDE // video_branch.CELL_PX
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE]
SLOPES = {"across": ACROSS, "falling": ACROSS + DOWN, "down": DOWN, "rising": DOWN - ACROSS}


def cells_of(*pictures):
    """Edges in the cells of pictures, shape (pictures, CELLS, CELLS, 4)."""
    inputs = keras.Input((len(pictures), SIDE, SIDE, 1))
    network = keras.Model(inputs, video_branch.edge_cells(inputs, "video"))
    clip = np.stack(pictures).astype(np.float32)[np.newaxis, ..., np.newaxis]
    return np.asarray(network(clip))[0]


@pytest.mark.parametrize("number", range(4))
def test_a_slope_counts_for_its_own_direction(number):
    slope = SLOPES[list(SLOPES)[number]]
    inner = cells_of(slope)[0, 1:-1, 1:-1]
    wanted = np.zeros(inner.shape)
    # From one pixel to the next but one; both ways at once on a diagonal.
    wanted[..., number] = np.hypot(2, 2) if number % 2 else 2
    assert inner == pytest.approx(wanted, abs=1e-5)


def test_neither_even_light_nor_the_sign_of_an_edge_matters():
    random = np.random.default_rng(0).normal(size=(SIDE, SIDE))
    plain, lit, negative, black = cells_of(random, random + 3, -random, 0 * random)
    assert plain == pytest.approx(lit, abs=1e-5)
    assert (plain == negative).all()
    assert plain.max() > 0.1
    assert (black == 0).all()


def test_a_turned_picture_has_its_edges_turned():
    random = np.random.default_rng(1).normal(size=(SIDE, SIDE))
    plain, turned = cells_of(random, np.rot90(random))
    back = np.rot90(turned, -1)[..., [2, 3, 0, 1]]
    assert back == pytest.approx(plain, abs=1e-5)


def test_the_nearest_picture_stands_in_for_a_missing_one():
    clip = np.random.default_rng(3).random((3, 6, 2, 2, 1)).astype(np.float32)
    clip[0, [0, 1, 4]] = 0
    clip[1] = 0
    inputs = keras.Input(clip.shape[1:])
    seen = np.asarray(keras.Model(inputs, video_branch.nearest_shown(inputs))(clip))
    assert (seen[0] == clip[0, [2, 2, 2, 3, 3, 5]]).all()
    assert (seen[1] == 0).all()
    assert (seen[2] == clip[2]).all()


def test_change_is_what_departs_from_the_mean_over_time():
    clip = np.random.default_rng(4).random((1, 6, CELLS, CELLS, 4)).astype(np.float32)
    inputs = keras.Input(clip.shape[1:])
    seen = np.asarray(keras.Model(inputs, video_branch.level_and_change(inputs))(clip))
    assert (seen[..., :4] == clip).all()
    wanted = video_branch.CHANGE_GAIN * (clip - clip.mean(axis=1))
    assert seen[..., 4:] == pytest.approx(wanted, abs=1e-5)
