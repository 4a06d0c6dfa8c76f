"""Pictures and a face box to a frame tensor. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.faces import Box, centred_square
from pipeline.spec import FeatureSpec


def frame_times(
    start_seconds: float, duration_seconds: float, count: int, margin: float = 1.0
) -> list[float]:
    """Middles of ``count`` equal parts of a stretch, in seconds.

    The stretch is ``margin`` times as long as the given one, around the same middle; a time may lie
    before or after all that a recording holds.
    """
    spread = margin * duration_seconds
    first = start_seconds + (duration_seconds - spread) / 2
    return [first + (number + 0.5) * spread / count for number in range(count)]


def crop_box(box: Box, margin: float, height_px: int, width_px: int) -> tuple[slice, slice]:
    """Turn a face box into the square of pixels around it.

    Parameters
    ----------
    box
        Face, in pixels.
    margin
        Side of the square as a multiple of the face's longer side.
    height_px, width_px
        Size of the picture. The square is moved, then shrunk, to lie inside of it.

    Returns
    -------
    rows, columns : slice
    """
    side = min(round(max(box.width, box.height) * margin), height_px, width_px)
    side = max(1, side)
    top = round(box.y + box.height / 2 - side / 2)
    left = round(box.x + box.width / 2 - side / 2)
    top = min(max(0, top), height_px - side)
    left = min(max(0, left), width_px - side)
    return slice(top, top + side), slice(left, left + side)


def frames(
    pictures: Sequence[NDArray[np.uint8] | None], box: Box | None, spec: FeatureSpec
) -> NDArray[np.uint8]:
    """Make the frame tensor of a window.

    Parameters
    ----------
    pictures
        ``spec.frame_count`` RGB pictures, each (height, width, 3); None where there is none.
    box
        The face; None takes the centred square. Ignored where ``spec.crop`` is ``"whole"``.
    spec
        Gives size, crop and margin.

    Returns
    -------
    ndarray of uint8, shape (frame_count, frame_size_px, frame_size_px, 3)
        RGB in [0, 255]; black where there is no picture.
    """
    tensor = np.zeros(spec.frames_shape, np.uint8)
    for place, picture in zip(tensor, pictures, strict=True):
        if picture is None:
            continue
        if spec.crop == "face":
            height, width = picture.shape[:2]
            margin = spec.face_margin if box else 1.0
            square = box or centred_square(height, width)
            picture = picture[crop_box(square, margin, height, width)]
        size = (spec.frame_size_px, spec.frame_size_px)
        place[:] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return tensor
