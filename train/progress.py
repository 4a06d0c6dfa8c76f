"""A training's bar over all its steps, and a line an epoch."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from pipeline.console import bar as progress_bar


class Progress(keras.callbacks.Callback):
    """One bar over all steps, and one line an epoch.

    Parameters
    ----------
    name
        What the bar calls the stage.
    heads
        Those that learn; the first one's loss is shown.
    epochs, steps
        Most epochs, and steps in each.
    first_epoch
        Where a resumed training goes on.
    """

    def __init__(
        self, name: str, heads: Sequence[str], epochs: int, steps: int, first_epoch: int
    ) -> None:
        super().__init__()
        self.name, self.heads, self.epochs = name, heads, epochs
        self.bar = progress_bar(
            total=epochs * steps, initial=first_epoch * steps, desc=name, unit="step"
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print how the epoch went."""
        logs, first = logs or {}, self.heads[0]
        line = (
            f"{self.name} {epoch + 1:>3}/{self.epochs}  loss "
            f"{logs[f'{first}_loss']:.3f}  accuracy {logs[f'{first}_accuracy']:.3f}"
        )
        if f"val_{first}_loss" in logs:
            line += f"  validation: loss {logs[f'val_{first}_loss']:.3f}"
            line += "".join(f"  {head} {logs[f'val_{head}_accuracy']:.3f}" for head in self.heads)
        self.bar.write(line)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the bar."""
        self.bar.close()
