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
    network = keras.Model(inputs, video_branch.edge_cells(inputs))
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


def test_missing_pictures_change_nothing_of_the_others():
    random = np.random.default_rng(3).random((1, 6, CELLS, CELLS, 4)).astype(np.float32)
    shown = np.array([1, 0, 1, 1, 0, 1], np.float32).reshape(1, 6, 1, 1, 1)
    x, given = keras.Input(random.shape[1:]), keras.Input(shown.shape[1:])
    part = keras.ops.mean(given, axis=1, keepdims=True)
    network = keras.Model([x, given], video_branch.level_and_change(x, given, part))
    seen = np.asarray(network([random * shown, shown]))[0]
    there = shown.ravel() > 0
    level, change = seen[..., :4], seen[..., 4:]
    assert (level[there] == random[0, there]).all()
    wanted = random[0, there] - random[0, there].mean(axis=0)
    assert change[there] == pytest.approx(video_branch.CHANGE_GAIN * wanted, abs=1e-5)
    assert (seen[~there] == 0).all()
