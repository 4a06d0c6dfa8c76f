"""Boxes, labels and bars on frames, and the annotated video with its sound."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from infer.ahead import ahead
from infer.answers import UNSURE, Prediction, named
from infer.canvas import Canvas
from infer.recording import Recording
from pipeline.console import bar as progress_bar
from pipeline.features import detectors, faces
from pipeline.features.detectors import Box
from pipeline.media import audio, encode, video
from pipeline.media.video import Frame
from pipeline.spec import EMOTIONS, FeatureSpec

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

FRAMES_AHEAD = 8
"""Decoded before they are drawn on."""

PANEL_LIGHT = 0.35
"""Part of the picture's light that is left under the bars."""

BLANK_SIZE_PX = (360, 640)
BLANK_FRAME_RATE = 25


def draw(
    frame: Frame,
    box: Box | None,
    probabilities: NDArray[np.float32],
    min_confidence: float = 0.0,
) -> None:
    """Draw the answer on a frame: the face's box, the label, and a bar for each emotion.

    Parameters
    ----------
    frame
        yuv420p of even sides. What is not drawn on stays as it is, to the bit.
    box
        The face in pixels; None draws the label without a box.
    probabilities
        Shape (8,), one for each emotion; the label has the largest.
    min_confidence
        An answer that is less probable is drawn as ``UNSURE``.
    """
    canvas = Canvas(frame)
    width, height = canvas.width_px, canvas.height_px
    unit = min(height, width * 9 / 16) / 360
    draw_bars(canvas, probabilities, unit)
    emotion = named(probabilities, min_confidence)
    text = emotion if emotion == UNSURE else f"{emotion} {100 * probabilities.max():.0f} %"
    colour = COLOURS[emotion]
    corner = (round(10 * unit), round(30 * unit))
    if box is not None:
        left, top = max(0, even(box.x)), max(0, even(box.y))
        right = min(width, even(box.x + box.width))
        bottom = min(height, even(box.y + box.height))
        draw_outline(canvas, (left, top, right, bottom), colour, 2 * max(1, round(unit)))
        corner = (left, top)
    draw_label(canvas, text, corner, colour, unit)


def even(place: float) -> int:
    """Round to an even number of pixels, where lines are as wide on one side as on the other."""
    return 2 * round(place / 2)


def draw_outline(
    canvas: Canvas, rectangle: tuple[int, int, int, int], colour: tuple, width: int
) -> None:
    """Draw the inner edge of a rectangle."""
    left, top, right, bottom = rectangle
    for line in (
        (left, top, right, top + width),
        (left, bottom - width, right, bottom),
        (left, top, left + width, bottom),
        (right - width, top, right, bottom),
    ):
        with canvas.piece(*line) as (picture, _):
            picture[:] = colour


def draw_label(
    canvas: Canvas, text: str, corner: tuple[int, int], colour: tuple, unit: float
) -> None:
    """Write dark text on a coloured plate whose lower left corner is given, kept in the picture."""
    scale, thickness = 0.62 * unit, max(1, round(unit))
    (text_width, text_height), base = cv2.getTextSize(text, FONT, scale, thickness)
    pad = max(2, round(4 * unit))
    plate_width, plate_height = text_width + 2 * pad, text_height + base + 2 * pad
    left = min(max(0, corner[0]), max(0, canvas.width_px - plate_width))
    top = min(max(0, corner[1] - plate_height), max(0, canvas.height_px - plate_height))
    with canvas.piece(left, top, left + plate_width, top + plate_height) as (picture, place):
        picture[:] = colour
        begin = (left + pad - place[0], top + pad + text_height - place[1])
        cv2.putText(picture, text, begin, FONT, scale, (20, 20, 20), thickness, cv2.LINE_AA)


def draw_bars(canvas: Canvas, probabilities: NDArray[np.float32], unit: float) -> None:
    """Draw a bar for each emotion on a darkened corner at the lower left."""
    ink = bars_ink(tuple(probabilities.tolist()), unit)
    top = canvas.height_px - len(ink)
    with canvas.piece(0, top, ink.shape[1], canvas.height_px) as (picture, _):
        shown = ink[max(0, len(ink) - len(picture)) :, : picture.shape[1]]
        panel = picture[len(picture) - len(shown) :, : shown.shape[1]]
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
    recording: Recording,
    prediction: Prediction,
    path: Path,
    spec: FeatureSpec,
    progress: bool = True,
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
    spec
        Names the detector that finds faces.
    progress
        Whether to show a bar.

    Raises
    ------
    MediaError
        If the recording cannot be read; nothing is written then.
    """
    if recording.video is None:
        shown: Iterable[tuple[float, Frame, Box | None]] = waveform_frames(recording)
    else:
        frames = video.every_yuv_frame(recording.video, SMALLEST_HEIGHT_PX, LARGEST_SIDE_PX)
        shown = with_boxes(ahead(frames, FRAMES_AHEAD), spec)
    sound, rate = None, 0
    if recording.sound is not None:
        sound, rate = encode.playable(*audio.read_audio(recording.sound))
    total = round(recording.duration_seconds * (recording.frame_rate or BLANK_FRAME_RATE))
    with progress_bar(shown, desc="render", unit="frame", total=total, disable=not progress) as bar:
        drawn = annotated(bar, prediction)
        encode.write_mp4(path, drawn, sound, rate, crf=CRF, preset=PRESET, threads=2)


def annotated(
    shown: Iterable[tuple[float, Frame, Box | None]], prediction: Prediction
) -> Iterator[tuple[float, Frame]]:
    """Draw on each frame what is predicted at its time."""
    for time, frame, box in shown:
        draw(frame, box, prediction.at(time), prediction.min_confidence)
        yield time, frame


def with_boxes(
    frames: Iterable[tuple[float, Frame]], spec: FeatureSpec
) -> Iterator[tuple[float, Frame, Box | None]]:
    """Add to each frame the box of its largest face, moved evenly between detections."""
    waiting: list[tuple[float, Frame]] = []
    last: tuple[float, Box | None] | None = None
    for time, frame in frames:
        if last is not None and time < last[0] + DETECTION_SECONDS:
            waiting.append((time, frame))
            continue
        found = detectors.detect(video.planes(frame)[0], spec)
        box = found[0].box if found else None
        for earlier, shown in waiting:
            yield earlier, shown, between(last, (time, box), earlier)
        waiting.clear()
        yield time, frame, box
        last = (time, box)
    for time, frame in waiting:
        yield time, frame, last[1] if last else None


def between(
    before: tuple[float, Box | None], after: tuple[float, Box | None], time: float
) -> Box | None:
    """Return the box at a time between two detections; after a miss, that of the nearer one."""
    part = (time - before[0]) / (after[0] - before[0])
    if before[1] is None or after[1] is None or faces.overlap(before[1], after[1]) == 0.0:
        return before[1] if part < 0.5 else after[1]
    return Box(*(np.array(before[1]) * (1 - part) + np.array(after[1]) * part).tolist())


def waveform_frames(
    recording: Recording,
) -> Iterator[tuple[float, Frame, None]]:
    """Yield frames of a recording without video: its waveform, and a line that moves along."""
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
        yield time, encode.yuv_frame(picture), None
