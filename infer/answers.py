"""What inference says: the answer of each window, and of the recording as a whole."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from infer.recording import Recording
from pipeline.features.detectors import Box
from pipeline.spec import EMOTIONS

SMALLEST_WEIGHT = 1e-6
"""Lets windows without voice decide where there are no others."""

VOICE_AND_FACE, VOICE, FACE, PICTURE = "voice and face", "voice", "face", "picture without a face"
"""What an answer may rest on."""

UNSURE = "unsure"
"""What is said instead of an emotion that is not probable enough."""


def named(probabilities: NDArray[np.float32], min_confidence: float = 0.0) -> str:
    """Name the most probable emotion, or ``UNSURE`` where it is less probable than asked for."""
    best = int(probabilities.argmax())
    return EMOTIONS[best] if probabilities[best] >= min_confidence else UNSURE


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


class Prediction:
    """What was felt in a recording: the weighted mean of its windows, and the windows.

    Parameters
    ----------
    windows
        In the order of time. They may come while the prediction is used: what is asked for
        waits for the windows that it needs.
    min_confidence
        In [0, 1]: answers that are less probable are ``UNSURE``.
    """

    def __init__(self, windows: Iterable[WindowPrediction], min_confidence: float = 0.0) -> None:
        self.min_confidence = min_confidence
        self._known: list[WindowPrediction] = []
        self._coming = iter(windows)

    @property
    def windows(self) -> list[WindowPrediction]:
        """All of them."""
        self._known += self._coming
        return self._known

    def _until(self, seconds: float) -> list[WindowPrediction]:
        """Return the windows up to the first that begins after a moment."""
        while not self._known or self._known[-1].start_seconds <= seconds:
            following = next(self._coming, None)
            if following is None:
                break
            self._known.append(following)
        return self._known

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
        """Most probable emotion, or ``UNSURE``."""
        return named(self.probabilities, self.min_confidence)

    @property
    def basis(self) -> str:
        """What most of the answer's weight rests on."""
        weights: dict[str, float] = {}
        for window in self.windows:
            weights[window.basis] = weights.get(window.basis, 0.0) + window.weight + SMALLEST_WEIGHT
        return max(weights, key=weights.__getitem__)

    def at(self, seconds: float) -> NDArray[np.float32]:
        """Mean of the windows that hear and see a moment; the nearest one's if none does."""
        windows = self._until(seconds)
        following = bisect_right(windows, seconds, key=lambda window: window.start_seconds)
        last = max(0, following - 1)
        around = takewhile(
            lambda number: windows[number].end_seconds > seconds, range(following - 1, -1, -1)
        )
        covering = [windows[number].probabilities for number in around]
        if covering:
            return np.mean(covering, axis=0)
        return min(
            windows[last : following + 1],
            key=lambda window: min(
                abs(window.start_seconds - seconds), abs(window.end_seconds - seconds)
            ),
        ).probabilities


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
