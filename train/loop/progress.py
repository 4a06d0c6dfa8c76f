"""A stage's bar over all its steps, and a line an epoch."""

from __future__ import annotations

from typing import Any

import keras

from pipeline.console import bar as progress_bar


class Progress(keras.callbacks.Callback):
    """One bar over all steps of a stage, with the remaining time, and one line an epoch.

    Parameters
    ----------
    name
        Of the stage.
    epochs, steps
        Most epochs, and steps in each.
    first_epoch
        Where a resumed stage goes on.
    """

    def __init__(self, name: str, epochs: int, steps: int, first_epoch: int) -> None:
        super().__init__()
        self.name, self.epochs, self.steps, self.first_epoch = name, epochs, steps, first_epoch
        self.bar: Any = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Show the bar."""
        self.bar = progress_bar(
            total=self.epochs * self.steps,
            initial=self.first_epoch * self.steps,
            desc=self.name,
            unit="step",
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print how the epoch went."""
        logs = logs or {}
        line = (
            f"{self.name} {epoch + 1:>3}/{self.epochs}  loss {logs['loss']:.3f}  "
            f"accuracy {logs['accuracy']:.3f}"
        )
        if "val_loss" in logs:
            line += f"  validation {logs['val_loss']:.3f}  {logs['val_accuracy']:.3f}"
        self.bar.write(line)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the bar, if it was shown."""
        if self.bar is not None:
            self.bar.close()
