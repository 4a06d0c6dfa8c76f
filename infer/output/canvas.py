"""Drawing on frames as video holds them, without converting them to RGB and back."""

from __future__ import annotations

import functools
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.media.video import PLANES_SMALLER, Frame, planes

Colour = tuple[int, int, int]
"""Red, green, blue, each 0 to 255."""

BLACK_LEVEL = 16
NEUTRAL = (BLACK_LEVEL, 128, 128)
"""Light of black, and both colours of grey, in video range."""


class Patch(NamedTuple):
    """A picture as planes of light and colours, of even sides."""

    planes: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

    @property
    def height_px(self) -> int:
        """Its height."""
        return self.planes[0].shape[0]

    @property
    def width_px(self) -> int:
        """Its width."""
        return self.planes[0].shape[1]


def patch_of(picture: NDArray[np.uint8]) -> Patch:
    """Convert an RGB picture of even sides, (height, width, 3), to a patch."""
    height, width, _ = picture.shape
    flat = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).ravel()
    light, colours = height * width, height * width // 4
    return Patch(
        (
            flat[:light].reshape(height, width),
            flat[light : light + colours].reshape(height // 2, width // 2),
            flat[light + colours :].reshape(height // 2, width // 2),
        )
    )


@functools.lru_cache(maxsize=64)
def levels(colour: Colour) -> tuple[int, int, int]:
    """Light and both colours of an RGB colour."""
    patch = patch_of(np.full((2, 2, 3), colour, np.uint8))
    light, blue, red = (int(plane[0, 0]) for plane in patch.planes)
    return light, blue, red


class Canvas:
    """A frame that can be drawn on.

    Places are in pixels and lowered to even numbers, as four pixels share their colour; what lies
    outside of the frame is left away.

    Parameters
    ----------
    frame
        yuv420p of even sides. A decoder may still refer to it: it is copied first then.
    """

    def __init__(self, frame: Frame) -> None:
        frame.make_writable()
        self.planes = planes(frame)
        self.height_px, self.width_px = frame.height, frame.width

    def parts(
        self, left: int, top: int, right: int, bottom: int
    ) -> list[tuple[NDArray[np.uint8], tuple[slice, slice]]]:
        """Return the parts of the planes in a rectangle, and where they lie in it."""
        left, top, right, bottom = (side // 2 * 2 for side in (left, top, right, bottom))
        first, above = max(0, left), max(0, top)
        last, below = max(first, min(self.width_px, right)), max(above, min(self.height_px, bottom))
        found = []
        for plane, part in zip(self.planes, PLANES_SMALLER, strict=True):
            place = slice((above - top) // part, (below - top) // part)
            across = slice((first - left) // part, (last - left) // part)
            shown = plane[above // part : below // part, first // part : last // part]
            found.append((shown, (place, across)))
        return found

    def fill(self, left: int, top: int, right: int, bottom: int, colour: Colour) -> None:
        """Fill a rectangle."""
        for (shown, _), level in zip(
            self.parts(left, top, right, bottom), levels(colour), strict=True
        ):
            shown[:] = level

    def outline(
        self, left: int, top: int, right: int, bottom: int, width: int, colour: Colour
    ) -> None:
        """Draw the inner edge of a rectangle."""
        self.fill(left, top, right, top + width, colour)
        self.fill(left, bottom - width, right, bottom, colour)
        self.fill(left, top + width, left + width, bottom - width, colour)
        self.fill(right - width, top + width, right, bottom - width, colour)

    def paste(self, patch: Patch, left: int, top: int) -> None:
        """Put a picture on the frame."""
        right, bottom = left + patch.width_px, top + patch.height_px
        for (shown, place), plane in zip(
            self.parts(left, top, right, bottom), patch.planes, strict=True
        ):
            shown[:] = plane[place]

    def paste_darkened(self, ink: Patch, left: int, top: int, light: float) -> None:
        """Leave a part of the light of a rectangle, and draw on it what is not black.

        Parameters
        ----------
        ink
            Bright drawing on black.
        left, top
            Where it goes.
        light
            Part of the frame's own light that is left.
        """
        right, bottom = left + ink.width_px, top + ink.height_px
        found = self.parts(left, top, right, bottom)
        for (shown, place), drawn, neutral in zip(found, ink.planes, NEUTRAL, strict=True):
            if not shown.size:
                continue
            dark = cv2.convertScaleAbs(shown, alpha=light, beta=neutral * (1 - light))
            if neutral == BLACK_LEVEL:
                cv2.max(dark, np.ascontiguousarray(drawn[place]), dst=dark)
            else:
                # Both are near grey where the other is not: their deviations from it add up.
                cv2.addWeighted(dark, 1, np.ascontiguousarray(drawn[place]), 1, -neutral, dst=dark)
            shown[:] = dark
