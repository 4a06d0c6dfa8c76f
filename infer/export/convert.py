"""A trained model in formats that need no Keras: ONNX, LiteRT and TensorFlow's SavedModel."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.errors import InputError
from train.description import ONNX_NAME
from train.export import (
    DESCRIBED,
    Runner,
    Tensors,
    compare,
    described,
    examples,
    onnx_runner,
    quiet,
    traced,
    write_onnx,
)

EXPORT_FOLDER = "export"


def write_saved_model(network: keras.Model, folder: Path, batch: int | None = None) -> None:
    """Write TensorFlow's SavedModel, whose signature ``serve`` takes and gives tensors by name."""
    call, signature = traced(network, batch)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", call, input_signature=[signature])
    archive.write_out(str(folder), verbose=False)


def write_litert(network: keras.Model, path: Path, int8: bool = False) -> None:
    """Write a LiteRT file, of one row at a time.

    Parameters
    ----------
    network
        The model.
    path
        The file.
    int8
        Whether weights are stored in 8 bits, a quarter of the size; activations stay float.

    Notes
    -----
    A recurrent layer has a counterpart in LiteRT only for a batch size that is known.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_saved_model(network, Path(folder), batch=1)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        if int8:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path.write_bytes(converter.convert())


def write_int8_onnx(source: Path, path: Path) -> None:
    """Write an ONNX file with the weights of matrix products in 8 bits."""
    from onnxruntime import quantization

    with quiet("root"):
        quantization.quantize_dynamic(source, path, op_types_to_quantize=["MatMul", "Gemm"])


def litert_runner(path: Path) -> Runner:
    """Return a function that answers by LiteRT, row by row."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    call = Interpreter(model_path=str(path)).get_signature_runner("serve")

    def answer(tensors: Tensors) -> dict[str, NDArray[np.float32]]:
        count = len(next(iter(tensors.values())))
        rows = [call(**{k: v[n : n + 1] for k, v in tensors.items()}) for n in range(count)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return answer


def saved_model_runner(folder: Path) -> Runner:
    """Return a function that answers by a SavedModel."""
    loaded = tf.saved_model.load(str(folder))
    return lambda tensors: {k: v.numpy() for k, v in loaded.serve(dict(tensors)).items()}


RUNNERS = {"onnx": onnx_runner, "litert": litert_runner, "saved_model": saved_model_runner}


def export(network: keras.Model, folder: Path, kind: str, int8: bool) -> Path:
    """Write a format into ``export/`` in the model's folder, with a description beside it.

    Parameters
    ----------
    network
        The model in the folder.
    folder
        The model's.
    kind
        ``"onnx"``, ``"litert"`` or ``"saved_model"``.
    int8
        Whether weights are stored in 8 bits.

    Returns
    -------
    Path
        The file, or the folder of a SavedModel. Float ONNX is the ``model.onnx`` that inference
        uses.

    Raises
    ------
    InputError
        If the format cannot hold the model, or has no 8 bits.
    """
    if kind == "onnx" and not int8:
        return write_onnx(network, folder)
    if kind == "saved_model" and int8:
        raise InputError("expected a format with 8 bits, got saved_model; use onnx or litert")
    target = folder / EXPORT_FOLDER
    target.mkdir(exist_ok=True)
    name = {"onnx": "model{}.onnx", "litert": "model{}.tflite", "saved_model": "saved_model"}[kind]
    path = target / name.format("-int8" if int8 else "")
    with tempfile.TemporaryDirectory(dir=target) as place:
        made = Path(place) / path.name
        if kind == "saved_model":
            write_saved_model(network, made)
        elif kind == "litert":
            write_litert(network, made, int8)
        else:
            source = folder / ONNX_NAME
            write_int8_onnx(source if source.is_file() else write_onnx(network, folder), made)
        if not int8:
            compare(network, RUNNERS[kind](made), examples(network), kind)
        if path.is_dir():
            shutil.rmtree(path)
        made.replace(path)
    beside = path.with_name(f"{path.name}.json")
    inputs = {n: [t.dtype, *t.shape[1:]] for n, t in network.input.items()}
    held = described(folder)
    content = {name: json.loads(held[name]) for name in DESCRIBED}
    text = json.dumps(content | {"inputs": inputs, "outputs": sorted(network.output)}, indent=1)
    atomic.write_durably(beside, text.encode())
    return path


def judged(network: keras.Model, answer: Runner, tensors: Tensors, label: NDArray) -> str:
    """Compare an export's fused answers on cached rows with Keras' and with what is true."""
    expected = np.asarray(network(dict(tensors), training=False)["fused"])
    found = answer(tensors)["fused"]
    same = int((found.argmax(1) == expected.argmax(1)).sum())
    right = [100 * float((values.argmax(1) == label).mean()) for values in (expected, found)]
    return (
        f"{len(label)} cached rows: largest difference {np.abs(found - expected).max():.2g}, the "
        f"same emotion in {same}; accuracy {right[0]:.1f} % by Keras, {right[1]:.1f} % by this"
    )


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
