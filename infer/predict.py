"""Windows of a recording to predictions, by the functions that filled the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from infer.ahead import ahead
from infer.answers import (
    FACE,
    PICTURE,
    SMALLEST_WEIGHT,
    VOICE,
    VOICE_AND_FACE,
    Prediction,
    WindowPrediction,
)
from infer.recording import Recording, plan_windows
from pipeline import audio, features
from pipeline.errors import InputError
from pipeline.faces import Box
from pipeline.features import Span, Window
from pipeline.spec import FeatureSpec
from train import confidence, rest
from train.artefact import Artefact

WINDOWS_AT_ONCE = 8
"""Windows decoded and predicted together: bounds memory, whatever the file's length."""

HEAD_OF_BASIS = {VOICE_AND_FACE: "fused", VOICE: "audio", FACE: "video", PICTURE: "video"}


def predict(
    recording: Recording,
    artefact: Artefact,
    min_confidence: float = 0.0,
    person: Mapping[str, NDArray[np.float64]] | None = None,
) -> Prediction:
    """Predict every window of a recording.

    Parameters
    ----------
    recording
        What to hear and see.
    artefact
        A trained model with its spec.
    min_confidence
        In [0, 1]: answers that are less probable are ``UNSURE``.
    person
        How the person is at rest, see :func:`at_rest`; None knows nothing of the person.

    Returns
    -------
    Prediction

    Raises
    ------
    MediaError
        If the video cannot be read.
    """
    windows = predict_windows(recording, artefact, person or {})
    return Prediction(ahead(windows, WINDOWS_AT_ONCE), min_confidence)


def at_rest(recording: Recording, artefact: Artefact) -> dict[str, NDArray[np.float64]]:
    """Learn from a recording how a person is at rest.

    Parameters
    ----------
    recording
        A few seconds of the person, neutral.
    artefact
        A trained model.

    Returns
    -------
    dict of str to ndarray of float64, shape (8,)
        See :func:`train.rest.levels`; without the heads that had nothing to hear or see.

    Raises
    ------
    InputError
        If the model was trained without people at rest, or there is no voice and no face.
    """
    if not artefact.rest:
        raise InputError(
            "expected a model that knows people at rest, got one whose validation actors have no "
            "neutral clips; train with some or leave --calibrate away"
        )
    windows = predict(recording, dataclasses.replace(artefact, temperatures={})).windows
    both = [window for window in windows if window.basis == VOICE_AND_FACE]
    said = {
        "fused": [(window.probabilities, window.weight) for window in both],
        "audio": [(window.voice, window.weight) for window in windows],
        "video": [(window.face, window.weight) for window in windows if window.basis != PICTURE],
    }
    found: dict[str, NDArray[np.float64]] = {}
    for head, answers in said.items():
        having = [answer for answer in answers if answer[0] is not None]
        if having:
            values, weights = map(np.array, zip(*having, strict=True))
            found |= rest.levels({head: values}, weights + SMALLEST_WEIGHT)
    if not found:
        raise InputError(
            f"expected the voice or the face of the person in {recording.path}, got neither; "
            "give another recording"
        )
    return found


def predict_windows(
    recording: Recording, artefact: Artefact, person: Mapping[str, NDArray[np.float64]]
) -> Iterator[WindowPrediction]:
    """Predict every window of a recording, reading it once from its beginning to its end."""
    planned = plan_windows(recording, artefact.spec)
    spans = [span for span, _ in planned]
    # One decoding thread: the other cores decode, draw and encode what has been predicted.
    read = features.read_windows(recording.waveform, recording.video, spans, artefact.spec)
    coming = zip(planned, read, strict=True)
    while group := list(islice(coming, WINDOWS_AT_ONCE)):
        yield from predict_group(recording, artefact, group, person)


def predict_group(
    recording: Recording,
    artefact: Artefact,
    group: Sequence[tuple[tuple[Span, float], Window]],
    person: Mapping[str, NDArray[np.float64]],
) -> Iterator[WindowPrediction]:
    """Predict some windows in one batch."""
    spec = artefact.spec
    boxes = [features.find_face(window, spec) for _, window in group]
    rows = [
        features.featurize(window, box, spec) for (_, window), box in zip(group, boxes, strict=True)
    ]
    outputs = artefact.model(
        {
            "mfcc": np.stack([row.mfcc for row in rows]),
            "frames": np.stack([row.frames for row in rows]),
        },
        training=False,
    )
    own = {name: np.asarray(output) for name, output in outputs.items()}
    related = rest.relate(own, person, artefact.rest)
    heads = confidence.temper(related, artefact.temperatures)
    for number, (((span, weight), window), box) in enumerate(zip(group, boxes, strict=True)):
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
