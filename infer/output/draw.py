"""What is drawn on a frame: boxes, labels, and a bar for each emotion."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from infer.output.canvas import Canvas, Colour, Patch, patch_of
from infer.prediction.results import Probabilities
from infer.prediction.smooth import UNSURE
from pipeline.features.detectors import Box
from pipeline.media.video import Frame
from pipeline.spec import EMOTIONS

COLOURS: dict[str, Colour] = {
    "neutral": (200, 200, 200),
    "calm": (120, 200, 170),
    "happy": (255, 205, 60),
    "sad": (90, 140, 235),
    "angry": (235, 70, 60),
    "fearful": (175, 110, 230),
    "disgust": (140, 180, 60),
    "surprised": (255, 140, 50),
    UNSURE: (150, 150, 150),
}

TRACK_COLOURS: tuple[Colour, ...] = (
    (235, 235, 235),
    (0, 190, 255),
    (255, 120, 190),
    (120, 230, 90),
    (255, 170, 0),
    (170, 140, 255),
)
"""Of the boxes of faces, in turn."""

FONT = cv2.FONT_HERSHEY_DUPLEX
INK: Colour = (20, 20, 20)
PANEL_LIGHT = 0.35
"""Part of the frame's light that is left under the bars."""


@dataclass(frozen=True)
class Shown:
    """What is shown of one face at one moment.

    Parameters
    ----------
    track
        Its number; None for an answer without a face.
    box
        In pixels of the frame; None for an answer without a face.
    confidence
        How sure the detector is of the face, in [0, 1].
    label, probabilities
        The answer: an emotion or ``"unsure"``, and float32 (8,).
    """

    track: int | None
    box: Box | None
    confidence: float
    label: str
    probabilities: Probabilities

    @property
    def text(self) -> str:
        """The label with its probability."""
        if self.label == UNSURE:
            return UNSURE
        return f"{self.label} {100 * self.probabilities[EMOTIONS.index(self.label)]:.0f} %"


def draw(frame: Frame, shown: Sequence[Shown], several: bool = False) -> None:
    """Draw answers on a frame.

    Parameters
    ----------
    frame
        yuv420p of even sides. What is not drawn on stays as it is, to the bit.
    shown
        The answers; the bars are those of the largest face. Nothing is drawn where there is none.
    several
        Whether the recording shows several faces: labels then begin with their numbers.
    """
    if not shown:
        return
    canvas = Canvas(frame)
    unit = min(canvas.height_px, canvas.width_px * 9 / 16) / 360
    main = max(shown, key=lambda answer: answer.box.width if answer.box else 0.0)
    bars = bars_patch(tuple(main.probabilities.round(3).tolist()), unit)
    canvas.paste_darkened(bars, 0, canvas.height_px - bars.height_px, PANEL_LIGHT)
    for answer in shown:
        corner = (round(10 * unit), round(30 * unit))
        if answer.box is not None and answer.track is not None:
            x, y, width, height = answer.box
            left, top = max(0, round(x)), max(0, round(y))
            right = min(canvas.width_px, round(x + width))
            bottom = min(canvas.height_px, round(y + height))
            colour = TRACK_COLOURS[(answer.track - 1) % len(TRACK_COLOURS)]
            canvas.outline(left, top, right, bottom, 2 * max(1, round(unit)), colour)
            sure = label_patch(
                f"face {100 * answer.confidence:.0f} %", colour, round(0.6 * unit, 2)
            )
            place_label(canvas, sure, left, bottom + sure.height_px)
            corner = (left, top)
        name = f"{answer.track}: {answer.text}" if several and answer.track else answer.text
        place_label(canvas, label_patch(name, COLOURS[answer.label], unit), *corner)


def place_label(canvas: Canvas, label: Patch, left: int, bottom: int) -> None:
    """Put a label where its lower left corner is given, kept in the frame."""
    left = min(max(0, left), max(0, canvas.width_px - label.width_px))
    top = min(max(0, bottom - label.height_px), max(0, canvas.height_px - label.height_px))
    canvas.paste(label, left, top)


@functools.lru_cache(maxsize=256)
def label_patch(text: str, colour: Colour, unit: float) -> Patch:
    """Write dark text on a coloured plate."""
    scale, thickness = 0.62 * unit, max(1, round(unit))
    (text_width, text_height), base = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(2, round(4 * unit))
    height, width = text_height + base + 2 * pad, text_width + 2 * pad
    plate = np.empty((height + height % 2, width + width % 2, 3), np.uint8)
    plate[:] = colour
    cv2.putText(plate, text, (pad, pad + text_height), FONT, scale, INK, thickness, cv2.LINE_AA)
    return patch_of(plate)


@functools.lru_cache(maxsize=8)
def bars_patch(probabilities: tuple[float, ...], unit: float) -> Patch:
    """Draw the bars and their names on black."""
    line, name_width, bar_width = round(15 * unit), round(72 * unit), round(70 * unit)
    pad = max(2, round(6 * unit))
    height, width = len(EMOTIONS) * line + 2 * pad, 2 * pad + name_width + bar_width
    ink = np.zeros((height + height % 2, width + width % 2, 3), np.uint8)
    for number, (name, value) in enumerate(zip(EMOTIONS, probabilities, strict=True)):
        base = pad + (number + 1) * line - round(4 * unit)
        thickness, white = max(1, round(0.6 * unit)), (235, 235, 235)
        cv2.putText(ink, name, (pad, base), FONT, 0.38 * unit, white, thickness, cv2.LINE_AA)
        left = pad + name_width
        right = left + max(1, round(value * bar_width))
        top = base - round(8 * unit)
        cv2.rectangle(ink, (left, top), (right, base), COLOURS[name], cv2.FILLED)
    return patch_of(ink)
