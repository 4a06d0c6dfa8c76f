"""Boxes, labels and bars on pictures, and the annotated video with its sound."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from infer.ahead import ahead
from infer.answers import UNSURE, Prediction, named
from infer.recording import Recording
from pipeline import decode_pictures, decode_sound, encode, faces
from pipeline.faces import Box
from pipeline.progress import bar as progress_bar
from pipeline.spec import EMOTIONS

COLOURS = {
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
"""RGB."""

FONT = cv2.FONT_HERSHEY_DUPLEX
SMALLEST_HEIGHT_PX = 360
"""Smaller pictures are enlarged, so that the labels can be read."""

LARGEST_SIDE_PX = 1920
"""Larger pictures are scaled down to this."""

PRESET, CRF = "ultrafast", 23
"""x264's settings for the annotated video: its default quality, five times faster than
``veryfast``."""

DETECTION_SECONDS = 0.25
"""Faces are searched this often; in between the box moves evenly."""

WHOLE_SEARCH_SECONDS = 2.0
"""A face is looked for around its last place for so long, then in the whole picture again: a larger
one may have come, or the first was none."""

PICTURES_AHEAD = 8
"""Pictures decoded before they are drawn; each is held as RGB."""

PANEL_LIGHT = 0.35
"""Part of the picture's light that is left under the bars."""

BLANK_SIZE_PX = (360, 640)
BLANK_FRAME_RATE = 25


def draw(
    picture: NDArray[np.uint8],
    box: Box | None,
    probabilities: NDArray[np.float32],
    min_confidence: float = 0.0,
) -> NDArray[np.uint8]:
    """Draw the answer on a picture.

    Parameters
    ----------
    picture
        RGB, shape (height, width, 3).
    box
        The face in pixels; None draws the label without a box.
    probabilities
        Shape (8,), one for each emotion.
    min_confidence
        An answer that is less probable is drawn as ``UNSURE``.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        A copy with the face's box, the label with its probability, and a bar for each emotion.
    """
    canvas = picture.copy()
    height, width = canvas.shape[:2]
    unit = min(height, width * 9 / 16) / 360
    draw_bars(canvas, probabilities, unit)
    emotion = named(probabilities, min_confidence)
    text = emotion if emotion == UNSURE else f"{emotion} {100 * probabilities.max():.0f} %"
    colour = COLOURS[emotion]
    corner = (round(10 * unit), round(30 * unit))
    if box is not None:
        left, top = max(0, round(box.x)), max(0, round(box.y))
        right = min(width - 1, round(box.x + box.width))
        bottom = min(height - 1, round(box.y + box.height))
        cv2.rectangle(
            canvas, (left, top), (right, bottom), colour, max(1, round(2 * unit)), cv2.LINE_AA
        )
        corner = (left, top)
    draw_label(canvas, text, corner, colour, unit)
    return canvas


def draw_label(
    canvas: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple, unit: float
) -> None:
    """Write dark text on a coloured plate whose lower left corner is given, kept in the picture."""
    scale, thickness = 0.62 * unit, max(1, round(unit))
    (text_width, text_height), base = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(2, round(4 * unit))
    plate_width, plate_height = text_width + 2 * pad, text_height + base + 2 * pad
    left = min(max(0, corner[0]), max(0, canvas.shape[1] - plate_width))
    top = min(max(0, corner[1] - plate_height), max(0, canvas.shape[0] - plate_height))
    cv2.rectangle(canvas, (left, top), (left + plate_width, top + plate_height), colour, cv2.FILLED)
    cv2.putText(
        canvas,
        text,
        (left + pad, top + pad + text_height),
        FONT,
        scale,
        (20, 20, 20),
        thickness,
        cv2.LINE_AA,
    )


def draw_bars(canvas: NDArray[np.uint8], probabilities: NDArray[np.float32], unit: float) -> None:
    """Draw a bar for each emotion on a darkened corner at the lower left."""
    ink = bars_ink(tuple(probabilities.tolist()), unit)
    panel = canvas[max(0, canvas.shape[0] - len(ink)) :, : ink.shape[1]]
    shown = ink[len(ink) - len(panel) :, : panel.shape[1]]
    panel[:] = cv2.max(cv2.convertScaleAbs(panel, alpha=PANEL_LIGHT), shown)


@functools.lru_cache(maxsize=4)
def bars_ink(probabilities: tuple[float, ...], unit: float) -> NDArray[np.uint8]:
    """Draw the bars and their names on black; they stay the same for many pictures."""
    line, name_width, bar_width = round(15 * unit), round(72 * unit), round(70 * unit)
    pad = max(2, round(6 * unit))
    ink = np.zeros((len(EMOTIONS) * line + 2 * pad, 2 * pad + name_width + bar_width, 3), np.uint8)
    for number, (name, value) in enumerate(zip(EMOTIONS, probabilities, strict=True)):
        base = pad + (number + 1) * line - round(4 * unit)
        cv2.putText(
            ink,
            name,
            (pad, base),
            FONT,
            0.38 * unit,
            (235, 235, 235),
            max(1, round(0.6 * unit)),
            cv2.LINE_AA,
        )
        left = pad + name_width
        cv2.rectangle(
            ink,
            (left, base - round(8 * unit)),
            (left + max(1, round(value * bar_width)), base),
            COLOURS[name],
            cv2.FILLED,
        )
    return ink


def render(
    recording: Recording, prediction: Prediction, path: Path, detector: str, progress: bool = True
) -> None:
    """Write the annotated video of a recording, with its sound.

    Parameters
    ----------
    recording
        What was heard and seen. Without pictures, its waveform is shown.
    prediction
        What is drawn: at each moment, the mean of the windows around it. It may still be in the
        making.
    path
        The mp4 to write.
    detector
        OpenCV cascade that finds faces.
    progress
        Whether to show a bar.

    Raises
    ------
    MediaError
        If the recording cannot be read; nothing is written then.
    """
    if recording.video is None:
        shown: Iterable[tuple[float, NDArray[np.uint8], Box | None]] = waveform_pictures(recording)
    else:
        pictures = decode_pictures.every_picture(recording.video, LARGEST_SIDE_PX)
        shown = with_boxes(ahead(pictures, PICTURES_AHEAD), detector)
    sound, rate = None, 0
    if recording.sound is not None:
        sound, rate = encode.playable(*decode_sound.read_sound(recording.sound))
    total = round(recording.duration_seconds * (recording.frame_rate or BLANK_FRAME_RATE))
    with progress_bar(shown, desc="render", unit="frame", total=total, disable=not progress) as bar:
        frames = (
            (time, draw(*enlarged(picture, box), prediction.at(time), prediction.min_confidence))
            for time, picture, box in bar
        )
        encode.write_mp4(path, frames, sound, rate, crf=CRF, preset=PRESET, threads=2)


def with_boxes(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], detector: str
) -> Iterator[tuple[float, NDArray[np.uint8], Box | None]]:
    """Add to each picture the box of its largest face, moved evenly between detections."""
    waiting: list[tuple[float, NDArray[np.uint8]]] = []
    last: tuple[float, Box | None] | None = None
    searched = -WHOLE_SEARCH_SECONDS
    for time, picture in frames:
        if last is not None and time < last[0] + DETECTION_SECONDS:
            waiting.append((time, picture))
            continue
        near = last[1] if last is not None and time < searched + WHOLE_SEARCH_SECONDS else None
        if near is None:
            searched = time
        found = faces.detect(picture, detector, near)
        box = found[0] if found else None
        for earlier, shown in waiting:
            yield earlier, shown, between(last, (time, box), earlier)
        waiting.clear()
        yield time, picture, box
        last = (time, box)
    for time, picture in waiting:
        yield time, picture, last[1] if last else None


def between(
    before: tuple[float, Box | None], after: tuple[float, Box | None], time: float
) -> Box | None:
    """Return the box at a time between two detections; after a miss, that of the nearer one."""
    part = (time - before[0]) / (after[0] - before[0])
    if before[1] is None or after[1] is None or faces.overlap(before[1], after[1]) == 0.0:
        return before[1] if part < 0.5 else after[1]
    return Box(*(np.array(before[1]) * (1 - part) + np.array(after[1]) * part).tolist())


def enlarged(picture: NDArray[np.uint8], box: Box | None) -> tuple[NDArray[np.uint8], Box | None]:
    """Scale a small picture and its box up to ``SMALLEST_HEIGHT_PX``."""
    scale = SMALLEST_HEIGHT_PX / picture.shape[0]
    if scale <= 1:
        return picture, box
    larger = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return larger, box and Box(*(side * scale for side in box))


def waveform_pictures(
    recording: Recording,
) -> Iterator[tuple[float, NDArray[np.uint8], None]]:
    """Yield pictures of a recording without video: its waveform, and a line that moves along."""
    height, width = BLANK_SIZE_PX
    blank = np.full((height, width, 3), 30, np.uint8)
    parts = np.array_split(np.abs(recording.waveform), width)
    peaks = np.array([part.max() if part.size else 0.0 for part in parts])
    reach = (peaks / max(peaks.max(), 1e-9) * height * 0.2).astype(int)
    for column, up in enumerate(reach):
        blank[height // 3 - up : height // 3 + up + 1, column] = (110, 130, 150)
    for number in range(max(1, round(recording.duration_seconds * BLANK_FRAME_RATE))):
        time = number / BLANK_FRAME_RATE
        picture = blank.copy()
        column = min(width - 1, round(time / recording.duration_seconds * width))
        picture[height // 8 : height * 13 // 24, column] = 255
        yield time, picture, None
