"""Picture to face boxes: one detector, and the square in the middle where it finds none."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

DETECTION_SIDE_PX = 240
"""Long side of the small copy that faces are searched on: no face is lost down to 200 pixels."""

PROBES = 3
"""Pictures of a window that are searched: enough to outvote a miss or a false alarm."""

SMALLEST_FACE = 0.2
"""Smallest face searched for, as a part of the picture's shorter side."""

SAME_FACE_OVERLAP = 0.3


class Box(NamedTuple):
    """A rectangle in pixels; may reach beyond the picture."""

    x: float
    y: float
    width: float
    height: float


@functools.lru_cache(maxsize=1)
def cascade(name: str) -> cv2.CascadeClassifier:
    """Load one of the cascades that come with OpenCV, once a process."""
    return cv2.CascadeClassifier(f"{cv2.data.haarcascades}{name}.xml")


def detect(picture: NDArray[np.uint8], detector: str) -> list[Box]:
    """Find upright frontal faces in a picture.

    Parameters
    ----------
    picture
        RGB, shape (height, width, 3).
    detector
        Name of a cascade of OpenCV's.

    Returns
    -------
    list of Box
        Largest first; empty if there is none.

    Notes
    -----
    Viola & Jones 2001, "Rapid object detection using a boosted cascade of simple features".
    """
    height, width = picture.shape[:2]
    scale = min(1.0, DETECTION_SIDE_PX / max(height, width))
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    smallest = round(SMALLEST_FACE * min(grey.shape))
    found = cascade(detector).detectMultiScale(
        grey, scaleFactor=1.05, minNeighbors=3, minSize=(smallest, smallest)
    )
    boxes = [Box(*(float(value) / scale for value in box)) for box in found]
    return sorted(boxes, key=lambda box: (-box.width * box.height, box))


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    shared = max(0.0, width) * max(0.0, height)
    union = first.width * first.height + second.width * second.height - shared
    return shared / union if union else 0.0


def agree(candidates: Sequence[Sequence[Box]]) -> Box | None:
    """Choose the face that most pictures show.

    Parameters
    ----------
    candidates
        The boxes found in each picture of a window.

    Returns
    -------
    Box or None
        Median of the boxes that overlap with the best-supported one (of equals, the largest);
        None if no picture shows a face.
    """
    best: list[Box] = []
    for box in (box for boxes in candidates for box in boxes):
        nearest = [
            max(boxes, key=lambda other: overlap(box, other)) for boxes in candidates if boxes
        ]
        support = [other for other in nearest if overlap(box, other) >= SAME_FACE_OVERLAP]
        areas = [
            np.median([other.width * other.height for other in group])
            for group in (support, best)
            if group
        ]
        if len(support) > len(best) or (len(support) == len(best) and areas[0] > areas[-1]):
            best = support
    return Box(*np.median(best, axis=0).tolist()) if best else None


def window_box(pictures: Sequence[NDArray[np.uint8] | None], detector: str) -> Box | None:
    """Find the face of a window from several of its pictures.

    Parameters
    ----------
    pictures
        RGB pictures of one stretch of a recording; None where it has none.
    detector
        Name of a cascade of OpenCV's.

    Returns
    -------
    Box or None
        None if none of the searched pictures shows a face.
    """
    shown = [picture for picture in pictures if picture is not None]
    if not shown:
        return None
    chosen = sorted({round(place) for place in np.linspace(0, len(shown) - 1, PROBES)})
    return agree([detect(shown[index], detector) for index in chosen])


def centred_square(height_px: int, width_px: int) -> Box:
    """Return the largest centred square of a picture, used where no face is found."""
    side = min(height_px, width_px)
    return Box((width_px - side) / 2, (height_px - side) / 2, side, side)
