"""Picture to face boxes: one detector, and the square in the middle where it finds none."""

from __future__ import annotations

import threading
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

NEAR_MARGIN = 0.2
"""How far around a known face it is looked for again, as a part of the face's sides."""

NEAR_SIZES = (0.8, 1.25)
"""Smallest and largest size a known face may have become."""


class Box(NamedTuple):
    """A rectangle in pixels; may reach beyond the picture."""

    x: float
    y: float
    width: float
    height: float


loaded = threading.local()


def cascade(name: str) -> cv2.CascadeClassifier:
    """Load one of the cascades that come with OpenCV, once a thread: it is not safe to share."""
    if getattr(loaded, "name", None) != name:
        loaded.classifier = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{name}.xml")
        loaded.name = name
    return loaded.classifier


def detect(picture: NDArray[np.uint8], detector: str, near: Box | None = None) -> list[Box]:
    """Find upright frontal faces in a picture.

    Parameters
    ----------
    picture
        RGB, shape (height, width, 3), or grey, shape (height, width).
    detector
        Name of a cascade of OpenCV's.
    near
        A face of a moment ago. It is looked for around there first, at a quarter of the cost;
        the whole picture is searched where it is gone, and where this is None.

    Returns
    -------
    list of Box
        Largest first; empty if there is none.

    Notes
    -----
    Viola & Jones 2001, "Rapid object detection using a boosted cascade of simple features".
    """
    scale = min(1.0, DETECTION_SIDE_PX / max(picture.shape[:2]))
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    found = np.zeros((0, 4))
    if near is not None:
        found = search_near(grey, detector, Box(*(side * scale for side in near)))
    if not len(found):
        smallest = round(SMALLEST_FACE * min(grey.shape))
        found = search(grey, detector, smallest, max(grey.shape))
    boxes = [Box(*(float(value) / scale for value in box)) for box in found]
    return sorted(boxes, key=lambda box: (-box.width * box.height, box))


def search(
    grey: NDArray[np.uint8], detector: str, smallest_px: int, largest_px: int
) -> NDArray[np.float64]:
    """Search a grey picture for faces of some sizes, shape (faces, 4)."""
    found = cascade(detector).detectMultiScale(
        grey,
        scaleFactor=1.05,
        minNeighbors=3,
        minSize=(smallest_px, smallest_px),
        maxSize=(largest_px, largest_px),
    )
    return np.array(found, float).reshape(-1, 4)


def search_near(grey: NDArray[np.uint8], detector: str, face: Box) -> NDArray[np.float64]:
    """Search the surroundings of a face for it, shape (faces, 4)."""
    left, top = (
        max(0, round(place - NEAR_MARGIN * side))
        for place, side in ((face.x, face.width), (face.y, face.height))
    )
    right, bottom = (
        round(place + (1 + NEAR_MARGIN) * side)
        for place, side in ((face.x, face.width), (face.y, face.height))
    )
    around = grey[top:bottom, left:right]
    if not around.size:
        return np.zeros((0, 4))
    sizes = (round(part * face.width) for part in NEAR_SIZES)
    return search(np.ascontiguousarray(around), detector, *sizes) + (left, top, 0, 0)


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
    candidates: list[list[Box]] = []
    for index in sorted({round(place) for place in np.linspace(0, len(shown) - 1, PROBES)}):
        last = candidates[-1] if candidates else []
        # Where several faces are in sight, each picture is searched for all of them.
        candidates.append(detect(shown[index], detector, last[0] if len(last) == 1 else None))
    return agree(candidates)


def centred_square(height_px: int, width_px: int) -> Box:
    """Return the largest centred square of a picture, used where no face is found."""
    side = min(height_px, width_px)
    return Box((width_px - side) / 2, (height_px - side) / 2, side, side)
