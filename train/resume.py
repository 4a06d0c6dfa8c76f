"""Going on after an interruption: weights, optimizer and the callbacks' memory, every epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from pipeline.errors import InputError

STATE_NAME = "state.json"
MEMORY = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""Attributes in which Keras' callbacks remember what they saw."""


class OtherSettings(InputError):
    """An interrupted training was started with other settings than this one."""


@dataclass(frozen=True)
class State:
    """Where a training stands after an epoch.

    Parameters
    ----------
    epoch
        Epochs finished.
    weights
        File with weights and optimizer, beside the state's own.
    settings
        What the training was started with; a resumed one has to be started alike.
    memory
        What each callback remembers, by class name.
    random
        State of each layer's random generator, by layer name. Keras does not save it as a weight.
    """

    epoch: int
    weights: str
    settings: dict
    memory: dict[str, dict]
    random: dict[str, list[int]]


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
    if differing := [name for name in settings if state.settings.get(name) != settings[name]]:
        changes = ", ".join(
            f"{name} {state.settings.get(name)} there, {settings[name]} now" for name in differing
        )
        raise OtherSettings(
            f"expected the settings of the interrupted training, got others "
            f"({changes}); use the same or train without --resume"
        )
    return state


def restore(model: keras.Model, folder: Path, state: State) -> None:
    """Load weights, optimizer and random generators of a state into a compiled model."""
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / state.weights)
    for name, numbers in state.random.items():
        model.get_layer(name).seed_generator.state.assign(numbers)


def random_states(model: keras.Model) -> dict[str, list[int]]:
    """State of the random generator of each layer that has one."""
    return {
        layer.name: layer.seed_generator.state.numpy().tolist()
        for layer in model.layers
        if hasattr(layer, "seed_generator")
    }


class Resume(keras.callbacks.Callback):
    """Saves the state after every epoch and gives the callbacks their memory back.

    Has to stand after the callbacks it looks after: they forget when training begins.

    Parameters
    ----------
    folder
        Where the state lives.
    settings
        What the training was started with.
    watched
        Callbacks whose memory is kept.
    state
        The state to go on from, if any.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict,
        watched: Sequence[keras.callbacks.Callback],
        state: State | None,
    ) -> None:
        super().__init__()
        self.folder, self.settings, self.watched, self.state = folder, settings, watched, state

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Hand each callback what it knew."""
        for callback in self.watched if self.state else ():
            vars(callback).update(self.state.memory[type(callback).__name__])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write weights, then the state that names them, then remove the older weights."""
        weights = self.folder / f"state-{epoch + 1}.weights.h5"
        self.model.save_weights(weights)
        memory = {
            type(callback).__name__: {
                name: vars(callback)[name]
                for name in MEMORY
                if isinstance(vars(callback).get(name), (int, float))
            }
            for callback in self.watched
        }
        content = {
            "epoch": epoch + 1,
            "weights": weights.name,
            "settings": self.settings,
            "memory": memory,
            "random": random_states(self.model),
        }
        partial = self.folder / f"{STATE_NAME}.partial"
        partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
        os.replace(partial, self.folder / STATE_NAME)
        for old in self.folder.glob("state-*.weights.h5"):
            if old != weights:
                old.unlink()
