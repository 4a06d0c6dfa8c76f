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
    return averages(model, source, None if own else sound)


def averages(model: Model, path: Path, sound: Path | None) -> References:
    """Average what the model itself puts out of a recording, compared with nothing.

    Windows with less than ``LEAST_VOICE`` count where no other has more.

    Raises
    ------
    InputError
        If no window has a voice and a face.
    """
    spec = model.spec
    cells = spec.frame_size_px // CELL_PX
    nothing = {
        "mfcc_reference": np.zeros((1, spec.mfcc_count), np.float32),
        "frames_reference": np.zeros((1, cells, cells, DIRECTIONS), np.float32),
    }
    counts = {True: 0, False: 0}
    sums = {
        voiced: {name: np.zeros_like(zeros[0]) for name, zeros in nothing.items()}
        for voiced in counts
    }
    for weight, tensors in rows_of(model, path, sound):
        answer, voiced = model.answer({**tensors, **nothing}), weight >= LEAST_VOICE
        counts[voiced] += 1
        for name, total in sums[voiced].items():
            total += answer[name.replace("reference", "average")][0]
    if not any(counts.values()):
        raise InputError(
            f"expected the voice and the face of the person in {path}, got neither together; "
            "give another recording"
        )
    used = counts[True] > 0
    return {name: total / counts[used] for name, total in sums[used].items()}


def rows_of(
    model: Model, path: Path, sound: Path | None
) -> Iterator[tuple[float, dict[str, NDArray]]]:
    """Yield each window of a recording that has a voice and a face: its voice, and its tensors."""
    spec = model.spec
    recording = open_recording(path, sound, spec)
    # End to end: halves that overlap would count twice.
    spans = plan_windows(recording, spec)[::2]
    search = FaceSearch(spec, spans)
    coming: Iterator[Timed] = iter(())
    if recording.video is not None and spec.frame_sampling == "spread":
        coming = decoded(recording.video, spans, spec, Options().threads, recording.damage)
    answering = Answering(model, Options())
    for seen in read_windows(recording, spans, spec, search, coming):
        face = max(seen.faces, key=lambda face: face.square.width, default=None)
        basis = basis_of(seen.window, face, spec)
        if basis == VOICE_AND_FACE or (basis == VOICE and recording.video is None):
            yield seen.weight, answering.tensors(seen.window, (face,))
