"""Brushes: anti-aliased shapes on arrays, with corners between pixels."""

from __future__ import annotations

import cv2
import numpy as np

FAINT = 0.004


def blend(image: np.ndarray, mask: np.ndarray, colour: object, opacity: float = 1.0) -> None:
    """Lay a colour, or a picture of the same size, over `image` (rows, columns, 3) in place.

    `mask` is float (rows, columns) in [0, 1] and `image` float.
    """
    # Most masks are small or fade out: only their bounding box is worth the work.
    rows = np.flatnonzero(mask.max(axis=1) > FAINT)
    columns = np.flatnonzero(mask.max(axis=0) > FAINT)
    if not len(rows):
        return
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    colour = np.asarray(colour, np.float32)
    part = colour[box] if colour.ndim == 3 else colour
    image[box] += (opacity * mask[box])[..., np.newaxis] * (part - image[box])


def filled(
    shape: tuple[int, int], points: np.ndarray, blur_px: float = 0.0, level: int = 255
) -> np.ndarray:
    """Return an anti-aliased polygon as a float mask (rows, columns) in [0, 1]."""
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [fixed(points)], level, cv2.LINE_AA, 4)
    if blur_px:
        mask = cv2.GaussianBlur(mask, (0, 0), blur_px)
    return mask.astype(np.float32) / 255


def spot(shape: tuple[int, int], x: float, y: float, x_px: float, y_px: float) -> np.ndarray:
    """Return a soft spot as a float mask (rows, columns); `x_px`, `y_px` are its deviations."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    distance = ((columns - x) / x_px) ** 2 + ((rows - y) / y_px) ** 2
    return np.exp(-0.5 * distance).astype(np.float32)


def ellipse(x: float, y: float, x_px: float, y_px: float) -> np.ndarray:
    """Return an ellipse's outline with half axes `x_px` and `y_px`, (72, 2)."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([x + x_px * np.cos(angle), y + y_px * np.sin(angle)], axis=1)


def fixed(points: np.ndarray) -> np.ndarray:
    """Return points in sixteenths of a pixel, OpenCV's unit for drawing between pixels."""
    return np.round(points * 16).astype(np.int32)


def fill(picture: np.ndarray, points: np.ndarray, colour: tuple) -> None:
    """Fill a polygon (points, 2) of `picture`, uint8, in place."""
    cv2.fillPoly(picture, [fixed(points)], colour, cv2.LINE_AA, 4)


def line(picture: np.ndarray, points: np.ndarray, colour: object, thickness: int) -> None:
    """Draw an open line through (points, 2) on `picture`, uint8, in place."""
    cv2.polylines(picture, [fixed(points)], False, colour, thickness, cv2.LINE_AA, 4)


def shade(colour: tuple, factor: float) -> tuple[int, int, int]:
    """Return a colour made darker (below 1) or lighter."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def arc(start: tuple, bend: tuple, end: tuple) -> np.ndarray:
    """Return a quadratic Bezier curve, (12, 2)."""
    t = np.linspace(0, 1, 12)[:, np.newaxis]
    first, middle, last = np.asarray(start), np.asarray(bend), np.asarray(end)
    return (1 - t) ** 2 * first + 2 * t * (1 - t) * middle + t**2 * last
