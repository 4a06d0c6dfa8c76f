from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pipeline.features import faces, frames
from pipeline.features.faces import Box
from pipeline.sample import corpus
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec()


def pictures(height, width):
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows % 256, columns % 256, np.zeros_like(rows)], axis=-1)
    return [picture.astype(np.uint8)] * SPEC.frame_count


def test_times_are_the_middles_of_equal_parts():
    assert frames.frame_times(1.0, 2.0, 4) == [1.25, 1.75, 2.25, 2.75]
    assert frames.frame_times(1.0, 2.0, 4, 2.0) == [0.5, 1.5, 2.5, 3.5]


def test_crop_of_one_to_one_pixels_is_exact():
    side = 112 / SPEC.face_margin
    box = Box(100 - side / 2, 80 - side / 2, side, side)
    tensor = frames.frames(pictures(200, 240), box, SPEC)
    assert tensor.shape == (20, 112, 112, 3) and tensor.dtype == np.uint8
    assert np.array_equal(tensor[7], pictures(200, 240)[7][24:136, 44:156])


def test_without_a_face_the_centred_square_is_taken():
    tensor = frames.frames(pictures(112, 300), None, SPEC)
    assert np.array_equal(tensor[0], pictures(112, 300)[0][:, 94:206])


def test_missing_pictures_are_black():
    shown = [*pictures(112, 112)[:15], *[None] * 5]
    tensor = frames.frames(shown, None, SPEC)
    assert tensor[14].any() and not tensor[15:].any()


def test_whole_picture_is_squeezed():
    spec = FeatureSpec.as_published()
    halves = np.zeros((50, 300, 3), np.uint8)
    halves[:, 150:] = 200
    tensor = frames.frames([halves] * 20, Box(0, 0, 9, 9), spec)
    assert (tensor[:, :, :55] == 0).all() and (tensor[:, :, 57:] == 200).all()


@pytest.mark.parametrize("box", [Box(-50, -50, 40, 40), Box(1000, 900, 30, 60), Box(0, 0, 999, 5)])
def test_crop_stays_inside_the_picture(box):
    rows, columns = frames.crop_box(box, 1.3, 120, 160)
    assert 0 <= rows.start < rows.stop <= 120 and 0 <= columns.start < columns.stop <= 160
    assert rows.stop - rows.start == columns.stop - columns.start


def test_one_miss_and_one_false_alarm_are_outvoted():
    face, alarm = Box(100, 50, 80, 80), Box(300, 10, 200, 200)
    found = faces.agree([[face], [], [alarm, face], [Box(104, 52, 80, 80)], [face]])
    assert faces.overlap(found, face) > 0.9


def test_of_equally_supported_faces_the_larger_wins():
    small, large = Box(0, 0, 30, 30), Box(200, 0, 60, 60)
    assert faces.agree([[large, small], [large, small]]) == large
    assert faces.agree([[small, large], [small, large]]) == large
    assert faces.agree([[], []]) is None


def test_overlap():
    assert faces.overlap(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert faces.overlap(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert faces.overlap(Box(0, 0, 10, 10), Box(20, 0, 10, 10)) == 0


@pytest.fixture(scope="module")
def portrait():
    """A drawn face in the left half of a picture twice as wide as it was drawn."""
    _, _, frames = corpus.record(corpus.takes(1, 1)[0], 0)
    _, drawn = next(iter(frames))
    empty = np.full_like(drawn, drawn.mean(axis=(0, 1)))
    return np.concatenate([drawn, empty], axis=1)


def only_face(picture, near=None):
    (box,) = faces.detect(picture, SPEC.face_detector, near)
    return box


def test_a_known_face_is_found_again_where_it_has_moved_to(portrait):
    before, moved = only_face(portrait), np.roll(portrait, 8, axis=1)
    assert faces.overlap(only_face(moved, before), only_face(moved)) > 0.8


def test_a_face_that_has_gone_elsewhere_is_searched_everywhere(portrait):
    before = only_face(portrait)
    elsewhere = np.roll(portrait, portrait.shape[1] // 2, axis=1)
    again = only_face(elsewhere, before)
    assert again == only_face(elsewhere)
    assert faces.overlap(again, before) == 0


def test_a_face_is_searched_near_its_place_only(portrait, monkeypatch):
    searched, search = [], faces.search
    before = only_face(portrait)
    monkeypatch.setattr(
        faces, "search", lambda grey, *rest: searched.append(grey.size) or search(grey, *rest)
    )
    only_face(portrait, before)
    only_face(portrait)
    near, everywhere = searched
    assert near < everywhere / 2


def test_no_face_is_found_where_there_is_none(portrait):
    before = only_face(portrait)
    assert faces.detect(np.full_like(portrait, 90), SPEC.face_detector, before) == []


def test_a_grey_picture_shows_the_same_face(portrait):
    grey = portrait @ np.array([0.299, 0.587, 0.114])
    assert faces.overlap(only_face(np.rint(grey).astype(np.uint8)), only_face(portrait)) > 0.8


def test_two_threads_search_at_once(portrait):
    """One classifier that two threads use fails or crashes."""
    alone = only_face(portrait)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(only_face, [portrait] * 20))
    assert found == [alone] * 20
