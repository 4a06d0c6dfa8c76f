"""Raw file to windows to predictions, by the functions that filled the cache."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline import audio, decode, features
from pipeline.errors import InputError
from pipeline.faces import Box
from pipeline.features import Span, Window
from pipeline.spec import EMOTIONS, FeatureSpec
from train.artefact import Artefact

WINDOWS_AT_ONCE = 8
"""Windows decoded and predicted together: bounds memory, whatever the file's length."""

VOICE_AND_FACE, VOICE, FACE, PICTURE = "voice and face", "voice", "face", "picture without a face"
HEAD_OF_BASIS = {VOICE_AND_FACE: "fused", VOICE: "audio", FACE: "video", PICTURE: "video"}


@dataclass(frozen=True)
class Recording:
    """A raw file, or a video with a sound file of its own.

    Parameters
    ----------
    path
        The file as named by the user.
    video
        Where the pictures come from; None without any.
    sound
        Where the sound comes from; None without any.
    waveform
        float32 (samples,) at the spec's rate; None without sound.
    duration_seconds
        Length of the longer of the two.
    frame_rate
        Average pictures per second; 0 without any.
    """

    path: Path
    video: Path | None
    sound: Path | None
    waveform: NDArray[np.float32] | None
    duration_seconds: float
    frame_rate: float


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
        The face in pixels of the decoded picture; None without one.
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


def open_recording(path: Path, sound: Path | None, spec: FeatureSpec) -> Recording:
    """Find out what there is to see and hear, and decode the sound.

    Raises
    ------
    InputError
        If a file does not exist, cannot be read, or holds neither sound nor video.
    """
    media = decode.probe(path)
    if sound is None and media.has_audio:
        sound = path
    if sound is None and not media.has_video:
        raise InputError(f"expected sound or video in {path}, got neither; give another file")
    waveform = None if sound is None else decode.read_waveform(sound, spec.sample_rate_hz)
    heard_seconds = 0.0 if waveform is None else len(waveform) / spec.sample_rate_hz
    shown_seconds = media.duration_seconds if media.has_video else 0.0
    return Recording(
        path,
        path if media.has_video else None,
        sound,
        waveform,
        max(heard_seconds, shown_seconds),
        media.frame_rate,
    )


def plan_windows(recording: Recording, spec: FeatureSpec) -> list[tuple[Span, float]]:
    """Cover a recording with windows that overlap by half.

    One of them is the very window that training would cut from this recording; the others are laid
    out from it in both directions, the outermost moved inwards to the recording's ends.

    Returns
    -------
    list of (Span, float)
        Each window with the part of it that is voice (1 for a recording without sound).
    """
    total = round(recording.duration_seconds * spec.sample_rate_hz)
    latest = max(0, total - spec.window_samples)
    waveform = recording.waveform
    if waveform is None or audio.is_silent(waveform):
        first, voiced = latest // 2 if spec.window_placement == "voice" else 0, None
    else:
        first = features.clip_span(waveform, spec).start
        voiced = librosa.effects.split(waveform, top_db=spec.voice_threshold_db)
    step = spec.window_samples // 2
    before, after = -(-first // step), -(-max(0, latest - first) // step)
    starts = sorted(
        {
            min(max(0, first + number * step), max(latest, first))
            for number in range(-before, after + 1)
        }
    )
    return [(Span(start, spec.window_samples), voice_part(start, voiced, spec)) for start in starts]


def voice_part(start: int, voiced: NDArray[np.int64] | None, spec: FeatureSpec) -> float:
    """Part of a window that lies in the voiced stretches of a recording."""
    if voiced is None:
        return 1.0
    end = start + spec.window_samples
    shared = np.minimum(voiced[:, 1], end) - np.maximum(voiced[:, 0], start)
    return float(np.maximum(0, shared).sum() / spec.window_samples)


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
            box,
            weight,
        )


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


def write_predictions(prediction: Prediction, recording: Recording, stem: Path) -> list[Path]:
    """Write the prediction as ``<stem>.json`` and ``<stem>.csv``.

    Returns
    -------
    list of Path
        The two files.
    """
    answer = prediction.probabilities
    content = {
        "file": recording.path.name,
        "duration_seconds": round(recording.duration_seconds, 3),
        **answered(answer),
        "basis": prediction.basis,
        "voice": answered(prediction.mean("voice")),
        "face": answered(prediction.mean("face")),
        "notes": prediction.notes,
        "windows": [
            {
                "start_seconds": round(window.start_seconds, 3),
                "end_seconds": round(window.end_seconds, 3),
                **answered(window.probabilities),
                "basis": window.basis,
                "voice": answered(window.voice),
                "face": answered(window.face),
                "face_box": None if window.box is None else [round(side) for side in window.box],
                "weight": round(window.weight, 3),
            }
            for window in prediction.windows
        ],
    }
    json_path, csv_path = stem.with_name(f"{stem.name}.json"), stem.with_name(f"{stem.name}.csv")
    json_path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    with csv_path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["start_seconds", "end_seconds", "emotion", *EMOTIONS, "voice", "face", "basis"]
        )
        for window in prediction.windows:
            parts = [
                part and part["emotion"] for part in map(answered, (window.voice, window.face))
            ]
            writer.writerow(
                [
                    f"{window.start_seconds:.3f}",
                    f"{window.end_seconds:.3f}",
                    window.emotion,
                    *(f"{value:.4f}" for value in window.probabilities),
                    *parts,
                    window.basis,
                ]
            )
    return [json_path, csv_path]


def answered(probabilities: NDArray[np.float32] | None) -> dict | None:
    """Emotion, its probability and all probabilities, ready for JSON."""
    if probabilities is None:
        return None
    best = int(probabilities.argmax())
    return {
        "emotion": EMOTIONS[best],
        "probability": round(float(probabilities[best]), 4),
        "probabilities": {
            name: round(float(value), 4)
            for name, value in zip(EMOTIONS, probabilities, strict=True)
        },
    }
