"""The parts of a drawn face that move: brows, eyes, creases, and the head itself."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.sample import head, mouth, paint
from pipeline.sample.acting import ActionUnits
from pipeline.sample.head import CENTRE_X, EYE_Y, MOUTH_Y, NOSE_Y, Look, Portrait

JAW_DROP_PX = 40
EYE_PATCH = (70, 84)


class Pose(NamedTuple):
    """Where the head is, in shown pixels and degrees, and how large against its usual size."""

    x_px: float = 0.0
    y_px: float = 0.0
    roll_degrees: float = 0.0
    scale: float = 1.0


def draw_frame(
    portrait: Portrait, look: Look, units: ActionUnits, blink: float, gaze: float, pose: Pose
) -> np.ndarray:
    """Draw one picture.

    Parameters
    ----------
    portrait, look
        The actor; `portrait` is `head.paint_portrait(look)`.
    units
        The expression.
    blink
        How far the eyes are shut, 0 ... 1.
    gaze
        Where they look, -1 (left) ... 1 (right).
    pose
        Where the head is.

    Returns
    -------
    np.ndarray
        RGB, uint8 (360, 480, 3).
    """
    picture = portrait.texture.copy()
    _crease(picture, look, units)
    for side in (-1, 1):
        _draw_eye(picture, look, units, side, blink, gaze)
        _draw_brow(picture, look, units, side)
    mouth.draw_mouth(picture, look, units)
    if look.glasses:
        _draw_glasses(picture, look)
    # The jaw drops by stretching everything below the nose.
    chin_px = head.FACE_Y + look.half_height - NOSE_Y
    stretch = 1.0 + JAW_DROP_PX * units.jaw_open / chin_px
    picture, opacity = _stretched(picture, stretch), _stretched(portrait.opacity, stretch)
    return _place(portrait.backdrop, picture, opacity, pose)


def _stretched(layer: np.ndarray, factor: float) -> np.ndarray:
    rows = round((layer.shape[0] - NOSE_Y) * factor)
    return np.concatenate([layer[:NOSE_Y], cv2.resize(layer[NOSE_Y:], (layer.shape[1], rows))])


def _place(
    backdrop: np.ndarray, texture: np.ndarray, opacity: np.ndarray, pose: Pose
) -> np.ndarray:
    scale = head.SHOWN_SCALE * pose.scale
    # The head turns about its chin rather than its middle, as a head on a neck does.
    pivot = (CENTRE_X, head.FACE_Y + 150)
    matrix = cv2.getRotationMatrix2D(pivot, pose.roll_degrees, scale)
    shown = np.array([pivot[0], pivot[1]], float)
    usual = (shown - (CENTRE_X, head.TEXTURE_HEIGHT_PX / 2)) * head.SHOWN_SCALE
    matrix[:, 2] += usual + (head.SHOWN_X + pose.x_px, head.SHOWN_Y + pose.y_px) - shown
    # The head never leaves the middle of the picture; the rest stays as it is.
    left, right = head.HEAD_COLUMNS_PX
    matrix[0, 2] -= left
    size = (right - left, backdrop.shape[0])
    through = cv2.cvtColor(255 - cv2.warpAffine(opacity, matrix, size), cv2.COLOR_GRAY2RGB)
    picture = backdrop.copy()
    middle = picture[:, left:right]
    below = cv2.multiply(middle, through, scale=1 / 255)
    middle[:] = cv2.add(cv2.warpAffine(texture, matrix, size), below)
    return picture


def _crease(picture: np.ndarray, look: Look, units: ActionUnits) -> None:
    """Darken the folds that an expression makes, in place."""
    top, bottom = EYE_Y - 110, MOUTH_Y + 40
    left, right = CENTRE_X - 110, CENTRE_X + 110
    folds = np.zeros((bottom - top, right - left), np.uint8)
    offset = np.array([CENTRE_X - left, -top])

    def fold(level: float, *points: tuple, thickness: int = 4) -> None:
        if level > 0.04:
            shade = int(255 * min(1.0, level))
            paint.line(folds, paint.arc(*points) + offset, shade, thickness)

    raised = 0.5 * (units.inner_brow_raise + units.outer_brow_raise)
    brow_y = EYE_Y - look.brow_gap - 12 * raised
    for number in (1, 2):
        y = brow_y - 20 * number
        fold(0.7 * raised, (-62, y + 4), (0, y - 8), (62, y + 4))
    for side in (-1, 1):
        fold(
            0.6 * units.brow_lower,
            (side * 8, brow_y - 10),
            (side * 12, brow_y + 8),
            (side * 8, brow_y + 26),
        )
        for number in range(2):
            fold(
                0.9 * units.nose_wrinkle,
                (side * 5, EYE_Y + 2 + 11 * number),
                (side * 12, EYE_Y + 4 + 11 * number),
                (side * 19, EYE_Y + 14 + 11 * number),
            )
        cheek = max(units.lip_corner_pull, units.upper_lip_raise, units.nose_wrinkle)
        wing = look.nose_half_width + 4
        lift = 8 * max(units.nose_wrinkle, units.upper_lip_raise)
        fold(
            0.14 + 0.42 * cheek,
            (side * wing, NOSE_Y - 8 - lift),
            (side * (wing + 24), NOSE_Y + 8 - lift),
            (side * (look.mouth_half_width + 15), MOUTH_Y - 4),
            thickness=6,
        )
        fold(
            0.12 + 0.45 * max(units.cheek_raise, units.lid_tighten),
            (side * (look.eye_distance - 24), EYE_Y + 17),
            (side * look.eye_distance, EYE_Y + 30),
            (side * (look.eye_distance + 26), EYE_Y + 17),
        )
        fold(
            0.7 * units.lip_corner_depress,
            (side * (look.mouth_half_width + 3), MOUTH_Y + 4),
            (side * (look.mouth_half_width + 10), MOUTH_Y + 14),
            (side * (look.mouth_half_width + 7), MOUTH_Y + 28),
        )
    fold(0.8 * units.chin_raise, (-18, MOUTH_Y + 36), (0, MOUTH_Y + 28), (18, MOUTH_Y + 36))
    folds = cv2.GaussianBlur(folds, (9, 9), 0)
    keep = cv2.cvtColor(255 - cv2.convertScaleAbs(folds, alpha=0.5), cv2.COLOR_GRAY2RGB)
    region = picture[top:bottom, left:right]
    region[:] = cv2.multiply(region, keep, scale=1 / 255)


def _draw_brow(picture: np.ndarray, look: Look, units: ActionUnits, side: int) -> None:
    inner = 20 * units.inner_brow_raise - 13 * units.brow_lower - 5 * units.nose_wrinkle
    outer = 18 * units.outer_brow_raise - 4 * units.brow_lower
    middle = 0.4 * inner + 0.6 * outer + 9
    t = np.linspace(0, 1, 14)
    x = look.eye_distance - 31 - 8 * units.brow_lower + 66 * t
    lift = (1 - t) ** 2 * inner + 2 * t * (1 - t) * (1.2 * middle) + t**2 * (outer - 3)
    y = EYE_Y - look.brow_gap - lift
    half = 0.5 * look.brow_thickness * (1.15 - 0.8 * t**2)
    points = np.concatenate(
        [np.stack([x, y - half], axis=1), np.stack([x, y + half], axis=1)[::-1]]
    )
    points[:, 0] = CENTRE_X + side * points[:, 0]
    left, top = (int(value) - 8 for value in points.min(axis=0))
    right, bottom = (int(value) + 9 for value in points.max(axis=0))
    region = picture[top:bottom, left:right]
    mask = paint.filled(region.shape[:2], points - (left, top), blur_px=1.6)
    mixed = region.astype(np.float32)
    paint.blend(mixed, mask, paint.shade(look.hair, 0.8), 0.92)
    region[:] = mixed.astype(np.uint8)


def _eyeball(look: Look, gaze: float) -> np.ndarray:
    """Return the eye as if it had no lids, (70, 84, 3)."""
    rows, columns = EYE_PATCH
    patch = np.empty((rows, columns, 3), np.uint8)
    patch[:] = np.linspace(176, 240, rows)[:, np.newaxis, np.newaxis]
    centre = np.array([columns / 2 + 4 * gaze, rows / 2 - 1])
    radius = 0.5 * look.eye_half_width
    at = tuple(int(value) for value in paint.fixed(centre))
    for factor, colour in (
        (1.0, paint.shade(look.eyes, 0.45)),
        (0.86, look.eyes),
        (0.62, paint.shade(look.eyes, 1.35)),
        (0.44, (14, 12, 12)),
    ):
        cv2.circle(patch, at, int(radius * factor * 16), colour, -1, cv2.LINE_AA, 4)
    glint = tuple(int(value) for value in paint.fixed(centre - 0.36 * radius))
    cv2.circle(patch, glint, int(0.2 * radius * 16), (255, 255, 255), -1, cv2.LINE_AA, 4)
    return patch


def _draw_eye(
    picture: np.ndarray, look: Look, units: ActionUnits, side: int, blink: float, gaze: float
) -> None:
    rows, columns = EYE_PATCH
    left = round(CENTRE_X + side * look.eye_distance - columns / 2)
    top = EYE_Y - rows // 2
    region = picture[top : top + rows, left : left + columns]
    upper = look.eye_opening * (1 + 0.6 * units.upper_lid_raise - 0.3 * units.lid_tighten)
    upper *= 1 - 0.15 * units.cheek_raise
    lower = 0.62 * look.eye_opening * (1 - 0.75 * max(units.lid_tighten, units.cheek_raise))
    lower *= 1 + 0.25 * units.upper_lid_raise
    upper = upper * (1 - blink) - 0.8 * lower * blink
    t = np.linspace(-1, 1, 17)
    arch = (1 - t**2) ** 0.75
    x = columns / 2 + look.eye_half_width * t
    # The outer corner sits a little higher than the inner one.
    tilt = rows / 2 - 2.0 * side * t
    top_lid = np.stack([x, tilt - upper * arch], axis=1)
    low_lid = np.stack([x, tilt + lower * arch], axis=1)
    mask = paint.filled(region.shape[:2], np.concatenate([top_lid, low_lid[::-1]]))
    mixed = region.astype(np.float32)
    eyeball = _eyeball(look, gaze).astype(np.float32)
    # The lid throws a shadow on the eye.
    shadow = np.clip((np.arange(rows) - (rows / 2 - upper)) / 9, 0.55, 1)[:, np.newaxis, np.newaxis]
    paint.blend(mixed, mask, eyeball * shadow.astype(np.float32))
    region[:] = mixed.astype(np.uint8)
    dark = paint.shade(look.skin, 0.24)
    crease = top_lid[2:-2] - (0, 6 + 2 * units.upper_lid_raise)
    paint.line(region, crease, paint.shade(look.skin, 0.62), 2)
    paint.line(region, low_lid[2:-2], paint.shade(look.skin, 0.58), 1)
    paint.line(region, top_lid, dark, 4 if look.female else 3)
    if look.female:
        outer = top_lid[-1 if side > 0 else 0]
        paint.line(region, np.array([outer, outer + (side * 6, -4)]), dark, 3)


def _draw_glasses(picture: np.ndarray, look: Look) -> None:
    rim = (46, 42, 44)
    for side in (-1, 1):
        x = CENTRE_X + side * look.eye_distance
        at = tuple(int(value) for value in paint.fixed(np.array([x, EYE_Y + 5])))
        cv2.ellipse(picture, at, (42 * 16, 33 * 16), 0, 0, 360, rim, 4, cv2.LINE_AA, 4)
        temple = np.array([(x + side * 42, EYE_Y), (CENTRE_X + side * look.half_width, EYE_Y - 4)])
        paint.line(picture, temple, rim, 4)
    gap = look.eye_distance - 42
    paint.line(
        picture, paint.arc((-gap, EYE_Y), (0, EYE_Y - 8), (gap, EYE_Y)) + (CENTRE_X, 0), rim, 4
    )
