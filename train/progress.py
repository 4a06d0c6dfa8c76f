"""A training's bar over all its steps, and a line an epoch."""

from __future__ import annotations

from collections.abc import Callable

import keras

from pipeline.progress import bar as progress_bar


class Progress(keras.callbacks.Callback):
    """One bar over all steps, and one line an epoch.

    Parameters
    ----------
    title
        What the bar is called.
    epochs, steps
        Most epochs, and steps in each.
    first_epoch
        Where a resumed training goes on.
    line
        Says how an epoch went, from its logs; None prints no lines.
    """

    def __init__(
        self,
        title: str,
        epochs: int,
        steps: int,
        first_epoch: int = 0,
        line: Callable[[dict], str] | None = None,
    ) -> None:
        super().__init__()
        self.epochs, self.line = epochs, line
        self.bar = progress_bar(
            total=epochs * steps, initial=first_epoch * steps, desc=title, unit="step"
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print how the epoch went."""
        if self.line is not None:
            self.bar.write(f"epoch {epoch + 1:>3}/{self.epochs}  {self.line(logs or {})}")

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar; a training that was stopped does not."""
        self.bar.close()
