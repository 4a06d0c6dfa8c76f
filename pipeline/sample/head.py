"""What stays of an actor's portrait from frame to frame: background, shoulders, hair and skin.

The head is painted once, at twice the size it is shown in, on a texture with an opacity;
`face.py` adds the features that move. Coordinates are pixels of that texture unless said otherwise.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.sample import paint

WIDTH_PX, HEIGHT_PX = 480, 360
TEXTURE_WIDTH_PX, TEXTURE_HEIGHT_PX = 440, 580
CENTRE_X, EYE_Y, NOSE_Y, MOUTH_Y = 220, 262, 352, 404
FACE_Y = 292
SHOWN_SCALE = 0.6
SHOWN_X, SHOWN_Y = 240.0, 178.0
HEAD_COLUMNS_PX = (90, 390)

SKINS = ((246, 215, 192), (236, 196, 166), (222, 176, 142), (198, 150, 116), (168, 118, 88))
HAIRS = ((38, 28, 24), (66, 44, 30), (104, 70, 42), (150, 110, 62), (196, 158, 98), (112, 52, 32))
EYES = ((84, 58, 36), (58, 40, 28), (66, 104, 142), (82, 116, 86), (104, 112, 120))


@dataclass(frozen=True)
class Look:
    """An actor's colours (RGB, 0 ... 255) and proportions."""

    female: bool
    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    eyes: tuple[int, int, int]
    lips: tuple[int, int, int]
    shirt: tuple[int, int, int]
    backdrop: tuple[int, int, int]
    half_width: float
    half_height: float
    jaw: float
    eye_distance: float
    eye_half_width: float
    eye_opening: float
    brow_gap: float
    brow_thickness: float
    nose_half_width: float
    mouth_half_width: float
    lip_thickness: float
    hairline: float
    long_hair: bool
    beard: float
    glasses: bool
    seed: int


class Portrait(NamedTuple):
    """The still picture (height, width, 3), and the head to lay over it: colours, opacity."""

    backdrop: np.ndarray
    texture: np.ndarray
    opacity: np.ndarray


def draw_look(female: bool, rng: np.random.Generator) -> Look:
    """Return a random appearance."""
    tone = rng.integers(len(SKINS))
    skin = np.array(SKINS[tone]) + rng.integers(-6, 7)
    lips = skin * (0.86, 0.60, 0.62) if female else skin * (0.84, 0.68, 0.66)
    hue = np.array([[[rng.integers(180), rng.integers(40, 110), rng.integers(120, 190)]]], np.uint8)
    wall = np.array([[[rng.integers(180), rng.integers(15, 50), rng.integers(165, 215)]]], np.uint8)
    return Look(
        female=female,
        skin=_colour(skin),
        hair=HAIRS[rng.integers(len(HAIRS) if tone < 3 else 3)],
        eyes=EYES[rng.integers(len(EYES) if tone < 3 else 2)],
        lips=_colour(lips),
        shirt=_colour(cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0]),
        backdrop=_colour(cv2.cvtColor(wall, cv2.COLOR_HSV2RGB)[0, 0]),
        half_width=rng.uniform(130, 140) + (0 if female else 6),
        half_height=rng.uniform(168, 182),
        jaw=rng.uniform(0.60, 0.70) if female else rng.uniform(0.70, 0.82),
        eye_distance=rng.uniform(53, 60),
        eye_half_width=rng.uniform(26, 30) + (2 if female else 0),
        eye_opening=rng.uniform(11, 13.5) + (1 if female else 0),
        brow_gap=rng.uniform(35, 41),
        brow_thickness=rng.uniform(5, 7) if female else rng.uniform(8, 11),
        nose_half_width=rng.uniform(22, 28) + (0 if female else 4),
        mouth_half_width=rng.uniform(47, 56),
        lip_thickness=rng.uniform(11, 14) if female else rng.uniform(8, 11),
        hairline=rng.uniform(0.70, 0.82),
        long_hair=bool(female and rng.random() < 0.8),
        beard=0.0 if female or rng.random() < 0.55 else rng.uniform(0.25, 0.7),
        glasses=bool(rng.random() < 0.2),
        seed=int(rng.integers(2**31)),
    )


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def face_outline(look: Look, grow: float = 1.0) -> np.ndarray:
    """Return the head's outline, narrower towards the chin, (points, 2)."""
    angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    down = np.clip(np.sin(angle), 0, 1)
    x = look.half_width * np.cos(angle) * (1 - (1 - look.jaw) * down**1.6)
    x *= 1 + 0.16 * look.jaw * np.sin(angle * 2) ** 2 * (down > 0)
    # Above the eyes the skull is squarer than an ellipse.
    x = np.where(down > 0, x, np.sign(x) * look.half_width * np.abs(np.cos(angle)) ** 0.86)
    y = look.half_height * np.sin(angle)
    return np.stack([CENTRE_X + grow * x, FACE_Y + grow * y], axis=1)


def _streaks(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return strands of hair as brightness around 1, (rows, columns, 1)."""
    noise = rng.normal(0, 1, (5, shape[1] // 4)).astype(np.float32)
    strands = cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return (1 + 0.14 * strands)[..., np.newaxis]


@functools.lru_cache(maxsize=4)
def paint_portrait(look: Look) -> Portrait:
    """Paint what does not move; all uint8, the head's colours premultiplied by its opacity."""
    rng = np.random.default_rng(look.seed)
    return Portrait(_paint_backdrop(look, rng), *_paint_head(look, rng))


def _paint_backdrop(look: Look, rng: np.random.Generator) -> np.ndarray:
    shape = (HEIGHT_PX, WIDTH_PX)
    rows = np.linspace(1.08, 0.72, HEIGHT_PX, dtype=np.float32)[:, np.newaxis, np.newaxis]
    picture = np.asarray(look.backdrop, np.float32) * rows * np.ones((*shape, 1), np.float32)
    paint.blend(picture, paint.spot(shape, 150, 110, 150, 120), (255, 255, 250), 0.28)
    if look.long_hair:
        side = np.array([(50, 66), (80, 92), (98, 165), (106, 250), (96, 320), (62, 350)], float)
        points = np.concatenate([side, side[::-1] * (-1, 1)]) + (240, 0)
        hair = np.asarray(look.hair, np.float32) * 0.72 * _streaks(shape, rng)
        paint.blend(picture, paint.filled(shape, points, 5), hair)
    skin = np.asarray(look.skin, np.float32)
    neck = 44 if look.female else 56
    chin_y = SHOWN_Y + (FACE_Y + look.half_height - TEXTURE_HEIGHT_PX / 2) * SHOWN_SCALE
    points = np.array([(-neck, 220), (neck, 220), (neck + 8, 350), (-neck - 8, 350)]) + (240, 0)
    paint.blend(picture, paint.filled(shape, points.astype(float), 1), skin * 0.84)
    paint.blend(
        picture,
        paint.spot(shape, 240, chin_y, 70, 24) * paint.filled(shape, points, 1),
        skin * 0.52,
        0.8,
    )
    side = np.array(
        [(0, 344), (30, 341), (54, 330), (68, 316), (100, 322), (145, 334), (180, 347), (200, 361)],
        float,
    )
    if look.female:
        side[:, 0] *= 0.88
    points = np.concatenate([side, side[::-1] * (-1, 1)]) + (240, 0)
    falloff = np.linspace(1.15, 0.75, WIDTH_PX, dtype=np.float32)[np.newaxis, :, np.newaxis]
    shirt = np.broadcast_to(np.asarray(look.shirt, np.float32) * falloff, picture.shape)
    paint.blend(picture, paint.filled(shape, points, 1), shirt)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _paint_head(look: Look, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    shape = (TEXTURE_HEIGHT_PX, TEXTURE_WIDTH_PX)
    skin = np.asarray(look.skin, np.float32)
    picture = np.empty((*shape, 3), np.float32)
    picture[:] = skin
    face = paint.filled(shape, face_outline(look), 1)
    alpha = face.copy()
    for side in (-1, 1):
        ear_x = CENTRE_X + side * (look.half_width + 2)
        ear = paint.filled(shape, paint.ellipse(ear_x, EYE_Y + 34, 17, 38), 1.2)
        paint.blend(picture, ear * (1 - face), skin * (0.86, 0.78, 0.76))
        inner = paint.filled(shape, paint.ellipse(ear_x + side * 3, EYE_Y + 34, 8, 24), 4)
        paint.blend(picture, inner * (1 - face), skin * 0.6, 0.6)
        alpha = np.maximum(alpha, ear)
    _shade_skin(look, picture, face)

    # The cap of hair is a larger head without the face's opening.
    cap = paint.filled(shape, face_outline(look, 1.09) - (0, 14), 1.5)
    reach = look.half_height * look.hairline + 46
    opening = paint.ellipse(CENTRE_X, FACE_Y + 46, look.half_width * 1.02, reach)
    cap = cap * (1 - paint.filled(shape, opening, 4))
    cap[EYE_Y + (60 if look.female else 4) :] = 0
    cap = cv2.GaussianBlur(cap, (0, 0), 2)
    hair = np.asarray(look.hair, np.float32) * _streaks(shape, rng)
    gloss = paint.spot(shape, CENTRE_X - 40, FACE_Y - look.half_height + 12, 70, 22)[
        ..., np.newaxis
    ]
    paint.blend(picture, cap, hair * (1 + 0.22 * gloss) + 22 * gloss)
    alpha = np.maximum(alpha, cap)
    picture = np.clip(picture, 0, 255) * alpha[..., np.newaxis]
    return np.round(picture).astype(np.uint8), np.round(alpha * 255).astype(np.uint8)


def _shade_skin(look: Look, picture: np.ndarray, face: np.ndarray) -> None:
    """Light from the upper left, hollows around the eyes, cheeks, nose and chin; in place."""
    shape, skin = picture.shape[:2], np.asarray(look.skin, np.float32)
    light, shadow, blush = skin * 1.12 + 8, skin * (0.66, 0.57, 0.54), skin * (1.0, 0.74, 0.72)
    rim = 1 - paint.filled(shape, face_outline(look, 0.93), 24)
    paint.blend(picture, rim * face, shadow, 0.75)
    slope = np.linspace(0, 1, shape[1], dtype=np.float32)[np.newaxis] * face
    paint.blend(picture, slope, shadow, 0.28)
    paint.blend(picture, paint.spot(shape, CENTRE_X - 26, FACE_Y - 90, 74, 44) * face, light, 0.45)
    for side in (-1, 1):
        x = CENTRE_X + side * look.eye_distance
        paint.blend(picture, paint.spot(shape, x, EYE_Y - 8, 36, 19), shadow, 0.55)
        paint.blend(picture, paint.spot(shape, x + side * 16, EYE_Y + 66, 36, 30), blush, 0.4)
        paint.blend(picture, paint.spot(shape, x + side * 8, EYE_Y + 46, 30, 15), light, 0.45)
        wing = CENTRE_X + side * look.nose_half_width
        paint.blend(picture, paint.spot(shape, wing, NOSE_Y - 6, 8, 11), shadow, 0.5)
        nostril = paint.ellipse(CENTRE_X + side * look.nose_half_width * 0.5, NOSE_Y + 5, 7.5, 4)
        paint.blend(picture, paint.filled(shape, nostril, 1.5), shadow * 0.45, 0.85)
    bridge = np.array(
        [(6, EYE_Y - 20), (14, EYE_Y + 6), (18, NOSE_Y - 14), (30, NOSE_Y - 4)], float
    )
    paint.blend(
        picture, paint.filled(shape, bridge[[0, 1, 2, 3, 2]] + (CENTRE_X, 0), 6), shadow, 0.8
    )
    paint.blend(picture, paint.spot(shape, CENTRE_X - 3, EYE_Y + 34, 8, 44), light, 0.6)
    paint.blend(picture, paint.spot(shape, CENTRE_X - 4, NOSE_Y - 14, 11, 9), light, 0.6)
    paint.blend(
        picture, paint.spot(shape, CENTRE_X + 2, NOSE_Y + 12, look.nose_half_width, 6), shadow, 0.55
    )
    paint.blend(picture, paint.spot(shape, CENTRE_X, MOUTH_Y + 28, 26, 7), shadow, 0.4)
    paint.blend(picture, paint.spot(shape, CENTRE_X - 4, MOUTH_Y + 48, 24, 14), light, 0.3)
    if look.beard:
        outer = paint.filled(shape, face_outline(look, 1.0), 3)
        rows = np.arange(shape[0], dtype=np.float32)[:, np.newaxis]
        columns = np.abs(np.arange(shape[1], dtype=np.float32)[np.newaxis] - CENTRE_X)
        edge = NOSE_Y + 66 - 100 * np.clip(columns / look.half_width - 0.42, 0, 1)
        lower = np.clip((rows - edge) / 14, 0, 1)
        lip = paint.filled(shape, paint.ellipse(CENTRE_X, NOSE_Y + 32, 58, 13), 5)
        paint.blend(
            picture, np.maximum(lower, lip) * outer, np.asarray(look.hair) * 1.05, look.beard
        )
