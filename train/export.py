"""A trained model as ONNX, compared with Keras before the file gets its name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache import index
from pipeline.errors import InputError
from pipeline.spec import CLEAN
from train.description import DESCRIPTION_NAME, KERAS_NAME, ONNX_NAME

log = logging.getLogger(__name__)

Tensors = Mapping[str, NDArray]
Runner = Callable[[Tensors], dict[str, NDArray[np.float32]]]

ONNX_OPSET = 17
"""Read by every ONNX Runtime since 1.12 and by ONNX Runtime Web."""

LARGEST_DIFFERENCE = 1e-4
"""Between a probability of Keras and of an export."""

DESCRIBED = ("spec", "spec_digest", "emotions", "learned", "settings")
"""Parts of ``model.json`` that an export carries inside or beside it."""

SEED = 0

COMPARED_ROWS = 50


class ExportError(InputError):
    """A model cannot be written in a format; the message says why."""


def write_onnx(network: keras.Model, folder: Path) -> Path:
    """Write ``model.onnx`` beside the ``model.keras`` and ``model.json`` that were saved.

    Parameters
    ----------
    network
        The model that ``model.keras`` holds, with inputs and outputs by name.
    folder
        Where both are.

    Returns
    -------
    Path
        The file: same names of inputs and outputs, any batch size. Its metadata has what
        :data:`DESCRIBED` names, each as JSON, and ``keras_sha256`` of the ``model.keras`` that it
        was made from, so that an older one is not taken for it.

    Raises
    ------
    ExportError
        If an operation has no counterpart in ONNX, or ONNX Runtime's answers differ from Keras' by
        more than :data:`LARGEST_DIFFERENCE`. No file is left then, an older one neither.
    """
    path = folder / ONNX_NAME
    path.unlink(missing_ok=True)
    with atomic.replacing(path) as partial:
        convert_to_onnx(network, partial, described(folder))
        compare(network, onnx_runner(partial), examples(network), "ONNX Runtime")
    return path


def write_onnx_if_possible(network: keras.Model, folder: Path) -> None:
    """Do what :func:`write_onnx` does; where that fails, say so: inference then uses Keras."""
    try:
        write_onnx(network, folder)
    except ExportError as error:
        log.warning("%s; inference uses Keras", error)


def described(folder: Path) -> dict[str, str]:
    """Return what an export of this model carries, each part as text."""
    content = json.loads((folder / DESCRIPTION_NAME).read_text(encoding="utf-8"))
    made_from = hashlib.sha256((folder / KERAS_NAME).read_bytes()).hexdigest()
    return {name: json.dumps(content.get(name)) for name in DESCRIBED} | {"keras_sha256": made_from}


def convert_to_onnx(network: keras.Model, path: Path, metadata: Mapping[str, str]) -> None:
    """Convert a model by tf2onnx, and check the result: tf2onnx logs an error and goes on.

    Raises
    ------
    ExportError
        If the graph has an unknown operation or an input of its own.
    """
    import onnx
    import tf2onnx

    call, signature = traced(network, batch=None)
    with quiet("tf2onnx"):
        made, _ = tf2onnx.convert.from_function(call, [signature], opset=ONNX_OPSET)
    inputs = {value.name for value in made.graph.input}
    if inputs != set(signature):
        raise ExportError(
            f"expected the inputs {', '.join(sorted(signature))} of the ONNX graph, got "
            f"{', '.join(sorted(inputs))}; use constants in the layer that needs the others"
        )
    try:
        onnx.checker.check_model(made)
    except onnx.checker.ValidationError as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(
            f"expected operations that ONNX knows, got: {reason}; write the layer without it"
        ) from error
    for name, text in metadata.items():
        made.metadata_props.add(key=name, value=text)
    path.write_bytes(made.SerializeToString())


def traced(
    network: keras.Model, batch: int | None
) -> tuple[Callable[[Tensors], Tensors], dict[str, tf.TensorSpec]]:
    """Return a model's answer as a TensorFlow function, and its inputs.

    Parameters
    ----------
    network
        A model with inputs by name.
    batch
        Its batch size; None for any.
    """
    signature = {
        name: tf.TensorSpec((batch, *tensor.shape[1:]), tensor.dtype, name=name)
        for name, tensor in network.input.items()
    }
    # A loaded model that was never called may lack variables.
    network(examples(network, 1)[0], training=False)
    call = tf.function(lambda tensors: network(tensors, training=False), autograph=False)
    return call, signature


def onnx_runner(path: Path) -> Runner:
    """Return a function that answers by ONNX Runtime."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), providers=["CPUExecutionProvider"]
        )
    except (state.Fail, state.InvalidGraph, state.NotImplemented) as error:
        raise ExportError(
            f"expected a graph that ONNX Runtime loads, got: {str(error).splitlines()[0]}; "
            "write the layer in other operations"
        ) from error
    names = [output.name for output in session.get_outputs()]
    return lambda tensors: dict(zip(names, session.run(names, dict(tensors)), strict=True))


def examples(network: keras.Model, batch: int = 3) -> list[dict[str, NDArray]]:
    """Make inputs to compare answers on: random ones, zeros, and each input alone zero."""
    random = np.random.default_rng(SEED)
    drawn = {
        name: random.integers(0, 256, (batch, *tensor.shape[1:])).astype(np.uint8)
        if tensor.dtype == "uint8"
        else random.normal(0, 10, (batch, *tensor.shape[1:])).astype(tensor.dtype)
        for name, tensor in network.input.items()
    }
    nothing = {name: np.zeros_like(values) for name, values in drawn.items()}
    single = {name: values[:1] for name, values in drawn.items()}
    return [drawn, nothing, single, *({**drawn, name: nothing[name]} for name in drawn)]


def compare(
    network: keras.Model, run: Runner, batches: Sequence[Tensors], what: str
) -> dict[str, float]:
    """Compare an export's answers with Keras'.

    Returns
    -------
    dict of str to float
        The largest difference of each output.

    Raises
    ------
    ExportError
        If an output is missing, or differs by more than :data:`LARGEST_DIFFERENCE` (of
        probabilities; of distances, of a number that large).
    """
    worst: dict[str, float] = {}
    for tensors in batches:
        found = run(tensors)
        for name, expected in network(dict(tensors), training=False).items():
            expected = np.asarray(expected)
            if name not in found or found[name].shape != expected.shape:
                raise ExportError(f"expected the output {name} from {what}, got {sorted(found)}")
            scale = np.maximum(1.0, np.abs(expected))
            difference = float((np.abs(found[name] - expected) / scale).max())
            # The other way round for NaN, which no comparison holds for.
            if not difference <= LARGEST_DIFFERENCE:
                raise ExportError(
                    f"expected Keras' {name} within {LARGEST_DIFFERENCE:g} from {what}, got a "
                    f"difference of {difference:.2g}; the conversion is wrong"
                )
            worst[name] = max(worst.get(name, 0.0), difference)
    return worst


def cached_rows(root: Path, digest: str) -> tuple[dict[str, NDArray], NDArray[np.int64]]:
    """Read the first clean rows of a cache, some of each shard.

    Returns
    -------
    tensors : dict of str to ndarray
        ``mfcc`` and ``frames``.
    label : ndarray of int64

    Raises
    ------
    InputError
        If there is no cache, or one of another spec.
    """
    cache = index.find_cache(root)
    if cache.spec.digest != digest:
        raise InputError(f"expected a cache of the model's spec at {root}, got another; name it")
    each = -(-COMPARED_ROWS // len(cache.shards))
    parts: dict[str, list] = {"mfcc": [], "frames": [], "label": []}
    for facts in cache.shards:
        with h5py.File(cache.folder / facts.file) as shard:
            rows = np.flatnonzero(shard["variant"].asstr()[:] == CLEAN)[:each]
            for name, held in parts.items():
                held.append(shard[name][rows])
    tensors = {name: np.concatenate(held)[:COMPARED_ROWS] for name, held in parts.items()}
    label = tensors.pop("label")
    return tensors, label


@contextlib.contextmanager
def quiet(logger: str) -> Iterator[None]:
    """Let a library's log say nothing; what it reports as an error is checked here."""
    target = logging.getLogger(logger)
    before = target.level
    target.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        target.setLevel(before)
