"""The speaker reference of a recording, for models that compare each window with one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.prediction.model import Model
from infer.prediction.predict import Answering, Options, basis_of
from infer.prediction.results import VOICE, VOICE_AND_FACE
from infer.reading.recording import open_recording, plan_windows
from infer.reading.windows import FaceSearch, Timed, decoded, read_windows
from pipeline.errors import InputError
from pipeline.features.extract import Features

LEAST_VOICE = 0.5
"""Windows with less voice do not count, unless all have less."""

CELL_PX, DIRECTIONS = 8, 4
"""Pixels of a frame for a cell of :func:`train.models.video.edges`, and numbers of a cell."""

References = Mapping[str, NDArray[np.float32]]


def reference_of(
    model: Model, path: Path | None, sound: Path | None, own: Path | None
) -> References | None:
    """Average what a person sounds and looks like.

    Parameters
    ----------
    model
        Says whether it needs a reference, and of what.
    path, sound
        The recording that is to be read; None where that is no file.
    own
        A recording of the same person, neutral for a model of neutral references; None takes
        ``path`` itself, where the model compares with all of a person's recordings.

    Returns
    -------
    dict of str to ndarray or None
        ``mfcc_reference`` and ``frames_reference``, without a batch axis; None for a model that
        needs none.

    Raises
    ------
    InputError
        If the model needs a recording and there is none, or the other way round, or it lacks the
        person's voice or face.
    """
    kind = model.speaker_reference
    if kind == "none":
        if own is not None:
            raise InputError(
                f"expected a model with a speaker reference to compare with {own}, got one "
                "without; leave --reference away"
            )
        return None
    source = own or (path if kind == "recording" else None)
    if source is None:
        raise InputError(
            f"expected a recording of the person for a model trained with --speaker-reference "
            f"{kind}, got none; name one with --reference"
        )
    rows = rows_of(model, source, None if own else sound)
    return averages(model, rows)


def rows_of(model: Model, path: Path, sound: Path | None) -> list[Features]:
    """Return the tensors of a recording's windows that have a voice and a face.

    Raises
    ------
    InputError
        If none has.
    """
    spec = model.spec
    recording = open_recording(path, sound, spec)
    # End to end: halves that overlap would count twice.
    spans = plan_windows(recording, spec)[::2]
    search = FaceSearch(spec, spans)
    coming: Iterator[Timed] = iter(())
    if recording.video is not None and spec.frame_sampling == "spread":
        coming = decoded(recording.video, spans, spec, Options().threads)
    answering = Answering(model, Options())
    found: list[tuple[float, Features]] = []
    for seen in read_windows(recording, spans, spec, search, coming):
        face = max(seen.faces, key=lambda face: face.square.width, default=None)
        basis = basis_of(seen.window, face, spec)
        if basis == VOICE_AND_FACE or (basis == VOICE and recording.video is None):
            tensors = answering.tensors(seen.window, (face,))
            found.append((seen.weight, Features(tensors["mfcc"][0], tensors["frames"][0])))
    if not found:
        raise InputError(
            f"expected the voice and the face of the person in {path}, got neither together; "
            "give another recording"
        )
    voiced = [row for weight, row in found if weight >= LEAST_VOICE]
    return voiced or [row for _, row in found]


def averages(model: Model, rows: list[Features]) -> References:
    """Average what the model itself puts out of rows, compared with nothing."""
    spec = model.spec
    cells = spec.frame_size_px // CELL_PX
    nothing = {
        "mfcc_reference": np.zeros((1, spec.mfcc_count), np.float32),
        "frames_reference": np.zeros((1, cells, cells, DIRECTIONS), np.float32),
    }
    answers = [
        model.answer({"mfcc": row.mfcc[np.newaxis], "frames": row.frames[np.newaxis], **nothing})
        for row in rows
    ]
    return {
        name: np.mean([answer[name.replace("reference", "average")][0] for answer in answers], 0)
        for name in nothing
    }
