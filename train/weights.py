"""Weights and optimizer of a training as one HDF5 file, made in memory and written in one step.

HDF5 may crash when it closes a file that the disk refused, or when it opens a damaged one: it sees
neither here. What is read is compared with its hash first.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import h5py
import keras
import numpy as np

from pipeline import atomic
from pipeline.errors import InputError

SUFFIX = ".weights.h5"


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Variables of a compiled model and of its optimizer, by the names they have in a file.

    Keras numbers the optimizers of a process, so those variables are known by their place.
    """
    named = {f"model/{variable.path}": variable for variable in model.weights}
    named |= {
        f"optimizer/{place}": variable for place, variable in enumerate(model.optimizer.variables)
    }
    return named


def save(model: keras.Model, path: Path) -> str:
    """Write weights and optimizer of a compiled model.

    Parameters
    ----------
    model
        Gives them.
    path
        What it is called once it is whole.

    Returns
    -------
    str
        SHA-256 of the file, in hexadecimal.

    Raises
    ------
    OSError
        If the disk refuses; there is no file then.
    """
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, variable in variables(model).items():
            file[name] = np.asarray(variable)
    atomic.write_durably(path, memory.getbuffer())
    return hashlib.sha256(memory.getbuffer()).hexdigest()


def load(model: keras.Model, path: Path, sha256: str) -> None:
    """Give a compiled model the weights and the optimizer of a file.

    Parameters
    ----------
    model
        Takes them; built, and so is its optimizer.
    path, sha256
        The file and what :func:`save` said of it.

    Raises
    ------
    InputError
        If the file is missing, is not what was written, or holds another network.
    """
    again = f"train without --resume, or remove {path.parent}"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"expected weights at {path}, got nothing; {again}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(f"expected {path} as it was written, got other content; {again}")
    wanted = variables(model)
    with h5py.File(io.BytesIO(content), "r") as file:
        held = {}
        file.visititems(
            lambda name, item: held.update({name: item}) if hasattr(item, "shape") else None
        )
        shapes = {name: item.shape for name, item in held.items()}
        if shapes != {name: tuple(variable.shape) for name, variable in wanted.items()}:
            raise InputError(
                f"expected the weights of this network in {path}, got those of another; {again}"
            )
        for name, variable in wanted.items():
            variable.assign(held[name][()])
