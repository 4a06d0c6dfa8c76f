"""Drawing on frames as video holds them: only what is drawn on is converted to RGB and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.video import PLANES_SMALLER, Frame, planes


class Canvas:
    """A frame that can be drawn on.

    Parameters
    ----------
    frame
        yuv420p of even sides. A decoder may still refer to it: it is copied first then.
    """

    def __init__(self, frame: Frame) -> None:
        frame.make_writable()
        self.planes = planes(frame)
        self.height_px, self.width_px = frame.height, frame.width

    @contextlib.contextmanager
    def piece(
        self, left: int, top: int, right: int, bottom: int
    ) -> Iterator[tuple[NDArray[np.uint8], tuple[int, int]]]:
        """Give a rectangle to be drawn on.

        Parameters
        ----------
        left, top, right, bottom
            In pixels, the last two not included. Grown to even numbers, as four pixels share their
            colour, and cut at the edges of the frame.

        Yields
        ------
        picture : ndarray of uint8
            RGB, shape (height, width, 3). What it holds at the end is in the frame.
        place : (int, int)
            The left and top that it has become.
        """
        left, top = max(0, left // 2 * 2), max(0, top // 2 * 2)
        right = max(left, min(self.width_px, -(-right // 2) * 2))
        bottom = max(top, min(self.height_px, -(-bottom // 2) * 2))
        if right == left or bottom == top:
            yield np.zeros((bottom - top, right - left, 3), np.uint8), (left, top)
            return
        parts = [
            plane[top // part : bottom // part, left // part : right // part]
            for plane, part in zip(self.planes, PLANES_SMALLER, strict=True)
        ]
        flat = np.concatenate([part.ravel() for part in parts])
        picture = cv2.cvtColor(flat.reshape(-1, right - left), cv2.COLOR_YUV2RGB_I420)
        yield picture, (left, top)
        flat = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).ravel()
        ends = np.cumsum([part.size for part in parts])[:-1]
        for part, drawn in zip(parts, np.split(flat, ends), strict=True):
            part[:] = drawn.reshape(part.shape)
