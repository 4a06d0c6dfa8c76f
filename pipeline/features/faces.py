"""Frames of a window to the square that is cut out of each: one face, in one place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.features import detectors
from pipeline.features.detectors import Box
from pipeline.spec import FeatureSpec


def window_square(frames: Sequence[NDArray[np.uint8] | None], spec: FeatureSpec) -> Box | None:
    """Find the face of a window from several of its frames.

    Parameters
    ----------
    frames
        RGB frames of one stretch of a recording; None where it has none.
    spec
        Gives the detector, how many frames it searches, and its square.

    Returns
    -------
    Box or None
        The square to cut out, which may reach beyond the frame; None if none of the searched
        frames shows a face.
    """
    shown = [frame for frame in frames if frame is not None]
    if not shown:
        return None
    candidates = [
        [face.box for face in detectors.detect(shown[place], spec)]
        for place in probe_places(len(shown), spec)
    ]
    box = agreed_box(candidates, spec.face.same_face_overlap)
    return box and square_of(box, spec)


def probe_places(count: int, spec: FeatureSpec) -> list[int]:
    """Places of the frames that are searched, of so many."""
    return sorted({round(place) for place in np.linspace(0, count - 1, spec.face.probes)})


def agreed_box(candidates: Sequence[Sequence[Box]], same_face_overlap: float) -> Box | None:
    """Choose the face that most frames show.

    Parameters
    ----------
    candidates
        The boxes found in each frame.
    same_face_overlap
        Boxes that overlap by this much show one face.

    Returns
    -------
    Box or None
        Median of the boxes that overlap with the best-supported one (of equals, the largest);
        None if no frame shows a face.
    """
    best: list[Box] = []
    for box in (box for boxes in candidates for box in boxes):
        nearest = [
            max(boxes, key=lambda other: overlap(box, other)) for boxes in candidates if boxes
        ]
        support = [other for other in nearest if overlap(box, other) >= same_face_overlap]
        areas = [
            np.median([other.width * other.height for other in group])
            for group in (support, best)
            if group
        ]
        if len(support) > len(best) or (len(support) == len(best) and areas[0] > areas[-1]):
            best = support
    return Box(*np.median(best, axis=0).tolist()) if best else None


def overlap(first: Box, second: Box) -> float:
    """Intersection over union of two boxes, in [0, 1]."""
    width = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    height = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    shared = max(0.0, width) * max(0.0, height)
    union = first.width * first.height + second.width * second.height - shared
    return shared / union if union else 0.0


def square_of(box: Box, spec: FeatureSpec) -> Box:
    """Return the square around a face, which is the same for the box of any detector."""
    square = spec.face.square(spec.detector)
    side = square.side * box.height
    middle = box.x + box.width / 2, box.y + box.height * (0.5 + square.down)
    return Box(middle[0] - side / 2, middle[1] - side / 2, side, side)


def centred_square(height_px: int, width_px: int) -> Box:
    """Return the largest centred square of a frame, used where no face is found."""
    side = min(height_px, width_px)
    return Box((width_px - side) / 2, (height_px - side) / 2, side, side)
