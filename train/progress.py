"""A training's bar over all its steps, and a line an epoch."""

from __future__ import annotations

import keras

from pipeline.console import bar as progress_bar


class Progress(keras.callbacks.Callback):
    """One bar over all steps, and one line an epoch.

    Parameters
    ----------
    name
        What the bar calls the stage.
    head
        Whose loss and accuracy are shown.
    epochs, steps
        Most epochs, and steps in each.
    first_epoch
        Where a resumed training goes on.
    """

    def __init__(self, name: str, head: str, epochs: int, steps: int, first_epoch: int) -> None:
        super().__init__()
        self.name, self.head, self.epochs = name, head, epochs
        self.bar = progress_bar(
            total=epochs * steps, initial=first_epoch * steps, desc=name, unit="step"
        )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Move the bar."""
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print how the epoch went."""
        logs = logs or {}
        line = (
            f"{self.name} {epoch + 1:>3}/{self.epochs}  loss "
            f"{logs[f'{self.head}_loss']:.3f}  accuracy {logs[f'{self.head}_accuracy']:.3f}"
        )
        if "val_fused_loss" in logs:
            line += (
                f"  validation: loss {logs['val_fused_loss']:.3f}  "
                f"fused {logs['val_fused_accuracy']:.3f}  audio {logs['val_audio_accuracy']:.3f}  "
                f"video {logs['val_video_accuracy']:.3f}"
            )
        self.bar.write(line)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Close the bar."""
        self.bar.close()
