"""What inference answers: a prediction of each window and face, and of the recording as a whole."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infer.prediction.smooth import named
from infer.reading.tracks import Track
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from pipeline.features.detectors import Box
from pipeline.spec import EMOTIONS

VOICE_AND_FACE, VOICE, FACE, PICTURE = "voice and face", "voice", "face", "picture without a face"
NOTHING = "nothing"
"""What an answer may rest on; of nothing all emotions are as probable."""

SMALLEST_WEIGHT = 1e-6
"""Lets windows without voice decide where there are no others."""

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class WindowPrediction:
    """What one window says of one face, or without a face.

    Parameters
    ----------
    start_seconds, end_seconds
        Its stretch of the recording.
    track
        Number of the face; None where none was found.
    probabilities
        float32 (8,): the answer of this window alone.
    voice, face
        float32 (8,): what each modality's own head says; None without that modality.
    basis
        What the answer rests on: one of ``VOICE_AND_FACE``, ``VOICE``, ``FACE``, ``PICTURE``,
        ``NOTHING``.
    box
        The square around the face that was read, in pixels of the recording; None without one.
    face_confidence
        How sure the detector was of the face, in [0, 1]; None without one.
    weight
        Part of the window that is voice, in [0, 1]: how much it counts in the whole answer.
    smoothed, label
        The answer after :class:`infer.prediction.smooth.Smoother`, and what is shown for it.
    unlike_training
        Which of ``"voice"`` and ``"face"`` are unlike anything the model was trained on.
    voice_of
        Number of the face that the voice belongs to, where several are there and that is decidable;
        the answers of the others come from the face alone. None otherwise: all share the voice.
    """

    start_seconds: float
    end_seconds: float
    track: int | None
    probabilities: Probabilities
    voice: Probabilities | None
    face: Probabilities | None
    basis: str
    box: Box | None
    face_confidence: float | None
    weight: float
    smoothed: Probabilities
    label: str
    unlike_training: tuple[str, ...] = ()
    voice_of: int | None = None

    @property
    def time_seconds(self) -> float:
        """Middle of the window."""
        return (self.start_seconds + self.end_seconds) / 2

    @property
    def emotion(self) -> str:
        """Most probable emotion of this window alone."""
        return named(self.probabilities)

    @property
    def probability(self) -> float:
        """Its probability, in [0, 1]."""
        return float(self.probabilities.max())

    def record(self) -> dict[str, Any]:
        """Return the prediction as a flat row of a table, without arrays."""
        row: dict[str, Any] = {
            "time_seconds": round(self.time_seconds, 3),
            "start_seconds": round(self.start_seconds, 3),
            "end_seconds": round(self.end_seconds, 3),
            "track": self.track,
            "emotion": self.emotion,
            "probability": round(self.probability, 4),
            "label": self.label,
            "basis": self.basis,
        }
        for part, values in (("voice", self.voice), ("face", self.face)):
            row[part] = None if values is None else named(values)
            row[f"{part}_probability"] = None if values is None else round(float(values.max()), 4)
        for number, side in enumerate(Box._fields):
            row[f"box_{side}"] = None if self.box is None else round(self.box[number], 1)
        confidence = self.face_confidence
        row["face_confidence"] = None if confidence is None else round(confidence, 3)
        row["weight"] = round(self.weight, 3)
        row["unlike_training"] = " ".join(self.unlike_training)
        probabilities = (round(float(value), 4) for value in self.probabilities)
        row |= dict(zip(EMOTIONS, probabilities, strict=True))
        return row | {"voice_of": self.voice_of}


@dataclass(frozen=True)
class Result:
    """What a model says of a recording.

    Parameters
    ----------
    path
        What was read; ``"arrays"`` where that was no file.
    duration_seconds, frame_rate, size_px
        Length, frames per second, width and height; zeros for what it lacks.
    windows
        In the order of time; of one time, in the order of tracks.
    tracks
        The faces, with their boxes in pixels of the recording.
    notes
        What to know about the answer: what was missing, unsure or shared.
    min_confidence
        In [0, 1]: answers that are less probable are ``"unsure"``.
    """

    path: Path
    duration_seconds: float
    frame_rate: float
    size_px: tuple[int, int]
    windows: tuple[WindowPrediction, ...]
    tracks: tuple[Track, ...]
    notes: tuple[str, ...]
    min_confidence: float = 0.0

    @property
    def file(self) -> str:
        """Name of what was read, as text that any file takes."""
        return printable(self.path.name)

    @cached_property
    def main(self) -> list[WindowPrediction]:
        """One prediction of each window: of the face that most windows show, else any.

        Of faces that are shown equally often, the one that the voice belongs to more often.
        """
        counts: dict[int | None, tuple[int, int]] = {}
        for window in self.windows:
            shown, speaking = counts.get(window.track, (0, 0))
            there = window.track is not None
            counts[window.track] = (
                shown + there,
                speaking + (there and window.voice_of == window.track),
            )
        chosen: dict[float, WindowPrediction] = {}
        for window in self.windows:
            known = chosen.get(window.start_seconds)
            if known is None or counts[window.track] > counts[known.track]:
                chosen[window.start_seconds] = window
        return list(chosen.values())

    @cached_property
    def heard(self) -> list[WindowPrediction]:
        """One prediction of each window in which a voice is heard, whoever it belongs to."""
        chosen: dict[float, WindowPrediction] = {}
        for window in self.windows:
            if window.voice is not None:
                chosen.setdefault(window.start_seconds, window)
        return list(chosen.values())

    @property
    def probabilities(self) -> Probabilities:
        """The answer as a whole, float32 (8,): the mean of :attr:`main`, weighted by voice."""
        mean = weighted_mean(self.main, "probabilities")
        assert mean is not None, "every window has an answer"
        return mean

    @property
    def emotion(self) -> str:
        """Most probable emotion as a whole, or ``"unsure"``."""
        return named(self.probabilities, self.min_confidence)

    @property
    def probability(self) -> float:
        """Its probability, in [0, 1]."""
        return float(self.probabilities.max())

    @property
    def voice(self) -> Probabilities | None:
        """What the voice alone says, float32 (8,); None without one."""
        return weighted_mean(self.heard, "voice")

    @property
    def face(self) -> Probabilities | None:
        """What the face alone says, float32 (8,); None without one."""
        return weighted_mean(self.main, "face")

    @property
    def basis(self) -> str:
        """What most of the answer's weight rests on."""
        weights: dict[str, float] = {}
        for window in self.main:
            weights[window.basis] = weights.get(window.basis, 0.0) + window.weight + SMALLEST_WEIGHT
        return max(weights, key=weights.__getitem__)

    def of(self, track: int | None) -> list[WindowPrediction]:
        """Return the windows of one face, or with None those without any."""
        return [window for window in self.windows if window.track == track]

    def records(self) -> list[dict[str, Any]]:
        """Return a row for each window and face, as ``pandas.DataFrame`` takes them."""
        return [window.record() for window in self.windows]

    def to_dataframe(self) -> Any:
        """Return :meth:`records` as a ``pandas.DataFrame``.

        Raises
        ------
        InputError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(
                "expected pandas for a data frame, got none; 'pip install pandas', or use records()"
            ) from error
        return pandas.DataFrame(self.records())

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        least = self.min_confidence
        return {
            "file": self.file,
            "duration_seconds": round(self.duration_seconds, 3),
            "frame_rate": round(self.frame_rate, 3),
            "width_px": self.size_px[0],
            "height_px": self.size_px[1],
            "min_confidence": least,
            **(answered(self.probabilities, least) or {}),
            "basis": self.basis,
            "voice": answered(self.voice, least),
            "face": answered(self.face, least),
            "notes": list(self.notes),
            "tracks": [self.described(track) for track in self.tracks],
            "windows": [described(window, least) for window in self.windows],
        }

    def described(self, track: Track) -> dict[str, Any]:
        """Return a track, ready for JSON: its answer, and where it was found at which times."""
        return {
            "track": track.number,
            "start_seconds": round(track.times[0], 3),
            "end_seconds": round(track.times[-1], 3),
            **(answered(weighted_mean(self.of(track.number), "probabilities")) or {}),
            "boxes": [
                [round(time, 3), *(round(side, 1) for side in box), round(confidence, 3)]
                for time, box, confidence in zip(
                    track.times, track.boxes, track.confidences, strict=True
                )
            ],
        }


def weighted_mean(windows: Sequence[WindowPrediction], part: str) -> Probabilities | None:
    """Mean of ``probabilities``, ``voice`` or ``face`` over the windows that have it."""
    having = [window for window in windows if getattr(window, part) is not None]
    if not having:
        return None
    weights = np.array([window.weight for window in having], np.float32)
    if not weights.any():
        weights[:] = 1.0
    values = np.array([getattr(window, part) for window in having])
    return (weights[:, np.newaxis] * values).sum(axis=0) / weights.sum()


def answered(probabilities: Probabilities | None, min_confidence: float = 0.0) -> dict | None:
    """Emotion or ``"unsure"``, the highest probability and all of them, ready for JSON."""
    if probabilities is None:
        return None
    return {
        "emotion": named(probabilities, min_confidence),
        "probability": round(float(probabilities.max()), 4),
        "probabilities": {
            name: round(float(value), 4)
            for name, value in zip(EMOTIONS, probabilities, strict=True)
        },
    }


def described(window: WindowPrediction, min_confidence: float) -> dict[str, Any]:
    """Return a prediction, ready for JSON."""
    box, confidence = window.box, window.face_confidence
    return {
        "start_seconds": round(window.start_seconds, 3),
        "end_seconds": round(window.end_seconds, 3),
        "track": window.track,
        **(answered(window.probabilities, min_confidence) or {}),
        "label": window.label,
        "smoothed": [round(float(value), 4) for value in window.smoothed],
        "basis": window.basis,
        "voice": answered(window.voice, min_confidence),
        "face": answered(window.face, min_confidence),
        "face_box": None if box is None else [round(side, 1) for side in box],
        "face_confidence": None if confidence is None else round(confidence, 3),
        "weight": round(window.weight, 3),
        "unlike_training": list(window.unlike_training),
        "voice_of": window.voice_of,
    }


def notes(
    windows: Sequence[WindowPrediction],
    there: Mapping[str, bool],
    branches: Collection[str],
    min_confidence: float,
) -> Iterator[str]:
    """Say what was missing, shared, unsure or unlike training, and where.

    Parameters
    ----------
    windows
        The predictions.
    there
        Whether the recording has ``"audio"`` and ``"video"``.
    branches
        What the model has learned from; that others are left out is said of the model.
    min_confidence
        Probability below which an answer is ``"unsure"``.
    """
    heard = any(window.voice is not None for window in windows)
    count = len({window.start_seconds for window in windows})
    faceless = sum(window.basis in (VOICE, PICTURE) for window in windows)
    if "audio" in branches and not heard:
        faces = any(window.basis == FACE for window in windows)
        instead = ": the answer comes from the face alone" if faces else ""
        yield f"{'the sound is silent' if there['audio'] else 'no sound'}{instead}"
    if "video" in branches and not there["video"]:
        yield f"no video{': the answer comes from the voice alone' if heard else ''}"
    elif "video" in branches and faceless:
        instead = "the voice alone, or from the whole picture if there is none"
        instead = instead if heard else "the whole picture"
        yield f"no face in {faceless} of {count} windows: there the answer comes from {instead}"
    empty = sum(window.basis == NOTHING for window in windows)
    if empty:
        yield f"nothing is heard or seen in {empty} of {count} windows: unsure"
    several = {window.track for window in windows if window.track is not None}
    if len(several) > 1:
        yield f"{len(several)} faces{whose_voice(windows) if heard else ''}"
    unsure = sum(window.probability < min_confidence for window in windows)
    if unsure:
        yield f"less probable than {min_confidence:g} in {unsure} of {len(windows)} answers: unsure"
    for part in ("voice", "face"):
        unlike = sum(part in window.unlike_training for window in windows)
        if unlike:
            yield (
                f"the {part} is unlike anything the model was trained on in {unlike} of "
                f"{len(windows)} answers"
            )


def whose_voice(windows: Sequence[WindowPrediction]) -> str:
    """Say in how many windows with several faces it is known whose voice is heard."""
    together: dict[float, list[WindowPrediction]] = {}
    for window in windows:
        if window.track is not None:
            together.setdefault(window.start_seconds, []).append(window)
    shared = [each[0].voice_of is None for each in together.values() if len(each) > 1]
    known = shared.count(False)
    if not known:
        return "; whose voice is heard is not known: each face's answer is made with the same voice"
    return (
        f"; in {known} of {len(shared)} windows with several the voice belongs to the face that "
        "moves its mouth with it, and the answers of others come from the face alone"
        + ("; in the rest each face's answer is made with the same voice" if any(shared) else "")
    )
