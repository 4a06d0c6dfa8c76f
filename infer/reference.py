"""The speaker reference of a recording, for models that compare each window with one.

Needs Keras: the edges of faces are averaged by layers of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.model import Model
from infer.predict import Answering, Options, basis_of
from infer.recording import open_recording, plan_windows
from infer.results import VOICE, VOICE_AND_FACE
from infer.windows import FaceSearch, decoded, read_windows
from pipeline.errors import InputError
from pipeline.features.extract import Features
from pipeline.spec import FeatureSpec
from train import runtime

LEAST_VOICE = 0.5
"""Windows with less voice do not count, unless all have less."""

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
    return averages(rows, model.spec)


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
    search, coming = FaceSearch(spec, spans), iter(())
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


def averages(rows: list[Features], spec: FeatureSpec) -> References:
    """Average rows over time and over each other, see :func:`train.data.speaker.averages`."""
    runtime.start_tensorflow()
    import keras

    from train.models import layers, video

    frames = keras.Input(spec.frames_shape, dtype="uint8", name="frames")
    mfcc = keras.Input(spec.mfcc_shape, name="mfcc")
    outputs = {
        "mfcc_reference": layers.ColumnMean()(mfcc),
        "frames_reference": keras.ops.mean(video.edges(frames), axis=1),
    }
    network = keras.Model({"mfcc": mfcc, "frames": frames}, outputs)
    stacked = dict(zip(("mfcc", "frames"), map(np.stack, zip(*rows, strict=True)), strict=True))
    answer = network.predict(stacked, verbose=0)
    return {name: values.mean(axis=0) for name, values in answer.items()}
