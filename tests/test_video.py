import numpy as np
import pytest

from pipeline import faces, video
from pipeline.faces import Box
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec()


def pictures(height, width):
    rows, columns = np.mgrid[:height, :width]
    picture = np.stack([rows % 256, columns % 256, np.zeros_like(rows)], axis=-1)
    return [picture.astype(np.uint8)] * SPEC.frame_count


def test_times_are_the_middles_of_equal_parts():
    assert video.frame_times(1.0, 2.0, 4) == [1.25, 1.75, 2.25, 2.75]


def test_crop_of_one_to_one_pixels_is_exact():
    side = 112 / SPEC.face_margin
    box = Box(100 - side / 2, 80 - side / 2, side, side)
    tensor = video.frames(pictures(200, 240), box, SPEC)
    assert tensor.shape == (20, 112, 112, 3) and tensor.dtype == np.uint8
    assert np.array_equal(tensor[7], pictures(200, 240)[7][24:136, 44:156])


def test_without_a_face_the_centred_square_is_taken():
    tensor = video.frames(pictures(112, 300), None, SPEC)
    assert np.array_equal(tensor[0], pictures(112, 300)[0][:, 94:206])


def test_missing_pictures_are_black():
    shown = [*pictures(112, 112)[:15], *[None] * 5]
    tensor = video.frames(shown, None, SPEC)
    assert tensor[14].any() and not tensor[15:].any()


def test_whole_picture_is_squeezed():
    spec = FeatureSpec.as_published()
    halves = np.zeros((50, 300, 3), np.uint8)
    halves[:, 150:] = 200
    tensor = video.frames([halves] * 20, Box(0, 0, 9, 9), spec)
    assert (tensor[:, :, :55] == 0).all() and (tensor[:, :, 57:] == 200).all()


@pytest.mark.parametrize("box", [Box(-50, -50, 40, 40), Box(1000, 900, 30, 60), Box(0, 0, 999, 5)])
def test_crop_stays_inside_the_picture(box):
    rows, columns = video.crop_box(box, 1.3, 120, 160)
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
