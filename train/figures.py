"""The figures of a report. Each is drawn from the numbers that stand beside it in JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train.heads import HEADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("tab:blue", "tab:orange", "tab:green")
LABELS = range(len(EMOTIONS))

PEOPLE = {"sound": 67.0, "picture": 75.0}
"""Percent of RAVDESS' own clips that people name rightly by one modality, from Luna-Jiménez et al.
2022, "A proposal for multimodal emotion recognition using aural transformers and action units on
RAVDESS dataset", tables."""


def draw_confusion(path: Path, judged: dict) -> None:
    """Draw the confusion matrix of the fused head, row by row in percent."""
    from matplotlib.figure import Figure

    counts = np.array(judged["fused"]["confusion"])
    share = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure = Figure(figsize=(6.4, 5.6), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(LABELS, EMOTIONS, rotation=45, ha="right")
    axes.set_yticks(LABELS, EMOTIONS)
    axes.set_xlabel("answer")
    axes.set_ylabel("acted emotion")
    for (row, column), value in np.ndenumerate(share):
        colour = "white" if value > 55 else "black"
        axes.text(column, row, f"{value:.0f}", ha="center", va="center", color=colour)
    axes.set_title(
        f"fused answer, {judged['clips']} clips of {len(judged['actors'])} test actors"
        + "".join(f"\n{line}" for line in judged.get("left_out", ()))
        + (f"\n{judged['stamp']}" if judged.get("stamp") else "")
        + f"\nWAR {100 * judged['fused']['war']:.1f} %, "
        f"UAR {100 * judged['fused']['uar']:.1f} %"
    )
    figure.colorbar(image, label="% of the acted emotion", shrink=0.85)
    save(figure, path)


def draw_curves(path: Path, log: Path) -> None:
    """Draw loss and accuracy of each epoch from the CSV log of a training."""
    from matplotlib.figure import Figure

    with log.open(encoding="utf-8") as stream:
        epochs = list(csv.DictReader(stream))
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2)
    numbers = [int(epoch["epoch"]) + 1 for epoch in epochs]
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for head, colour in zip(HEADS, COLOURS, strict=True):
            if f"{head}_{name}" not in epochs[0]:
                continue  # It learned from no clip.
            for prefix, style in (("", ":"), ("val_", "-")):
                values = [float(epoch[f"{prefix}{head}_{name}"]) for epoch in epochs]
                axes.plot(
                    numbers,
                    values,
                    style,
                    color=colour,
                    label=f"{head}, {'validation' if prefix else 'training'}",
                )
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7)
    save(figure, path)


def draw_bars(path: Path, judged: dict) -> None:
    """Draw UAR of each actor, recall of each emotion, and confidence against accuracy.

    Where ``judged["real_ravdess"]`` says that the clips are RAVDESS' own, what people reach on
    them is drawn as lines.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), dpi=110, layout="constrained")
    by_actor, by_emotion, curve = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for offset, head in enumerate(HEADS):
        if head not in judged:
            continue
        actors = judged[head]["actors"]
        places = [judged["actors"].index(int(actor)) + 0.27 * (offset - 1) for actor in actors]
        by_actor.bar(places, [100 * actor["uar"] for actor in actors.values()], 0.27, label=head)
        places = np.arange(len(EMOTIONS)) + 0.27 * (offset - 1)
        by_emotion.bar(places, [100 * value for value in judged[head]["recall"].values()], 0.27)
    by_actor.set_xticks(range(len(judged["actors"])), judged["actors"])
    by_actor.set(xlabel="actor", ylabel="UAR, %", ylim=(0, 100))
    if judged["real_ravdess"]:
        for (modality, value), colour in zip(PEOPLE.items(), COLOURS[1:], strict=True):
            label = f"people by {modality} {value:.0f} %"
            by_actor.axhline(value, color=colour, linestyle="--", label=label)
    by_actor.legend(ncols=3, fontsize=8)
    by_emotion.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    by_emotion.set(ylabel="recall, %", ylim=(0, 100))
    bins = judged["calibration"]["bins"]
    curve.plot([0, 1], [0, 1], ":", color="grey")
    curve.plot([row["confidence"] for row in bins], [row["accuracy"] for row in bins], "o-")
    curve.set(xlabel="confidence of the fused answer", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    if said := [*judged["left_out"], *filter(None, [judged["stamp"]])]:
        figure.suptitle("; ".join(said))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in one step; an encoder that writes by itself does not say why it failed."""
    memory = io.BytesIO()
    figure.savefig(memory)
    atomic.write_durably(path, memory.getbuffer())
