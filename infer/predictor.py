"""The library: a model that answers about files, arrays and streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from infer.live.session import Live
from infer.prediction.model import Model, open_model
from infer.prediction.predict import Analysis, Options
from infer.prediction.reference import reference_of
from infer.prediction.results import Result, WindowPrediction
from infer.prediction.smooth import SECONDS
from infer.prediction.stream import LOUDEST, Stream, checked_frame
from infer.reading import recording
from infer.reading.recording import Recording
from pipeline.errors import InputError
from pipeline.media import audio
from pipeline.media.video import Frame, Timed

MOST_CHANNELS = 64


def load(folder: str | Path = "data/model", backend: str = "auto") -> Predictor:
    """Load a trained model.

    Parameters
    ----------
    folder
        What ``make train`` left: ``model.json``, ``model.keras`` and ``model.onnx``.
    backend
        ``"auto"`` uses ONNX Runtime where there is a ``model.onnx``, else Keras, which needs
        TensorFlow; ``"onnx"`` or ``"keras"`` insists.

    Returns
    -------
    Predictor

    Raises
    ------
    InputError
        If there is no model, or one that this code cannot serve.
    """
    return Predictor(open_model(Path(folder), backend))


class Predictor:
    """A trained model.

    Parameters
    ----------
    model
        See :func:`infer.prediction.model.open_model`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def predict(
        self,
        path: str | Path | None = None,
        sound: str | Path | None = None,
        *,
        frames: Iterable[NDArray[np.uint8]] | None = None,
        audio: NDArray[np.floating] | None = None,
        rate: float | None = None,
        frame_rate: float | None = None,
        times: Sequence[float] | None = None,
        reference: str | Path | None = None,
        min_confidence: float = 0.0,
        smooth_seconds: float = SECONDS,
    ) -> Result:
        """Predict a recording: a file, or arrays.

        Parameters
        ----------
        path
            A file with frames, sound or both.
        sound
            A file with its sound; None takes the track of ``path``.
        frames
            Instead of a file: RGB frames, uint8, each (height, width, 3), all of one size.
        audio
            Instead of a file: samples in [-1, 1], (samples,) or (samples, channels).
        rate
            Samples a second of ``audio``; without audio, frames a second.
        frame_rate, times
            Frames a second of ``frames``, or the second of each since the first sample. Without
            both, the frames are spread over the length of ``audio``.
        reference
            A recording of the same person, for a model with a speaker reference.
        min_confidence
            In [0, 1]: answers that are less probable are ``"unsure"``.
        smooth_seconds
            Time constant of the filter behind :attr:`WindowPrediction.label`; 0 for none.

        Returns
        -------
        Result

        Raises
        ------
        InputError
            If the file or the arrays cannot be used.
        """
        options = Options(min_confidence, smooth_seconds)
        if path is not None:
            if frames is not None or audio is not None:
                raise InputError("expected a file or arrays, got both; give one of them")
            analysis = self.analyse(path, sound, options, reference)
        else:
            taken, coming = from_arrays(frames, audio, rate, frame_rate, times, self.model)
            known = reference_of(self.model, None, None, path_of(reference))
            analysis = Analysis(self.model, taken, options, known, coming)
        for _ in analysis:
            pass
        return analysis.result()

    def windows(
        self,
        path: str | Path,
        sound: str | Path | None = None,
        *,
        reference: str | Path | None = None,
        min_confidence: float = 0.0,
        smooth_seconds: float = SECONDS,
    ) -> Iterator[list[WindowPrediction]]:
        """Predict a file of any length window by window, as it is read.

        Yields
        ------
        list of WindowPrediction
            One for each face of the next window; one without a face where there is none.

        Raises
        ------
        InputError
            If the file cannot be used.
        """
        yield from self.analyse(path, sound, Options(min_confidence, smooth_seconds), reference)

    def stream(
        self,
        rate: float | None = None,
        *,
        reference: str | Path | None = None,
        min_confidence: float = 0.0,
        smooth_seconds: float = SECONDS,
    ) -> Stream:
        """Open a stream that is fed piece by piece.

        Parameters
        ----------
        rate
            Samples a second of its sound; None for a stream without.
        reference, min_confidence, smooth_seconds
            See :meth:`predict`.

        Returns
        -------
        Stream
            ``hear(samples)`` and ``see(frame, seconds)`` feed it, ``predict()`` asks it.
        """
        known = reference_of(self.model, None, None, path_of(reference))
        return Stream(self.model, rate, Options(min_confidence, smooth_seconds), known)

    def live(
        self,
        source: str | int,
        on_answer: Callable[[list[WindowPrediction]], Any],
        *,
        reference: str | Path | None = None,
        min_confidence: float = 0.0,
        smooth_seconds: float = SECONDS,
    ) -> None:
        """Answer twice a second about a camera, a stream of the network, or a file in real time.

        Parameters
        ----------
        source
            Number of a camera, an address such as ``"rtsp://..."``, or a file.
        on_answer
            Is given each answer, in a thread of its own; ``False`` from it ends everything.
        reference, min_confidence, smooth_seconds
            See :meth:`predict`.

        Raises
        ------
        InputError
            If there is no such source.
        """

        def answered(made: list[WindowPrediction]) -> None:
            if on_answer(made) is False:
                running.stop()

        options = Options(min_confidence, smooth_seconds)
        known = reference_of(self.model, None, None, path_of(reference))
        running = Live(self.model, str(source), options, answered, references=known)
        running.start()
        running.wait()

    def analyse(
        self,
        path: str | Path,
        sound: str | Path | None,
        options: Options,
        reference: str | Path | None = None,
    ) -> Analysis:
        """Open a file, to be predicted as it is asked for."""
        opened = Path(path), path_of(sound)
        taken = recording.open_recording(*opened, self.model.spec)
        known = reference_of(self.model, *opened, path_of(reference))
        return Analysis(self.model, taken, options, known)


def path_of(name: str | Path | None) -> Path | None:
    """Return a path for what names one."""
    return None if name is None else Path(name)


def from_arrays(
    frames: Iterable[NDArray[np.uint8]] | None,
    samples: NDArray[np.floating] | None,
    rate: float | None,
    frame_rate: float | None,
    times: Sequence[float] | None,
    model: Model,
) -> tuple[Recording, Iterator[Timed] | None]:
    """Make a recording of arrays, see :meth:`Predictor.predict`.

    Raises
    ------
    InputError
        If they are of another kind.
    """
    spec = model.spec
    waveform, seconds = None, 0.0
    if samples is not None:
        waveform = mono(samples, rate, spec.sample_rate_hz, spec.resampler)
        seconds = len(waveform) / spec.sample_rate_hz
    shown = [] if frames is None else [checked_frame(frame) for frame in frames]
    if len(sizes := {frame.shape for frame in shown}) > 1:
        raise InputError(f"expected frames of one size, got {sorted(sizes)}; resize them")
    if not shown and waveform is None:
        raise InputError("expected frames=, audio= or a file, got none; give one of them")
    if times is None and shown:
        if frame_rate is None and samples is None:
            frame_rate = rate
        frame_rate = frame_rate or (len(shown) / seconds if seconds else None)
        if not frame_rate or not 0 < frame_rate < math.inf:
            raise InputError(
                f"expected frame_rate= above 0 or times= of the frames, got {frame_rate}; give one"
            )
        times = [number / frame_rate for number in range(len(shown))]
    moments = [] if times is None else list(map(float, times))
    if len(moments) != len(shown) or not (np.diff(moments) > 0).all():
        raise InputError(
            f"expected an ascending time for each of {len(shown)} frames, got {len(moments)} times "
            "or some that do not ascend"
        )
    gap = (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else 0.04
    end = moments[-1] + gap if moments else 0.0
    path = Path("arrays")
    height, width = shown[0].shape[:2] if shown else (0, 0)
    taken = Recording(
        path,
        path if shown else None,
        path if waveform is not None else None,
        recording.of_arrays(waveform, spec),
        max(seconds, end),
        1 / gap if shown else 0.0,
        width,
        height,
    )
    coming = (
        Timed(Frame.from_ndarray(frame, "rgb24"), moment, moment + gap, gap, 0.0)
        for frame, moment in zip(shown, moments, strict=True)
    )
    return taken, coming if shown else None


def mono(
    samples: NDArray[np.floating], rate: float | None, wanted_hz: int, resampler: str
) -> NDArray[np.float32]:
    """Mix samples, (samples,) or (samples, channels), down to one channel of another rate."""
    samples = np.asarray(samples)
    if not rate or not 0 < rate < math.inf:
        raise InputError(f"expected the rate= of the audio in samples a second, got {rate}")
    if not np.issubdtype(samples.dtype, np.floating):
        raise InputError(
            f"expected audio of floats in [-1, 1], got {samples.dtype}; divide int16 by 32768"
        )
    if samples.ndim not in (1, 2) or not samples.size or not np.isfinite(samples).all():
        raise InputError(
            f"expected finite audio of shape (samples,) or (samples, channels), got {samples.shape}"
        )
    if samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS:
        raise InputError(
            f"expected audio of (samples, channels), got {samples.shape}; transpose it if its "
            "channels come first"
        )
    if (peak := float(np.abs(samples).max())) > LOUDEST:
        raise InputError(
            f"expected audio of floats in [-1, 1], got up to {peak:g}; divide int16 by 32768"
        )
    channels = samples.astype(np.float32).reshape(len(samples), -1).T
    waveform = audio.mean_of_channels(channels)
    return soxr.resample(waveform, float(rate), wanted_hz, resampler)
