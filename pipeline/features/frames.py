"""Decoded frames and a square to the frame tensor. Pure functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.detectors import Box
from pipeline.features.faces import centred_square
from pipeline.spec import FeatureSpec


def spread_times(
    start_seconds: float, duration_seconds: float, count: int, margin: float = 1.0
) -> list[float]:
    """Middles of ``count`` equal parts of a stretch, in seconds.

    The stretch is ``margin`` times as long as the given one, around the same middle; a time may lie
    before or after all that a recording holds.
    """
    spread = margin * duration_seconds
    first = start_seconds + (duration_seconds - spread) / 2
    return [first + (number + 0.5) * spread / count for number in range(count)]


def crop_slices(square: Box, height_px: int, width_px: int) -> tuple[slice, slice]:
    """Round a square to whole pixels, move it into the frame, and shrink it where it is too large.

    Returns
    -------
    rows, columns : slice
    """
    side = max(1, min(round(square.width), height_px, width_px))
    top = round(square.y + square.height / 2 - side / 2)
    left = round(square.x + square.width / 2 - side / 2)
    top = min(max(0, top), height_px - side)
    left = min(max(0, left), width_px - side)
    return slice(top, top + side), slice(left, left + side)


def frame_tensor(
    frames: Sequence[NDArray[np.uint8] | None], square: Box | None, spec: FeatureSpec
) -> NDArray[np.uint8]:
    """Make the frame tensor of a window.

    Parameters
    ----------
    frames
        ``spec.frame_count`` RGB frames, each (height, width, 3); None where there is none.
    square
        What is cut out; None takes the centred square. Ignored where ``spec.crop`` is ``"whole"``.
    spec
        Gives size, crop and interpolation.

    Returns
    -------
    ndarray of uint8, shape (frame_count, frame_size_px, frame_size_px, 3)
        RGB in [0, 255]; black where there is no frame.
    """
    tensor = np.zeros(spec.frames_shape, np.uint8)
    size = (spec.frame_size_px, spec.frame_size_px)
    interpolation = getattr(cv2, f"INTER_{spec.frame_scaler.upper()}")
    for place, frame in zip(tensor, frames, strict=True):
        if frame is None:
            continue
        if spec.crop == "face":
            height, width = frame.shape[:2]
            frame = frame[crop_slices(square or centred_square(height, width), height, width)]
        cv2.resize(frame, size, dst=place, interpolation=interpolation)
    return tensor
