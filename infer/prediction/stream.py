"""Sound and frames that come piece by piece: an answer about the last seconds, at any moment."""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping

import numpy as np
import soxr
from numpy.typing import NDArray

from infer.prediction.model import Model
from infer.prediction.predict import Answering, Options
from infer.prediction.results import WindowPrediction
from infer.reading.windows import FaceSearch, SeenWindow
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.features.extract import DecodedFrames, Span, Window
from pipeline.media import audio
from pipeline.media.video import Frame, RgbConverter
from pipeline.spec import FeatureSpec

LOUDEST = 100.0
"""Samples beyond it are not of -1 to 1, nor a little louder."""

SEARCH_SECONDS = 0.09
"""Frames are searched at most this often: every third of a camera's 30 a second."""

KEPT_SECONDS = 10.0
"""How long it is known where faces were."""

DRIFT_SECONDS = 0.25
"""Sound that comes this far from its time is moved there: network streams come in bursts below it,
and the clocks of a camera and of a microphone need an hour to drift so far apart."""


class Stream:
    """Answers about the newest window of sound and frames that come piece by piece.

    The window ends where the frames around it do: of what a model with the default spec reads, the
    newest frame is the last one seen, and the sound ends half a second before it. Memory does not
    grow. Two threads may feed it while a third one asks.

    Parameters
    ----------
    model
        Answers.
    rate
        Samples a second of the sound; None for a stream without.
    options
        How; answers are smoothed over time.
    references
        See :class:`infer.prediction.predict.Answering`.
    """

    def __init__(
        self,
        model: Model,
        rate: float | None = None,
        options: Options | None = None,
        references: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self.model, self.rate = model, rate
        self.search = FaceSearch(model.spec)
        spec = model.spec
        self._answering = Answering(model, options or Options(), references)
        self._lock = threading.Lock()
        self._to_rgb = RgbConverter(spec.decoded_side_px, spec.decoded_scaler)
        self._frames: deque[tuple[float, NDArray[np.uint8]]] = deque()
        self._width_px = 0
        self._searched = -np.inf
        self._sound = np.zeros(0, np.float32)
        self._first_sample = 0
        self._resampler = None
        if rate is not None:
            if not 0 < rate < np.inf:
                raise InputError(
                    f"expected a rate above 0 in samples a second, got {rate}; None is for a "
                    "stream without sound"
                )
            self._resampler = soxr.ResampleStream(
                rate, spec.sample_rate_hz, 1, "float32", spec.resampler
            )

    @property
    def seconds(self) -> float:
        """Time of the newest frame, or of the newest sound where there are no frames."""
        if self._frames:
            return self._frames[-1][0]
        return (self._first_sample + len(self._sound)) / self.model.spec.sample_rate_hz

    def hear(self, samples: NDArray[np.floating], end: float | None = None) -> None:
        """Take the next sound.

        Parameters
        ----------
        samples
            Float in [-1, 1], (samples,) or (samples, channels).
        end
            Time at which they end, in seconds on the clock of the frames. None: they follow those
            before, the first of which began at 0.

        Raises
        ------
        InputError
            If the stream was opened without a rate, or these are no samples.
        """
        if self._resampler is None:
            raise InputError("expected a stream with a rate for sound, got one without")
        samples = np.asarray(samples)
        if not np.issubdtype(samples.dtype, np.floating) or samples.ndim not in (1, 2):
            raise InputError(
                "expected sound of floats, (samples,) or (samples, channels), got "
                f"{samples.dtype} {samples.shape}"
            )
        if not samples.size:
            return
        # A comparison with NaN is false.
        if not (np.abs(samples) <= LOUDEST).all():
            raise InputError(
                f"expected samples of -1 to 1, got some beyond {LOUDEST:g}, infinity or NaN; "
                "divide int16 by 32768"
            )
        channels = samples.astype(np.float32).reshape(len(samples), -1).T
        made = self._resampler.resample_chunk(audio.mean_of_channels(channels))
        hz = self.model.spec.sample_rate_hz
        most = round(2 * self._reach_seconds * hz)
        with self._lock:
            if end is not None:
                late = round(end * hz) - len(made) - self._first_sample - len(self._sound)
                if not len(self._sound):
                    self._first_sample += late
                elif abs(late) > DRIFT_SECONDS * hz:
                    silence = np.zeros(min(max(0, late), most), np.float32)
                    self._first_sample += late - len(silence)
                    self._sound = np.concatenate([self._sound, silence])
            held = np.concatenate([self._sound, made])
            passed = max(0, len(held) - most)
            self._sound, self._first_sample = held[passed:], self._first_sample + passed

    def see(self, frame: NDArray[np.uint8] | Frame, seconds: float) -> None:
        """Take the next frame.

        Parameters
        ----------
        frame
            RGB, uint8 (height, width, 3).
        seconds
            Its time on the clock of the sound; one that is not later than that of the frame before
            is left out.

        Raises
        ------
        InputError
            If it is no frame, or the time no number.
        """
        if not math.isfinite(seconds):
            raise InputError(f"expected the time of a frame in seconds, got {seconds}")
        is_array = isinstance(frame, np.ndarray | list)
        shown: Frame = Frame.from_ndarray(checked_frame(frame), "rgb24") if is_array else frame
        spec = self.model.spec
        gap = spec.frames_margin * spec.window_seconds / spec.frame_count
        passed = seconds - self._frames[-1][0] if self._frames else np.inf
        kept = passed >= min(gap / 2, SEARCH_SECONDS)
        due = seconds - self._searched >= SEARCH_SECONDS
        if passed <= 0 or not (kept or due):
            return
        rgb = self._to_rgb(shown)
        with self._lock:
            self._width_px = shown.width if shown.rotation % 180 == 0 else shown.height
            self.search.width_px = rgb.shape[1]
            if due and spec.crop == "face":
                self._searched = seconds
                self.search.search(seconds, rgb)
                self.search.forget(seconds - KEPT_SECONDS)
            if kept:
                self._frames.append((seconds, rgb))
            while self._frames[0][0] < seconds - self._reach_seconds - gap:
                self._frames.popleft()

    def predict(self) -> list[WindowPrediction]:
        """Answer about the newest window.

        Returns
        -------
        list of WindowPrediction
            One for each face; none before anything came.
        """
        spec = self.model.spec
        self._answering.forget(self.search.tracker.tracks)
        with self._lock:
            span = newest_span(self.seconds, bool(self._frames), spec)
            shown = list(self._frames)
            first = span.start - self._first_sample
            sound = self._sound[max(0, first) : max(0, first + span.samples)].copy()
            times, decoded = on_screen(shown, span, spec)
            faces = self.search.window_faces(times, decoded) if shown else ()
            ratio = self._width_px / self.search.width_px if self.search.width_px else 1.0
        if not shown and not sound.size:
            return []
        window = Window(
            sound if sound.size else None, extract.fill_ends(decoded) if shown else None
        )
        seen = SeenWindow(span, window, faces, 1.0)
        return self._answering(seen, span_end(span, spec), ratio)

    @property
    def _reach_seconds(self) -> float:
        """From the first to the last frame of a window."""
        return self.model.spec.frames_margin * self.model.spec.window_seconds


def checked_frame(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Refuse what is no frame."""
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        raise InputError(
            "expected RGB frames of uint8 (height, width, 3), got one of "
            f"{frame.dtype} {frame.shape}"
        )
    return np.ascontiguousarray(frame)


def newest_span(seconds: float, has_frames: bool, spec: FeatureSpec) -> Span:
    """Return the window whose last frame, or whose end without frames, is the newest."""
    length = spec.window_samples
    if not has_frames:
        return Span(round(seconds * spec.sample_rate_hz) - length, length)
    last = extract.frame_times(Span(0, length), spec)[-1]
    return Span(round((seconds - last) * spec.sample_rate_hz), length)


def on_screen(
    frames: list[tuple[float, NDArray[np.uint8]]], span: Span, spec: FeatureSpec
) -> tuple[list[float], DecodedFrames]:
    """Choose the frames of a window: the one on screen at each of its times, None before all.

    Returns
    -------
    times : list of float
        When each of them came.
    frames : list of ndarray or None
    """
    times = extract.frame_times(span, spec)
    chosen: DecodedFrames = []
    begins = [begin for begin, _ in frames]
    for number, time in enumerate(times):
        # A thousandth: windows begin with a whole sample.
        place = bisect_right(begins, time + 1e-3) - 1
        chosen.append(frames[place][1] if place >= 0 else None)
        times[number] = begins[place] if place >= 0 else time
    return times, chosen


def span_end(span: Span, spec: FeatureSpec) -> float:
    """End of a window in seconds."""
    return (span.start + span.samples) / spec.sample_rate_hz
