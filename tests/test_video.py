import numpy as np
import pytest

from pipeline.features import faces, frames
from pipeline.features.detectors import Box
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec()


def images(height, width):
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows % 256, columns % 256, np.zeros_like(rows)], axis=-1)
    return [image.astype(np.uint8)] * SPEC.frame_count


def test_times_are_the_middles_of_equal_parts():
    assert frames.spread_times(1.0, 2.0, 4) == [1.25, 1.75, 2.25, 2.75]
    assert frames.spread_times(1.0, 2.0, 4, 2.0) == [0.5, 1.5, 2.5, 3.5]


def test_crop_of_one_to_one_pixels_is_exact():
    box = Box(44, 24, 112, 112)
    tensor = frames.frame_tensor(images(200, 240), box, SPEC)
    assert tensor.shape == (20, 112, 112, 3) and tensor.dtype == np.uint8
    assert np.array_equal(tensor[7], images(200, 240)[7][24:136, 44:156])


def test_without_a_face_the_centred_square_is_taken():
    tensor = frames.frame_tensor(images(112, 300), None, SPEC)
    assert np.array_equal(tensor[0], images(112, 300)[0][:, 94:206])


def test_missing_frames_are_black():
    shown = [*images(112, 112)[:15], *[None] * 5]
    tensor = frames.frame_tensor(shown, None, SPEC)
    assert tensor[14].any() and not tensor[15:].any()


def test_whole_frame_is_squeezed():
    spec = FeatureSpec.as_published()
    halves = np.zeros((50, 300, 3), np.uint8)
    halves[:, 150:] = 200
    tensor = frames.frame_tensor([halves] * 20, Box(0, 0, 9, 9), spec)
    assert (tensor[:, :, :55] == 0).all() and (tensor[:, :, 57:] == 200).all()


@pytest.mark.parametrize("box", [Box(-50, -50, 40, 40), Box(1000, 900, 30, 60), Box(0, 0, 999, 5)])
def test_crop_stays_inside_the_frame(box):
    rows, columns = frames.crop_slices(box, 120, 160)
    assert 0 <= rows.start < rows.stop <= 120 and 0 <= columns.start < columns.stop <= 160
    assert rows.stop - rows.start == columns.stop - columns.start


def test_one_miss_and_one_false_alarm_are_outvoted():
    face, alarm = Box(100, 50, 80, 80), Box(300, 10, 200, 200)
    found = faces.agreed_box([[face], [], [alarm, face], [Box(104, 52, 80, 80)], [face]], 0.3)
    assert faces.overlap(found, face) > 0.9


def test_of_equally_supported_faces_the_larger_wins():
    small, large = Box(0, 0, 30, 30), Box(200, 0, 60, 60)
    assert faces.agreed_box([[large, small], [large, small]], 0.3) == large
    assert faces.agreed_box([[small, large], [small, large]], 0.3) == large
    assert faces.agreed_box([[], []], 0.3) is None


def test_overlap():
    assert faces.overlap(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert faces.overlap(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert faces.overlap(Box(0, 0, 10, 10), Box(20, 0, 10, 10)) == 0
