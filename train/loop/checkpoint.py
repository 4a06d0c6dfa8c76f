"""The state of a training after every epoch: weights, optimizer, random state, callbacks' memory.

Keras' BackupAndRestore keeps neither Dropout's random state nor what EarlyStopping and
ReduceLROnPlateau remember: a resumed training would end elsewhere than an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from pipeline import atomic
from pipeline.errors import InputError

STATE_NAME = "state.json"
SUFFIX = ".npz"
MAY_DIFFER = ("learning_rate",)
"""Settings that a resumed training may change: one that diverged goes on with a smaller rate."""

MEMORY = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""Attributes in which Keras' callbacks remember what they saw."""


class OtherSettings(InputError):
    """An interrupted training was started with other settings than this one."""


@dataclass(frozen=True)
class State:
    """Where a stage of a training is after an epoch.

    It is written last and names the files that belong to it; any other file belongs to an epoch
    that was not finished.

    Parameters
    ----------
    epoch
        Epochs finished.
    weights, best
        Files of this epoch and of the best one, beside the state's own.
    best_value
        What made it the best.
    sha256
        Of both files, by name.
    settings
        What the training was started with; a resumed one has to be started alike.
    memory
        What each callback remembers, by class name.
    """

    epoch: int
    weights: str
    best: str
    best_value: float
    sha256: dict[str, str]
    settings: dict
    memory: dict[str, dict]

    @property
    def stopped_early(self) -> bool:
        """Whether the stage ended before its last epoch, because it got no better."""
        return self.memory.get("EarlyStopping", {}).get("stopped_epoch", 0) > 0


def read_state(folder: Path, settings: dict) -> State | None:
    """Read the state of an interrupted stage.

    Returns
    -------
    State or None
        None if there is none.

    Raises
    ------
    OtherSettings
        If it belongs to a training with other settings.
    InputError
        If it is damaged.
    """
    path = folder / STATE_NAME
    if not path.is_file():
        return None
    try:
        state = State(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"expected the state of a training in {path}, got: {error}; remove {folder.parent} to "
            "train anew"
        ) from error
    differing = [
        name
        for name in settings
        if state.settings.get(name) != settings[name] and name not in MAY_DIFFER
    ]
    if differing:
        changes = ", ".join(
            f"{name} {state.settings.get(name)} there, {settings[name]} now" for name in differing
        )
        raise OtherSettings(
            f"expected the settings of the interrupted training, got others "
            f"({changes}); use the same, or remove {folder.parent} to train anew"
        )
    return state


def is_same(folder: Path, settings: dict) -> bool:
    """Whether the stages below a folder are all of a training with these very settings."""
    states = [path.read_bytes() for path in sorted(folder.glob(f"*/{STATE_NAME}"))]
    try:
        return bool(states) and all(json.loads(state)["settings"] == settings for state in states)
    except (ValueError, TypeError, KeyError):
        return False


def variables(model: keras.Model) -> list[keras.Variable]:
    """Variables of a compiled model, the states of its random generators, and its optimizer's."""
    return [*model.variables, *model.optimizer.variables]


def save(model: keras.Model, path: Path) -> str:
    """Write the variables of a compiled model; return the SHA-256 of the file.

    Raises
    ------
    OSError
        If the disk refuses; there is no file then.
    """
    memory = io.BytesIO()
    np.savez(memory, *(np.asarray(variable) for variable in variables(model)))
    atomic.write_durably(path, memory.getbuffer())
    return hashlib.sha256(memory.getbuffer()).hexdigest()


def load(model: keras.Model, folder: Path, name: str, state: State) -> None:
    """Give a compiled model, whose optimizer is built, the variables of a file of a state.

    Raises
    ------
    InputError
        If the file is missing, is not what was written, or holds another network.
    """
    path, again = folder / name, f"remove {folder.parent} to train anew"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"expected weights at {path}, got nothing; {again}") from error
    if hashlib.sha256(content).hexdigest() != state.sha256[name]:
        raise InputError(f"expected {path} as it was written, got other content; {again}")
    wanted = variables(model)
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        held = list(file.values())
    if [value.shape for value in held] != [tuple(variable.shape) for variable in wanted]:
        raise InputError(
            f"expected the weights of this network in {path}, got those of another; {again}"
        )
    for variable, value in zip(wanted, held, strict=True):
        variable.assign(value)


def restore(model: keras.Model, folder: Path, state: State, learning_rate: float) -> None:
    """Load the last epoch of a state into a compiled model.

    Parameters
    ----------
    model
        Takes it; its optimizer is built.
    folder, state
        Where a stage is.
    learning_rate
        Peak rate to go on with; the position within the schedule stays.
    """
    remove_others(folder, state)
    load(model, folder, state.weights, state)
    before = state.settings.get("learning_rate", learning_rate)
    if learning_rate != before:
        rate = model.optimizer.learning_rate
        rate.assign(rate * (learning_rate / before))


def remove_others(folder: Path, state: State) -> None:
    """Remove weights that do not belong to a state."""
    for path in folder.glob(f"*{SUFFIX}"):
        if path.name not in (state.weights, state.best):
            path.unlink()


class Checkpoint(keras.callbacks.Callback):
    """Saves the state after every epoch, and gives other callbacks their memory back.

    Has to come after the callbacks it looks after: they forget when training begins, and what
    they log of an epoch has to be there before the state says that the epoch is finished.

    Parameters
    ----------
    folder
        Of the stage.
    settings
        What the training was started with.
    remembered
        Callbacks whose memory is kept.
    monitor
        The best epoch is the first with the highest value of this; None: the last epoch.
    log
        File that the epochs are logged to.
    state
        The state to go on from, if any.

    Attributes
    ----------
    state
        That of the last epoch finished; None before the first.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict,
        remembered: Sequence[keras.callbacks.Callback],
        monitor: str | None,
        log: Path,
        state: State | None,
    ) -> None:
        super().__init__()
        self.folder, self.settings, self.remembered = folder, settings, remembered
        self.monitor, self.log, self.state = monitor, log, state

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Hand each callback what it knew."""
        for callback in self.remembered if self.state else ():
            vars(callback).update(self.state.memory[type(callback).__name__])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write weights, then the state that names them, then remove the older weights."""
        name = f"epoch-{epoch + 1}{SUFFIX}"
        sha256 = save(self.model, self.folder / name)
        best_value = float((logs or {})[self.monitor]) if self.monitor else float(epoch)
        best, hashes = name, {name: sha256}
        if self.state is not None and self.state.best_value >= best_value:
            best, best_value = self.state.best, self.state.best_value
            hashes[best] = self.state.sha256[best]
        memory = {
            type(callback).__name__: {
                name: vars(callback)[name]
                for name in MEMORY
                if isinstance(vars(callback).get(name), (int, float))
            }
            for callback in self.remembered
        }
        state = State(epoch + 1, name, best, best_value, hashes, self.settings, memory)
        atomic.sync(self.log)
        text = json.dumps(asdict(state), indent=1)
        atomic.write_durably(self.folder / STATE_NAME, text.encode())
        self.state = state
        remove_others(self.folder, state)


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends a training whose loss is NaN or infinite, before anything of it is saved.

    Has to come before whatever saves.

    Parameters
    ----------
    folder
        Of the whole training, for the message.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.epoch = folder, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Remember which epoch it is."""
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the loss so far."""
        self.refuse(logs or {})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Look at the validation loss too: the last step's weights have not been tried before."""
        self.refuse(logs or {})

    def refuse(self, logs: dict) -> None:
        """Raise if a loss is not finite."""
        for name, value in logs.items():
            if name.endswith("loss") and not math.isfinite(value):
                kept = "nothing was saved yet; train with a lower --learning-rate"
                if any(self.folder.rglob(STATE_NAME)):
                    kept = (
                        f"the weights of the epochs before are in {self.folder}; go on from "
                        "there with --resume and a lower --learning-rate"
                    )
                raise InputError(
                    f"expected a finite loss, got {name} {value} in epoch {self.epoch + 1}; {kept}"
                )
