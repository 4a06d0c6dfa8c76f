"""A trained model as inference needs it: ONNX Runtime where there is a file for it, else Keras."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.spec import FeatureSpec
from train import description
from train.description import KERAS_NAME, ONNX_NAME
from train.heads import HEADS, INPUTS

log = logging.getLogger(__name__)

BACKENDS = ("auto", "onnx", "keras")
MOST_THREADS = 4
"""The graph is small: more threads wait for each other."""

Tensors = Mapping[str, NDArray]


@dataclass(frozen=True)
class Model:
    """A trained model, ready to answer.

    Parameters
    ----------
    folder
        Where it lies.
    spec
        What its inputs mean.
    learned
        Heads that were trained; the answers of others mean nothing.
    inputs
        Names of its inputs.
    description
        All of ``model.json``.
    backend
        ``"onnx"`` or ``"keras"``.
    answer
        Maps inputs by name, each (batch, …), to outputs by name: ``fused``, ``audio`` and
        ``video``, probabilities (batch, 8), and where the model has them ``audio_distance`` and
        ``video_distance`` (batch, 1).
    """

    folder: Path
    spec: FeatureSpec
    learned: tuple[str, ...]
    inputs: tuple[str, ...]
    description: dict
    backend: str
    answer: Callable[[Tensors], dict[str, NDArray[np.float32]]]

    @property
    def branches(self) -> set[str]:
        """Modalities that it has learned from: ``"audio"``, ``"video"`` or both."""
        return set(INPUTS) & set(self.learned)

    @property
    def corpus(self) -> str | None:
        """What it was trained on; None where that was not recorded."""
        return self.description.get("corpus")

    @property
    def speaker_reference(self) -> str:
        """What it compares a recording with: ``"none"``, ``"neutral"`` or ``"recording"``."""
        return self.description["settings"].get("speaker_reference", "none")


def open_model(folder: Path, backend: str = "auto") -> Model:
    """Open a folder that training left.

    Parameters
    ----------
    folder
        Holds ``model.json`` and ``model.keras``, and ``model.onnx`` where it could be made.
    backend
        ``"onnx"`` needs ``model.onnx``; ``"keras"`` imports TensorFlow; ``"auto"`` takes Keras
        only where there is no ``model.onnx`` of the same ``model.keras``.

    Raises
    ------
    InputError
        If a file is missing, or holds something this code cannot serve.
    """
    if backend not in BACKENDS:
        raise InputError(f"expected a backend of {', '.join(BACKENDS)}, got {backend!r}")
    content, spec = description.read(folder)
    learned = tuple(content.get("learned", HEADS))
    found = None if backend == "keras" else open_onnx(folder)
    if found is None and backend == "onnx":
        raise InputError(
            f"expected {ONNX_NAME} of the {KERAS_NAME} in {folder}, got none; "
            f"run 'make export FORMAT=onnx MODEL={folder}'"
        )
    inputs, answer = found or open_keras(folder)
    return Model(folder, spec, learned, inputs, content, "onnx" if found else "keras", answer)


def open_onnx(
    folder: Path,
) -> tuple[tuple[str, ...], Callable[[Tensors], dict[str, NDArray[np.float32]]]] | None:
    """Open ``model.onnx``; None where there is none, or one of another ``model.keras``.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = folder / ONNX_NAME
    if not path.is_file():
        return None
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(MOST_THREADS, os.cpu_count() or 1)
    options.log_severity_level = 3
    # Threads that wait would take the time of those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except onnx_errors() as error:
        raise InputError(
            f"expected a graph in {path}, got: {str(error).splitlines()[0]}; "
            f"run 'make export FORMAT=onnx MODEL={folder}'"
        ) from error
    made_from = session.get_modelmeta().custom_metadata_map.get("keras_sha256")
    if made_from != hashlib.sha256((folder / KERAS_NAME).read_bytes()).hexdigest():
        log.warning("%s is not of the %s beside it: Keras is used", path, KERAS_NAME)
        return None
    names = [output.name for output in session.get_outputs()]

    def answer(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
        return dict(zip(names, session.run(names, dict(tensors)), strict=True))

    return tuple(value.name for value in session.get_inputs()), answer


def onnx_errors() -> tuple[type[Exception], ...]:
    """Return what ONNX Runtime raises for a file that is no graph, or none that it knows."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    return tuple(getattr(state, name) for name in names)


def open_keras(
    folder: Path,
) -> tuple[tuple[str, ...], Callable[[Tensors], dict[str, NDArray[np.float32]]]]:
    """Load ``model.keras``, which imports TensorFlow.

    Raises
    ------
    InputError
        If it is damaged, or made by other code.
    """
    from train import runtime

    runtime.start_tensorflow()
    import tensorflow as tf

    from train import artefact

    network = artefact.load(folder).model
    call = tf.function(lambda tensors: network(tensors, training=False), autograph=False)

    def answer(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
        return {name: output.numpy() for name, output in call(dict(tensors)).items()}

    return tuple(network.input), answer
