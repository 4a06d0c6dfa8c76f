"""Windows of a recording to predictions, by the functions that filled the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infer.recording import Recording, plan_windows
from pipeline import audio, features
from pipeline.faces import Box
from pipeline.features import Span, Window
from pipeline.spec import EMOTIONS, FeatureSpec
from train.artefact import Artefact

WINDOWS_AT_ONCE = 8
"""Windows decoded and predicted together: bounds memory, whatever the file's length."""

VOICE_AND_FACE, VOICE, FACE, PICTURE = "voice and face", "voice", "face", "picture without a face"
HEAD_OF_BASIS = {VOICE_AND_FACE: "fused", VOICE: "audio", FACE: "video", PICTURE: "video"}


@dataclass(frozen=True)
class WindowPrediction:
    """What was felt in one window.

    Parameters
    ----------
    start_seconds, end_seconds
        Its stretch of the recording.
    probabilities
        float32 (8,): the answer.
    voice, face
        float32 (8,): what each modality's own head says; None without that modality.
    basis
        What the answer rests on.
    box
        The face in pixels of the recording; None without one.
    weight
        Part of the window that is voice, in [0, 1]: how much it counts in the whole answer.
    """

    start_seconds: float
    end_seconds: float
    probabilities: NDArray[np.float32]
    voice: NDArray[np.float32] | None
    face: NDArray[np.float32] | None
    basis: str
    box: Box | None
    weight: float

    @property
    def emotion(self) -> str:
        """Most probable emotion."""
        return EMOTIONS[int(self.probabilities.argmax())]


@dataclass(frozen=True)
class Prediction:
    """What was felt in a recording: the weighted mean of its windows, and the windows."""

    windows: tuple[WindowPrediction, ...]
    notes: tuple[str, ...]

    def mean(self, part: str) -> NDArray[np.float32] | None:
        """Mean of ``probabilities``, ``voice`` or ``face`` over the windows that have it."""
        having = [window for window in self.windows if getattr(window, part) is not None]
        if not having:
            return None
        weights = np.array([window.weight for window in having])
        if not weights.any():
            weights[:] = 1.0
        values = np.array([getattr(window, part) for window in having])
        return (weights[:, np.newaxis] * values).sum(axis=0) / weights.sum()

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """The answer, float32 (8,)."""
        return self.mean("probabilities")

    @property
    def emotion(self) -> str:
        """Most probable emotion."""
        return EMOTIONS[int(self.probabilities.argmax())]

    @property
    def basis(self) -> str:
        """What most of the answer's weight rests on."""
        weights: dict[str, float] = {}
        for window in self.windows:
            weights[window.basis] = weights.get(window.basis, 0.0) + window.weight + 1e-6
        return max(weights, key=weights.__getitem__)

    def at(self, seconds: float) -> NDArray[np.float32]:
        """Mean of the windows that hear and see a moment; the nearest one's if none does."""
        covering = [
            window.probabilities
            for window in self.windows
            if window.start_seconds <= seconds < window.end_seconds
        ]
        if covering:
            return np.mean(covering, axis=0)
        return min(
            self.windows,
            key=lambda window: min(
                abs(window.start_seconds - seconds), abs(window.end_seconds - seconds)
            ),
        ).probabilities


def predict(recording: Recording, artefact: Artefact) -> Prediction:
    """Predict every window of a recording.

    Parameters
    ----------
    recording
        What to hear and see.
    artefact
        A trained model with its spec.

    Returns
    -------
    Prediction

    Raises
    ------
    MediaError
        If the video cannot be read.
    """
    planned = plan_windows(recording, artefact.spec)
    windows: list[WindowPrediction] = []
    for first in range(0, len(planned), WINDOWS_AT_ONCE):
        windows += predict_group(recording, artefact, planned[first : first + WINDOWS_AT_ONCE])
    return Prediction(tuple(windows), tuple(notes(recording, windows)))


def predict_group(
    recording: Recording, artefact: Artefact, planned: Sequence[tuple[Span, float]]
) -> Iterator[WindowPrediction]:
    """Predict some windows in one batch."""
    spec = artefact.spec
    read = features.read_windows(
        recording.waveform, recording.video, [span for span, _ in planned], spec, threads=0
    )
    boxes = [features.find_face(window, spec) for window in read]
    rows = [features.featurize(window, box, spec) for window, box in zip(read, boxes, strict=True)]
    outputs = artefact.model(
        {
            "mfcc": np.stack([row.mfcc for row in rows]),
            "frames": np.stack([row.frames for row in rows]),
        },
        training=False,
    )
    heads = {name: np.asarray(output) for name, output in outputs.items()}
    for number, ((span, weight), window, box) in enumerate(zip(planned, read, boxes, strict=True)):
        basis = basis_of(window, box, spec)
        start = span.start / spec.sample_rate_hz
        yield WindowPrediction(
            start,
            min(start + span.samples / spec.sample_rate_hz, recording.duration_seconds),
            heads[HEAD_OF_BASIS[basis]][number],
            heads["audio"][number] if basis in (VOICE_AND_FACE, VOICE) else None,
            heads["video"][number] if basis != VOICE else None,
            basis,
            box and source_box(box, window, recording),
            weight,
        )


def source_box(box: Box, window: Window, recording: Recording) -> Box:
    """Scale a box from the decoded pictures, which are bounded in size, to the recording's."""
    width = next(picture.shape[1] for picture in window.pictures or [] if picture is not None)
    return Box(*(side * recording.width_px / width for side in box))


def basis_of(window: Window, box: Box | None, spec: FeatureSpec) -> str:
    """Say what there is to go by in a window."""
    heard = window.sound is not None and not audio.is_silent(window.sound)
    shown = window.pictures is not None and any(picture is not None for picture in window.pictures)
    seen = shown and (box is not None or spec.crop == "whole")
    if heard:
        return VOICE_AND_FACE if seen else VOICE
    return FACE if seen else PICTURE


def notes(recording: Recording, windows: Sequence[WindowPrediction]) -> Iterator[str]:
    """Say which modality was missing where."""
    if recording.sound is None:
        yield "no sound: the answer comes from the face alone"
    elif not any(window.voice is not None for window in windows):
        yield "the sound is silent: the answer comes from the face alone"
    if recording.video is None:
        yield "no video: the answer comes from the voice alone"
    else:
        faceless = sum(window.basis in (VOICE, PICTURE) for window in windows)
        if faceless:
            yield (
                f"no face in {faceless} of {len(windows)} windows: there the answer comes from "
                "the voice alone, or from the whole picture if there is none"
            )
