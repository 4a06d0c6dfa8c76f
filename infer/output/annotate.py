"""The annotated video: decoded once, predicted, drawn on and encoded, with its sound."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.output.draw import Shown, draw
from infer.output.shown import Showing
from infer.prediction.model import Model
from infer.prediction.predict import Analysis, Options
from infer.prediction.reference import References
from infer.prediction.results import Result, WindowPrediction
from infer.reading.ahead import ahead
from infer.reading.recording import Recording, Sound
from infer.reading.windows import FRAMES_AHEAD
from infer.stop import Stop
from pipeline.features.extract import Span
from pipeline.media import audio, encode, video
from pipeline.media.container import Damage
from pipeline.media.video import Frame, Timed
from pipeline.spec import FeatureSpec

SMALLEST_HEIGHT_PX = 360
"""Smaller frames are enlarged, so that the labels can be read."""

LARGEST_SIDE_PX = 1920
"""Larger frames are scaled down to this."""

PRESET, CRF = "ultrafast", 23
"""x264's settings for the annotated video: its default quality, five times faster than
``veryfast``."""

WINDOWS_AHEAD = 1
"""Predicted while earlier ones are drawn: bounds the frames that wait."""

BLANK_SIZE_PX = (360, 640)
BLANK_FRAME_RATE = 25
PAGE_SECONDS = 30.0
"""Of a waveform that is seen at once."""

FORGOTTEN_SECONDS = 10.0
"""How long predictions are kept after their frames were drawn."""

Progress = Callable[[float], None]
"""Is told how many seconds of the recording are done."""

ShownAt = Callable[[float], list[Shown]]
"""Says what is shown at a moment, in seconds."""


def annotate(
    model: Model,
    recording: Recording,
    path: Path,
    options: Options,
    stop: Stop | None = None,
    progress: Progress = lambda seconds: None,
    references: References | None = None,
) -> Analysis:
    """Predict a recording and write its annotated video.

    Parameters
    ----------
    model
        Answers.
    recording
        What to hear and see. Without frames, its waveform is shown.
    path
        The mp4 to write; its folder is made.
    options
        How to predict.
    stop
        Asked before each frame: once it is set, the video ends there, and is complete.
    progress
        Called now and then.
    references
        See :class:`infer.prediction.predict.Answering`.

    Returns
    -------
    Analysis
        With all its predictions; where it was stopped, those that were made by then.

    Raises
    ------
    InputError
        If the recording cannot be read, or has nothing that the model has learned from; nothing is
        written then.
    """
    stop = stop or Stop()
    path.parent.mkdir(parents=True, exist_ok=True)
    if recording.video is None:
        analysis = Analysis(model, recording, options, references)
        drawn = waveform_frames(recording, model.spec, shown_while_predicted(analysis))
    else:
        drawing = Drawing(model, recording, recording.video, options, references)
        analysis, drawn = drawing.analysis, drawing.frames()
    sound = sound_of(recording)
    if sound is not None:
        sound = partial(encode.ended, sound, lambda now: stop.asked and now > stop.seconds)
    frames = watched(drawn, stop, progress)
    encode.write_video(path, frames, sound, crf=CRF, preset=PRESET, threads=2)
    return analysis


def sound_of(recording: Recording) -> encode.Sound | None:
    """Return what a video of a recording is written with: its sound, up to its damage."""
    if recording.sound is None:
        return None
    return partial(encode.sound_of_file, recording.sound, damage=recording.damage)


def watched(
    frames: Iterator[tuple[float, Frame]], stop: Stop, progress: Progress
) -> Iterator[tuple[float, Frame]]:
    """Pass on frames until a stop, which learns how far they came."""
    for seconds, frame in frames:
        stop.seconds = seconds
        progress(seconds)
        yield seconds, frame
        if stop.asked:
            return


class Drawing:
    """Frames of a video, drawn on once the windows around them are predicted.

    A frame waits for the window whose middle comes next: four to five seconds of frames are
    held.

    Parameters
    ----------
    model, recording, options, references
        See :func:`annotate`.
    path
        The video.
    """

    def __init__(
        self,
        model: Model,
        recording: Recording,
        path: Path,
        options: Options,
        references: References | None,
    ) -> None:
        self._waiting: deque[tuple[float, Frame]] = deque()
        self._decoded_seconds = -1.0
        untimed = model.spec.untimed_frame_seconds
        frames = video.timed_frames(
            path, 0.0, options.threads, untimed_seconds=untimed, damage=recording.damage
        )
        self._decoded = self._kept(ahead(frames, FRAMES_AHEAD))
        self.analysis = Analysis(model, recording, options, references, self._decoded)
        self._showing = Showing(self.analysis.search.tracker.get)

    def frames(self) -> Iterator[tuple[float, Frame]]:
        """Yield each frame with its time, drawn on."""
        for made, until in ahead(self._batches(), WINDOWS_AHEAD):
            self._showing.add(made)
            while self._waiting and self._waiting[0][0] <= until:
                seconds, frame = self._waiting.popleft()
                searched_px = self.analysis.search.width_px
                ratio = frame.width / searched_px if searched_px else 1.0
                draw(frame, self._showing.at(seconds, ratio), self._showing.several)
                yield seconds, frame
            self._showing.forget(until - FORGOTTEN_SECONDS)

    def _batches(self) -> Iterator[tuple[list[WindowPrediction], float]]:
        """Yield predictions, and until when frames can be drawn then."""
        for made in self.analysis:
            until = made[-1].time_seconds
            while self._decoded_seconds <= until and next(self._decoded, None):
                pass
            yield made, until
        while next(self._decoded, None):
            yield [], self._decoded_seconds
        yield [], math.inf

    def _kept(self, frames: Iterator[Timed]) -> Iterator[Timed]:
        """Pass on frames as they are decoded, and keep each to be drawn on."""
        size = None
        for timed in frames:
            size = size or video.fitted(timed.frame, SMALLEST_HEIGHT_PX, LARGEST_SIDE_PX)
            self._decoded_seconds = timed.start_seconds
            self._waiting.append((timed.start_seconds, video.upright_yuv(timed.frame, *size)))
            yield timed


def shown_while_predicted(analysis: Analysis) -> ShownAt:
    """Return what says what is shown at later and later moments, predicting as far as needed."""
    showing, coming, until = Showing(analysis.search.tracker.get), iter(analysis), -math.inf

    def shown(seconds: float) -> list[Shown]:
        nonlocal until
        while until < seconds and (made := next(coming, None)):
            showing.add(made)
            showing.forget(seconds - FORGOTTEN_SECONDS)
            until = made[-1].time_seconds
        return showing.at(seconds, 1.0)

    return shown


def redraw(
    result: Result,
    recording: Recording,
    path: Path,
    spec: FeatureSpec,
    progress: Progress = lambda seconds: None,
) -> None:
    """Write the annotated video of a recording that was predicted before; nothing is predicted.

    Parameters
    ----------
    result
        What was said of it.
    recording
        What it was said of.
    path
        The mp4 to write.
    spec
        Of the model that said it.
    progress
        Called now and then.

    Raises
    ------
    MediaError
        If the recording cannot be read; nothing is written then.
    """
    tracks = {track.number: track for track in result.tracks}
    showing = Showing(tracks.__getitem__)
    showing.add(list(result.windows))
    if recording.video is None:
        drawn = waveform_frames(recording, spec, lambda seconds: showing.at(seconds, 1.0))
    else:
        drawn = redrawn_frames(recording, recording.video, showing)
    frames = watched(drawn, Stop(), progress)
    encode.write_video(path, frames, sound_of(recording), crf=CRF, preset=PRESET, threads=2)


def redrawn_frames(
    recording: Recording, path: Path, showing: Showing
) -> Iterator[tuple[float, Frame]]:
    """Yield each frame of a recording's video with its time, drawn on."""
    frames = video.every_yuv_frame(
        path, SMALLEST_HEIGHT_PX, LARGEST_SIDE_PX, damage=recording.damage
    )
    for seconds, frame in ahead(frames, FRAMES_AHEAD):
        draw(frame, showing.at(seconds, frame.width / recording.width_px), showing.several)
        yield seconds, frame


def waveform_frames(
    recording: Recording, spec: FeatureSpec, shown: ShownAt
) -> Iterator[tuple[float, Frame]]:
    """Yield frames of a recording without video: its waveform, and a line that moves along."""
    seconds = recording.duration_seconds
    height, width = BLANK_SIZE_PX
    page_seconds = min(seconds, PAGE_SECONDS)
    pages = waveform_pages(recording.sound or recording.path, page_seconds, spec)
    page = np.zeros((height, width, 3), np.uint8)
    shown_page = -1
    for number in range(max(1, round(seconds * BLANK_FRAME_RATE))):
        time = number / BLANK_FRAME_RATE
        if time // page_seconds > shown_page:
            shown_page, page = shown_page + 1, next(pages)
        picture = page.copy()
        column = min(width - 1, round((time / page_seconds - shown_page) * width))
        picture[height // 8 : height * 13 // 24, column] = 255
        frame = encode.yuv_frame(picture)
        draw(frame, shown(time))
        yield time, frame


def waveform_pages(
    path: Path, page_seconds: float, spec: FeatureSpec
) -> Iterator[NDArray[np.uint8]]:
    """Draw one stretch of a waveform after the other, without end."""
    # What is damaged was noted where it was heard.
    blocks = audio.waveform_blocks(path, spec.sample_rate_hz, spec.resampler, Damage())
    sound = Sound(blocks, spec)
    samples = max(1, round(page_seconds * spec.sample_rate_hz))
    height, width = BLANK_SIZE_PX
    for number in itertools.count():
        waveform = sound.cut(Span(number * samples, samples))
        padded = np.abs(np.pad(waveform, (0, samples - len(waveform))))
        peaks = np.array([part.max(initial=0.0) for part in np.array_split(padded, width)])
        reach = (peaks / max(peaks.max(), 1e-9) * height * 0.2).astype(int)
        page = np.full((height, width, 3), 30, np.uint8)
        for column, up in enumerate(reach):
            page[height // 3 - up : height // 3 + up + 1, column] = (110, 130, 150)
        yield page
