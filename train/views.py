"""How training pictures are changed on the fly: as other cameras, lights and faces would look."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

SHIFT = 0.04
"""Largest move of the pictures, as a part of their side."""

ZOOM = 0.06
TURN_DEGREES = 3.0

WARP = 0.025
"""Standard deviation of how far parts of a face are moved against each other, as a part of the
side: no two faces have the same proportions."""

WARP_POINTS = 4
"""Places a side that move on their own; what lies between them follows smoothly."""

BRIGHTNESS = 25.0
"""Largest change of light, in grey levels of 255."""

CONTRAST = 0.25
"""Largest change of the logarithm of the contrast."""

COVERED_PART = 0.4
"""Part of the clips of which a rectangle is covered."""

COVER_SIDES = (0.15, 0.4)
"""Smallest and largest side of that rectangle, as a part of the picture's."""


def change_view(
    frames: NDArray[np.uint8],
    seed: NDArray[np.int64],
    empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
) -> NDArray[np.uint8]:
    """Turn, move, resize, mirror, bend, light and cover each clip, all its pictures alike.

    Parameters
    ----------
    frames
        Shape (batch, frame_count, size, size, 3).
    seed
        Two numbers that fix every choice.
    empty
        Makes the array of the result.

    Returns
    -------
    ndarray of uint8
        Same shape. Pixels from outside of a picture repeat its edge.

    Notes
    -----
    The cover is that of DeVries & Taylor 2017, "Improved regularization of convolutional neural
    networks with cutout", for some of the clips.
    """
    random = np.random.default_rng(seed)
    size = frames.shape[2]
    changed = empty(frames.shape, np.uint8)
    for clip, target in zip(frames, changed, strict=True):
        places = cv2.convertMaps(*source_places(random, size), cv2.CV_16SC2)
        for picture, place in zip(clip, target, strict=True):
            cv2.remap(picture, *places, cv2.INTER_LINEAR, place, borderMode=cv2.BORDER_REPLICATE)
        grey = float(clip[0].mean())
        flat = target.reshape(-1, size)
        cv2.LUT(flat, light_table(random, grey), flat)
        if random.random() < COVERED_PART:
            height, width = (random.uniform(*COVER_SIDES, 2) * size).astype(int)
            top, left = random.integers(0, size - height), random.integers(0, size - width)
            target[:, top : top + height, left : left + width] = round(grey)
    return changed


def source_places(
    random: np.random.Generator, size_px: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw where in a clip's pictures each changed pixel comes from: x and y, (size, size) each."""
    middle = (size_px - 1) / 2
    turn, zoom = np.deg2rad(random.uniform(-TURN_DEGREES, TURN_DEGREES)), 1.0
    zoom += random.uniform(-ZOOM, ZOOM)
    matrix = zoom * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if random.random() < 0.5:
        matrix[:, 0] *= -1
    offsets = np.mgrid[:size_px, :size_px][::-1].reshape(2, -1) - middle
    moved = middle + size_px * random.uniform(-SHIFT, SHIFT, (2, 1))
    affine = (matrix @ offsets + moved).reshape(2, size_px, size_px)
    bent = random.normal(0, WARP * size_px, (WARP_POINTS, WARP_POINTS, 2))
    bent = cv2.resize(bent, (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    x, y = (affine + bent.transpose(2, 0, 1)).astype(np.float32)
    return x, y


def light_table(random: np.random.Generator, grey: float) -> NDArray[np.uint8]:
    """Draw what becomes of each of 256 levels, shape (256,); contrast changes about ``grey``."""
    gain = np.exp(random.uniform(-CONTRAST, CONTRAST))
    light = random.uniform(-BRIGHTNESS, BRIGHTNESS)
    return np.clip((np.arange(256) - grey) * gain + grey + light, 0, 255).astype(np.uint8)
