"""How training pictures are changed on the fly: as another camera or light would show them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

BRIGHTNESS_SHIFT = 25.0
"""Largest change of light, in grey levels of 255."""

SHIFT = 0.03
"""Largest move of the pictures, as a part of their side."""

ZOOMS = (0.96, 1.04)
TURN_DEGREES = 2.0


def change_view(
    frames: NDArray[np.uint8],
    seed: NDArray[np.int64],
    empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
) -> NDArray[np.uint8]:
    """Turn, move, resize, mirror and light each clip of a batch, all its pictures alike.

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
    """
    random = np.random.default_rng(seed)
    size = frames.shape[2]
    changed = empty(frames.shape, np.uint8)
    for clip, target in zip(frames, changed, strict=True):
        matrix = view_matrix(random, size)
        light = random.uniform(-BRIGHTNESS_SHIFT, BRIGHTNESS_SHIFT)
        for picture, place in zip(clip, target, strict=True):
            cv2.warpAffine(picture, matrix, (size, size), place, borderMode=cv2.BORDER_REPLICATE)
        flat = target.reshape(-1, size)
        (cv2.add if light > 0 else cv2.subtract)(flat, abs(light), flat)
    return changed


def view_matrix(random: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw the affine map of one clip's pictures, shape (2, 3)."""
    middle = (size_px - 1) / 2
    turn, zoom = random.uniform(-TURN_DEGREES, TURN_DEGREES), random.uniform(*ZOOMS)
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += random.uniform(-SHIFT, SHIFT, 2) * size_px
    if random.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, size_px - 1], [0, 1, 0], [0, 0, 1]])
    return matrix
