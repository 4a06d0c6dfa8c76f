"""How training pictures are changed on the fly: as another camera or light would show them.

And as people would who do not exist: with one's brows and another's mouth.
"""

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

HALVES_STREAM = 8
"""Sets what is drawn for :func:`exchange_halves` apart from what else a step draws by its seed."""

EXCHANGED = 0.5
"""Part of the clips that show two people."""

SEAMS = (0.57, 0.69)
"""Where one face turns into the other, between eyes and mouth, as a part of a picture's height."""

SEAM_HEIGHT = 0.1
"""Part of the height within which it does. A sharp seam would be the strongest edge to be seen."""


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
        Same shape. Pixels from outside of a picture repeat its edge. Black pictures, which are
        missing ones, stay black.
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
        target[~shown(clip)] = 0
    return changed


def shown(clip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which pictures of a clip are not missing ones, which are black, shape (frame_count,)."""
    return np.array([picture.any() for picture in clip])


def exchange_halves(
    frames: NDArray[np.uint8],
    others: NDArray[np.uint8],
    seed: NDArray[np.int64],
    empty: Callable[[tuple[int, ...], type], NDArray] = np.empty,
) -> NDArray[np.uint8]:
    """Show the upper or lower half of someone else's face in some clips of a batch.

    Where others feel the same, that makes many faces of a dozen, and what is learned of brows has
    to do without knowing the mouth they came with. It is CutMix (Yun et al. 2019, "CutMix:
    regularization strategy to train strong classifiers") within an emotion.

    Parameters
    ----------
    frames
        Shape (batch, frame_count, size, size, 3).
    others
        As many clips, of the same shape.
    seed
        Two numbers that fix every choice.
    empty
        Makes the array of the result.

    Returns
    -------
    ndarray of uint8
        Same shape. What is someone else's is as light, and as rich in contrast, as the clip was.
        Pictures that either clip misses, which are black, stay the clip's own.
    """
    random = np.random.default_rng((*seed, HALVES_STREAM))
    mixed = empty(frames.shape, np.uint8)
    for clip, other, target in zip(frames, others, mixed, strict=True):
        exchanged, turned = random.random() < EXCHANGED, random.random() < 0.5
        seam = random.uniform(*SEAMS)
        both = shown(clip) & shown(other) if exchanged else np.zeros(len(clip), bool)
        if not both.all():
            target[:] = clip
        if both.any():
            # A mask copies what it selects.
            chosen = slice(None) if both.all() else both
            own, place = clip[chosen], target[chosen]
            other = like_lit(other[chosen], own)
            blend(*((other, own) if turned else (own, other)), seam, place)
            if not both.all():
                target[both] = place
    return mixed


def like_lit(other: NDArray[np.uint8], clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give one clip the mean and the standard deviation of another's grey levels."""
    size = clip.shape[-2]
    (mean, deviation), (wanted, spread) = (
        (value.item() for value in cv2.meanStdDev(pictures.reshape(-1, size)))
        for pictures in (other, clip)
    )
    gain = spread / max(deviation, 1.0)
    flat = other.reshape(-1, size)
    return cv2.addWeighted(flat, gain, flat, 0, wanted - gain * mean).reshape(other.shape)


def blend(
    upper: NDArray[np.uint8], lower: NDArray[np.uint8], seam: float, target: NDArray[np.uint8]
) -> None:
    """Turn one clip into another downwards.

    Parameters
    ----------
    upper, lower
        Shape (frame_count, size, size, 3).
    seam
        Where there is as much of both, as a part of the height.
    target
        Array of that shape for the result.
    """
    size = target.shape[1]
    heights = (np.arange(size, dtype=np.float32) + 0.5) / size
    share = np.clip((heights - seam) / SEAM_HEIGHT + 0.5, 0, 1)
    begin, end = np.searchsorted(share, 0, "right"), np.searchsorted(share, 1)
    target[:, :begin], target[:, end:] = upper[:, :begin], lower[:, end:]
    share = share[begin:end, np.newaxis, np.newaxis]
    both = upper[:, begin:end] * (1 - share) + lower[:, begin:end] * share
    target[:, begin:end] = np.rint(both)


def view_matrix(random: np.random.Generator, size_px: int) -> NDArray[np.float64]:
    """Draw the affine map of one clip's pictures, shape (2, 3)."""
    middle = (size_px - 1) / 2
    turn, zoom = random.uniform(-TURN_DEGREES, TURN_DEGREES), random.uniform(*ZOOMS)
    matrix = cv2.getRotationMatrix2D((middle, middle), turn, zoom)
    matrix[:, 2] += random.uniform(-SHIFT, SHIFT, 2) * size_px
    if random.random() < 0.5:
        matrix = matrix @ np.array([[-1, 0, size_px - 1], [0, 1, 0], [0, 0, 1]])
    return matrix
