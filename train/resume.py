"""Going on after an interruption: weights, optimizer and the callbacks' memory, every epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras

from pipeline import atomic
from pipeline.errors import InputError
from train import weights

STATE_NAME = "state.json"
MAY_DIFFER = ("learning_rate",)
"""Settings that a resumed training may change: one that diverged goes on with a smaller rate."""

MEMORY = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""Attributes in which Keras' callbacks remember what they saw."""


class OtherSettings(InputError):
    """An interrupted training was started with other settings than this one."""


@dataclass(frozen=True)
class State:
    """Where a training stands after an epoch.

    It is written last and names the files that belong to it; what else there is came from an
    epoch that was not finished.

    Parameters
    ----------
    epoch
        Epochs finished.
    weights
        File with weights and optimizer, beside the state's own.
    best
        The same of the best epoch so far.
    best_value
        What made it the best.
    sha256
        Of both files, by name.
    settings
        What the training was started with; a resumed one has to be started alike.
    memory
        What each callback remembers, by class name.
    random
        State of each layer's random generator, by layer name. Keras does not save it as a weight.
    """

    epoch: int
    weights: str
    best: str
    best_value: float
    sha256: dict[str, str]
    settings: dict
    memory: dict[str, dict]
    random: dict[str, list[int]]

    @property
    def stopped_early(self) -> bool:
        """Whether the training ended before its last epoch, because it got no better."""
        return self.memory.get("EarlyStopping", {}).get("stopped_epoch", 0) > 0


def read_state(folder: Path, settings: dict) -> State | None:
    """Read the state of an interrupted training.

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
            f"expected the state of a training in {path}, got: {error}; train without --resume"
        ) from error
    differing = [name for name in settings if state.settings.get(name) != settings[name]]
    if differing := [name for name in differing if name not in MAY_DIFFER]:
        changes = ", ".join(
            f"{name} {state.settings.get(name)} there, {settings[name]} now" for name in differing
        )
        raise OtherSettings(
            f"expected the settings of the interrupted training, got others "
            f"({changes}); use the same or train without --resume"
        )
    return state


def restore(model: keras.Model, folder: Path, state: State, learning_rate: float) -> None:
    """Load weights, optimizer and random generators of a state into a compiled model.

    Parameters
    ----------
    model
        Takes them; its optimizer is built.
    folder, state
        Where a training stands.
    learning_rate
        Peak rate to go on with; the schedule's place on its way stays.
    """
    remove_others(folder, state)
    weights.load(model, folder / state.weights, state.sha256[state.weights])
    before = state.settings.get("learning_rate", learning_rate)
    if learning_rate != before:
        rate = model.optimizer.learning_rate
        rate.assign(rate * (learning_rate / before))
    for name, numbers in state.random.items():
        model.get_layer(name).seed_generator.state.assign(numbers)


def load_best(model: keras.Model, folder: Path, state: State) -> None:
    """Load the weights of the best epoch."""
    weights.load(model, folder / state.best, state.sha256[state.best])


def remove_others(folder: Path, state: State) -> None:
    """Remove weights that do not belong to a state."""
    for path in folder.glob(f"*{weights.SUFFIX}"):
        if path.name not in (state.weights, state.best):
            path.unlink()


def random_states(model: keras.Model) -> dict[str, list[int]]:
    """State of the random generator of each layer that has one."""
    return {
        layer.name: layer.seed_generator.state.numpy().tolist()
        for layer in model.layers
        if hasattr(layer, "seed_generator")
    }


class Resume(keras.callbacks.Callback):
    """Saves the state after every epoch and gives the callbacks their memory back.

    Has to stand after the callbacks it looks after: they forget when training begins, and what
    they log of an epoch has to be there before the state says that the epoch is finished.

    Parameters
    ----------
    folder
        Where the state lives.
    settings
        What the training was started with.
    watched
        Callbacks whose memory is kept.
    chosen_by
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
        watched: Sequence[keras.callbacks.Callback],
        chosen_by: str | None,
        log: Path,
        state: State | None,
    ) -> None:
        super().__init__()
        self.folder, self.settings, self.watched = folder, settings, watched
        self.chosen_by, self.log, self.state = chosen_by, log, state

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Hand each callback what it knew."""
        for callback in self.watched if self.state else ():
            vars(callback).update(self.state.memory[type(callback).__name__])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write weights, then the state that names them, then remove the older weights."""
        name = f"epoch-{epoch + 1}{weights.SUFFIX}"
        sha256 = weights.save(self.model, self.folder / name)
        best_value = (logs or {})[self.chosen_by] if self.chosen_by else float(epoch)
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
            for callback in self.watched
        }
        state = State(
            epoch + 1,
            name,
            best,
            best_value,
            hashes,
            self.settings,
            memory,
            random_states(self.model),
        )
        atomic.sync(self.log)
        text = json.dumps(asdict(state), indent=1)
        atomic.write_durably(self.folder / STATE_NAME, text.encode())
        self.state = state
        remove_others(self.folder, state)


class StopWhenDiverged(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a number, before anything of it is saved.

    Has to stand before whatever saves.

    Parameters
    ----------
    folder
        Where the state lives, for the message.
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
        """Raise if a loss is no number."""
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
