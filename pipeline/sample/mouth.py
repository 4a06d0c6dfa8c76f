"""The mouth of a drawn face, from pressed lips to an open jaw."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.sample import paint
from pipeline.sample.acting import ActionUnits
from pipeline.sample.head import CENTRE_X, MOUTH_Y, Look

TEETH = (238, 234, 226)
MOUTH_INSIDE = (74, 26, 28)
TONGUE = (176, 82, 84)


def draw_mouth(picture: np.ndarray, look: Look, units: ActionUnits) -> None:
    """Draw lips, teeth and tongue on the head's texture, uint8 (rows, columns, 3), in place."""
    width = look.mouth_half_width * (
        1
        + 0.20 * units.lip_corner_pull
        + 0.22 * units.lip_stretch
        - 0.06 * units.lip_press
        - 0.20 * units.jaw_open
    )
    corner = 13 * units.lip_corner_depress - 17 * units.lip_corner_pull
    corner += 4 * units.lip_stretch
    thickness = look.lip_thickness * (1 - 0.6 * units.lip_press)
    up = 2 * units.jaw_open + 9 * units.upper_lip_raise + 3 * units.lip_corner_pull
    down = 36 * units.jaw_open + 5 * units.lip_corner_pull * units.cheek_raise
    down += 6 * units.lip_stretch - 3 * units.chin_raise * (units.jaw_open < 0.2)
    down = max(down, 0.0)
    t = np.linspace(-1, 1, 29)
    x = CENTRE_X + width * t
    arch = (1 - t**2) ** 0.7
    middle = MOUTH_Y + corner * np.abs(t) ** 1.7 - 0.35 * corner - 6 * units.chin_raise * arch
    inner_top, inner_low = middle - up * arch, middle + down * arch
    cupid = 1 - 0.3 * np.exp(-((t / 0.16) ** 2))
    outer_top = inner_top - thickness * 0.85 * (1 - t**2) ** 0.85 * cupid
    outer_low = inner_low + thickness * 1.15 * (1 - np.abs(t) ** 2.4) ** 0.9

    def between(high: np.ndarray, low: np.ndarray, part: slice = slice(None)) -> np.ndarray:
        above, below = np.stack([x, high], axis=1)[part], np.stack([x, low], axis=1)[part]
        return np.concatenate([above, below[::-1]])

    paint.fill(picture, between(inner_top, inner_low), MOUTH_INSIDE)
    if up + down > 2:
        part = slice(4, 25)
        tongue = np.maximum(inner_low - 0.4 * down * arch, inner_top)
        paint.fill(picture, between(tongue, inner_low, slice(7, 22)), TONGUE)
        teeth = np.minimum(inner_top + 11 * arch, inner_low)
        paint.fill(picture, between(inner_top, teeth, part), TEETH)
    paint.fill(picture, between(outer_top, inner_top), paint.shade(look.lips, 0.88))
    paint.fill(picture, between(inner_low, outer_low), look.lips)
    shine = slice(9, 20)
    low, high = (
        inner_low + 0.35 * (outer_low - inner_low),
        inner_low + 0.6 * (outer_low - inner_low),
    )
    paint.fill(picture, between(low, high, shine), paint.shade(look.lips, 1.14))
    paint.line(picture, np.stack([x, inner_top], axis=1), paint.shade(look.lips, 0.5), 2)
    if up + down > 2:
        paint.line(picture, np.stack([x, inner_low], axis=1), paint.shade(look.lips, 0.6), 1)
    top, bottom = int(outer_top.min()) - 4, int(outer_low.max()) + 5
    region = picture[top:bottom, int(x[0]) - 4 : int(x[-1]) + 5]
    region[:] = cv2.GaussianBlur(region, (5, 5), 0)
