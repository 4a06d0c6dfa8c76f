"""A live session: a camera, a network stream or a file in real time.

A thread captures and keeps the newest frame only; the next one finds faces and draws; a third
answers twice a second. Frames that come too fast are dropped, never queued.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infer.output.draw import draw
from infer.output.shown import Showing
from infer.prediction.model import Model
from infer.prediction.predict import Options, model_notes
from infer.prediction.reference import References
from infer.prediction.results import WindowPrediction
from infer.prediction.stream import Stream
from pipeline.errors import InputError
from pipeline.media import capture, video
from pipeline.media.video import Frame

log = logging.getLogger(__name__)


class _Ended(Exception):
    """Leaves a source that gives sound alone: where frames come, each of them is asked."""


STEP_SECONDS = 0.5
"""From answer to answer."""

LARGEST_SIDE_PX = 1280
"""Of what is shown."""

RETRY_SECONDS = 2.0
"""Until a camera that broke off is asked again."""

MEASURED = 1000
"""Newest frames and answers that the figures are made of."""

OnAnswer = Callable[[list[WindowPrediction]], Any]
OnFrame = Callable[[float, Frame], Any]


class Slot:
    """Holds the newest item only; a reader waits for one newer than its last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number, self._held = 0, None
        self.closed = False

    def put(self, held: Any) -> None:
        """Replace what is held."""
        with self._changed:
            self._number, self._held = self._number + 1, held
            self._changed.notify_all()

    def close(self) -> None:
        """End the wait of all readers."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def newer(self) -> Iterator[Any]:
        """Yield what is held whenever it has changed, until the end."""
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._number > seen or self.closed)  # noqa: B023
                if self._number == seen:
                    return
                seen, held = self._number, self._held
            yield held


@dataclass
class Figures:
    """How fast it is.

    Parameters
    ----------
    captured, drawn
        Frames that came, and those that were drawn: the others were dropped.
    draw_seconds
        From a frame's capture to its box, of the newest ones.
    age_seconds
        Age of the newest frame that an answer rests on, when the next answer replaces it.
    """

    captured: int = 0
    drawn: int = 0
    draw_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MEASURED))
    age_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=MEASURED))

    def text(self) -> str:
        """Say it in a line."""
        said = [f"{self.captured} frames, {self.captured - self.drawn} dropped"]
        for name, values in (
            ("frame to drawn box", self.draw_seconds),
            ("age of the newest frame in a label", self.age_seconds),
        ):
            if values:
                middle, most = 1000 * np.quantile(values, (0.5, 0.95))
                said.append(f"{name} {middle:.0f} ms (95 %: {most:.0f})")
        return "; ".join(said)


class Live:
    """Runs until the source ends or :meth:`stop`.

    Parameters
    ----------
    model
        Answers.
    source
        See :func:`pipeline.media.capture.frames_of`.
    options
        How.
    on_answer
        Is given each answer, in a thread of its own.
    on_frame
        Is given each drawn frame and its time, in another one.
    on_end
        Is called once or more when it ends.
    microphone
        Whether a camera is joined by the microphone, where there is one.
    references
        See :class:`infer.prediction.predict.Answering`.

    Raises
    ------
    InputError
        If there is no such source.
    """

    def __init__(
        self,
        model: Model,
        source: str,
        options: Options | None = None,
        on_answer: OnAnswer = lambda made: None,
        on_frame: OnFrame = lambda seconds, frame: None,
        on_end: Callable[[], Any] = lambda: None,
        microphone: bool = True,
        references: References | None = None,
    ) -> None:
        self.figures = Figures()
        self.notes = list(model_notes(model))
        self._source, self._on_end = source, on_end
        self._on_answer, self._on_frame = on_answer, on_frame
        rate = capture.sound_rate(source)
        self._microphone = None
        if source.isdecimal() and microphone:
            try:
                self._microphone = capture.Microphone(
                    lambda block: self._stream.hear(block, self._clock())
                )
                rate = self._microphone.rate
            except InputError as error:
                self.notes.append(f"no sound: {error}")
        elif rate is None:
            self.notes.append("no sound: the answer comes from the face alone")
        self._stream = Stream(model, rate, options, references)
        self._showing = Showing(self._stream.search.tracker.get)
        self._lock = threading.Lock()
        self._latest = Slot()
        self._asked = threading.Event()
        self._pool = futures.ThreadPoolExecutor(3)
        self._works: list[futures.Future] = []
        self._began = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        if self._microphone:
            self._microphone.start()
        for work in (self._capture, self._draw, self._answer):
            self._works.append(self._pool.submit(work))
            # Whichever ends first, by an error or not, ends the others.
            self._works[-1].add_done_callback(lambda _: self.stop())

    def stop(self) -> None:
        """Ask for the end."""
        self._asked.set()
        self._latest.close()
        self._on_end()

    def wait(self) -> None:
        """Wait for the end; Ctrl-C meanwhile is one.

        Raises
        ------
        InputError
            If the source could not be read.
        """
        try:
            for work in self._works:
                work.result()
        finally:
            self.stop()
            self._pool.shutdown()
            if self._microphone:
                self._microphone.close()

    def _clock(self) -> float:
        return time.monotonic() - self._began

    def _hear(self, samples: np.ndarray, end: float) -> None:
        if self._asked.is_set():
            raise _Ended
        self._stream.hear(samples, end)

    def _capture(self) -> None:
        with contextlib.suppress(_Ended):
            for seconds, frame in self._frames():
                self.figures.captured += 1
                self._latest.put((seconds, time.monotonic(), frame))
                if self._asked.is_set():
                    return

    def _frames(self) -> Iterator[tuple[float, Frame]]:
        """Yield what comes; a camera that broke off is asked again until it is back."""
        broken = False
        while True:
            reason = "nothing more came"
            try:
                for timed in capture.frames_of(self._source, self._hear, self._clock):
                    if broken:
                        log.warning("%s is back", self._source)
                    broken = False
                    yield timed
            except InputError as error:
                if not self.figures.captured or not capture.is_endless(self._source):
                    raise
                reason = str(error)
            if not capture.is_endless(self._source):
                return
            if not self.figures.captured:
                raise InputError(
                    f"expected frames from {self._source}, got none; see whether another program "
                    "uses it"
                )
            if not broken:
                log.warning("%s broke off: %s; asking again until it is back", self._source, reason)
            broken = True
            if self._asked.wait(RETRY_SECONDS):
                return

    def _draw(self) -> None:
        size = None
        for seconds, came, frame in self._latest.newer():
            self._stream.see(frame, seconds)
            size = size or video.fitted(frame, 2, LARGEST_SIDE_PX)
            upright = video.upright_yuv(frame, *size)
            searched_px = self._stream.search.width_px
            with self._lock:
                shown = self._showing.at(seconds, upright.width / max(1, searched_px))
                several = self._showing.several
            draw(upright, shown, several)
            self.figures.drawn += 1
            self.figures.draw_seconds.append(time.monotonic() - came)
            self._on_frame(seconds, upright)

    def _answer(self) -> None:
        began, newest = time.monotonic(), None
        for number in itertools.count(1):
            if self._asked.wait(max(0.0, began + number * STEP_SECONDS - time.monotonic())):
                return
            now = self._stream.seconds
            made = self._stream.predict()
            if not made:
                continue
            with self._lock:
                self._showing.add(made)
                self._showing.forget(now - 10 * STEP_SECONDS)
            if newest is not None:
                self.figures.age_seconds.append(self._stream.seconds - newest)
            newest = now
            self._on_answer(made)
