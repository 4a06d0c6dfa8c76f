"""Windows of a recording to predictions, by the functions that filled the cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from infer.ahead import ahead
from infer.answers import (
    FACE,
    PICTURE,
    VOICE,
    VOICE_AND_FACE,
    Prediction,
    WindowPrediction,
)
from infer.recording import Recording, plan_rest, plan_windows
from pipeline.errors import InputError
from pipeline.features import extract, mfcc
from pipeline.features.detectors import Box
from pipeline.features.extract import Features, Span, Window
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
    person: Features | None = None,
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
        How the person is at rest, see :func:`at_rest`; None for a model that knows nobody.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If the recording has no modality that the model has learned from.
    MediaError
        If the video cannot be read.
    """
    if not {"audio", "video"} & set(artefact.learned) & modalities_of(recording):
        raise InputError(
            f"expected {' or '.join(sorted({'audio', 'video'} & set(artefact.learned)))} in "
            f"{recording.path}, all that the model has learned from, got none; give another "
            "recording or another model"
        )
    windows = predict_windows(recording, artefact, person)
    return Prediction(ahead(windows, WINDOWS_AT_ONCE), min_confidence)


def modalities_of(recording: Recording) -> set[str]:
    """Name the modalities that a recording has."""
    parts = {"audio": recording.waveform, "video": recording.video}
    return {name for name, part in parts.items() if part is not None}


def learned_part(window: Window, artefact: Artefact) -> Window:
    """Leave out of a window what the model has not learned from: its head means nothing."""
    return Window(
        window.waveform if "audio" in artefact.learned else None,
        window.frames if "video" in artefact.learned else None,
    )


def at_rest(recording: Recording | None, artefact: Artefact) -> Features | None:
    """Read how a person is at rest, for a model that is to know it.

    Parameters
    ----------
    recording
        A few seconds of the person, neutral; None where there is none.
    artefact
        A trained model.

    Returns
    -------
    Features or None
        Dealt from the recording's windows with voice and face, see :func:`train.rest.deal`; None
        for a model that knows nobody.

    Raises
    ------
    InputError
        If the model needs a recording and there is none, or the other way round, or it lacks the
        person's voice or face.
    """
    if recording is None:
        if artefact.calibrated:
            raise InputError(
                "expected a recording of the person at rest for a model trained with --calibrated, "
                "got none; give one with --calibrate"
            )
        return None
    if not artefact.calibrated:
        raise InputError(
            f"expected a model trained with --calibrated to read against {recording.path}, got one "
            "that knows nobody; train one ('make train CALIBRATED=1') or leave --calibrate away"
        )
    spec = artefact.spec
    spans = plan_rest(recording, spec, rest.CHOICES)
    rows = []
    for window in extract.read_windows(recording.waveform, recording.video, spans, spec):
        box = extract.find_face(window, spec)
        basis = basis_of(window, box, spec)
        if basis == VOICE_AND_FACE:
            rows.append(extract.featurize(window, box, spec))
    if not rows:
        raise InputError(
            f"expected the voice and the face of the person in {recording.path}, got {basis} "
            "alone; give another recording"
        )
    return Features(*rest.deal(*(np.stack(tensors) for tensors in zip(*rows, strict=True))))


def predict_windows(
    recording: Recording, artefact: Artefact, person: Features | None
) -> Iterator[WindowPrediction]:
    """Predict every window of a recording, reading it once from its beginning to its end."""
    planned = plan_windows(recording, artefact.spec)
    spans = [span for span, _ in planned]
    # One decoding thread: the other cores decode, draw and encode what has been predicted.
    read = extract.read_windows(recording.waveform, recording.video, spans, artefact.spec)
    coming = zip(planned, read, strict=True)
    while group := list(islice(coming, WINDOWS_AT_ONCE)):
        yield from predict_group(recording, artefact, group, person)


def predict_group(
    recording: Recording,
    artefact: Artefact,
    group: Sequence[tuple[tuple[Span, float], Window]],
    person: Features | None,
) -> Iterator[WindowPrediction]:
    """Predict some windows in one batch."""
    spec = artefact.spec
    group = [(planned, learned_part(window, artefact)) for planned, window in group]
    boxes = [extract.find_face(window, spec) for _, window in group]
    rows = [
        extract.featurize(window, box, spec) for (_, window), box in zip(group, boxes, strict=True)
    ]
    mfcc, frames = np.stack([row.mfcc for row in rows]), np.stack([row.frames for row in rows])
    if person is not None:
        known = (np.stack([tensor] * len(rows)) for tensor in person)
        mfcc, frames = rest.relate(mfcc, frames, *known)
    outputs = artefact.model({"mfcc": mfcc, "frames": frames}, training=False)
    own = {name: np.asarray(output) for name, output in outputs.items()}
    heads = confidence.temper(own, artefact.temperatures)
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
    width = next(frame.shape[1] for frame in window.frames or [] if frame is not None)
    return Box(*(side * recording.width_px / width for side in box))


def basis_of(window: Window, box: Box | None, spec: FeatureSpec) -> str:
    """Say what there is to go by in a window."""
    heard = window.waveform is not None and not mfcc.is_silent(window.waveform, spec)
    shown = window.frames is not None and any(frame is not None for frame in window.frames)
    seen = shown and (box is not None or spec.crop == "whole")
    if heard or not shown:
        return VOICE_AND_FACE if seen else VOICE
    return FACE if seen else PICTURE
