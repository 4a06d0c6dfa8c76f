"""Predictions to numbers and figures: WAR, UAR, recall, confusion, per actor."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from pipeline.spec import EMOTIONS
from train.dataset import HEADS, in_order, input_errors
from train.table import Rows

LABELS = tuple(range(len(EMOTIONS)))


def predict(model: keras.Model, rows: Rows, batch_size: int = 32) -> dict[str, NDArray[np.float32]]:
    """Probabilities of each head for each row, shape (rows, 8), in the order of the table."""
    with input_errors():
        return model.predict(in_order(rows, batch_size), verbose=0)


def metrics(rows: Rows, probabilities: dict[str, NDArray[np.float32]]) -> dict:
    """Judge predictions.

    Parameters
    ----------
    rows
        What was predicted.
    probabilities
        Of each head, shape (rows, 8).

    Returns
    -------
    dict
        For each head ``war`` (accuracy), ``uar`` (mean recall of the emotions present),
        ``recall`` by emotion (None where absent), ``actors`` (war, uar and clips of each) and
        ``confusion`` (rows: true emotion, columns: answer); then ``clips`` and ``actors``.

    Notes
    -----
    Weighted and unweighted average recall as in Schuller et al. 2009, "The INTERSPEECH 2009
    Emotion Challenge".
    """
    judged: dict = {}
    for head in HEADS:
        answer = probabilities[head].argmax(axis=1)
        confusion = sklearn_metrics.confusion_matrix(rows.label, answer, labels=LABELS)
        counts = confusion.sum(axis=1)
        recall = [
            float(confusion[label, label] / counts[label]) if counts[label] else None
            for label in LABELS
        ]
        judged[head] = averages(rows.label, answer) | {
            "recall": dict(zip(EMOTIONS, recall, strict=True)),
            "actors": {
                str(actor): averages(rows.label[chosen], answer[chosen])
                | {"clips": int(chosen.sum())}
                for actor in np.unique(rows.actor)
                for chosen in [rows.actor == actor]
            },
            "confusion": confusion.tolist(),
        }
    judged["clips"] = len(rows)
    judged["actors"] = np.unique(rows.actor).tolist()
    return judged


def averages(label: NDArray[np.int64], answer: NDArray[np.int64]) -> dict[str, float]:
    """Weighted and unweighted average recall of some answers."""
    present = np.unique(label)
    return {
        "war": float(sklearn_metrics.accuracy_score(label, answer)),
        "uar": float(
            sklearn_metrics.recall_score(
                label, answer, labels=present, average="macro", zero_division=0
            )
        ),
    }


def table(judged: dict) -> str:
    """Short table of the heads' averages, in percent."""
    lines = [f"{'':8}{'WAR':>7}{'UAR':>7}   actors {judged['actors']}, {judged['clips']} clips"]
    lines += [
        f"{head:8}{100 * judged[head]['war']:7.1f}{100 * judged[head]['uar']:7.1f}"
        for head in HEADS
    ]
    return "\n".join(lines)


def write_report(
    folder: Path, rows: Rows, probabilities: dict[str, NDArray[np.float32]], judged: dict
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.png`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(judged, indent=1), encoding="utf-8")
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["clip", "actor", "face_found", "emotion", *HEADS, *(f"p_{name}" for name in EMOTIONS)]
        )
        for number in range(len(rows)):
            answers = [EMOTIONS[probabilities[head][number].argmax()] for head in HEADS]
            writer.writerow(
                [
                    rows.clip[number],
                    rows.actor[number],
                    int(rows.face_found[number]),
                    EMOTIONS[rows.label[number]],
                    *answers,
                    *(f"{value:.4f}" for value in probabilities["fused"][number]),
                ]
            )
    draw_confusion(folder / "confusion.png", judged)


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
        f"voice and face, {judged['clips']} clips of {len(judged['actors'])} test actors"
        f"\nWAR {100 * judged['fused']['war']:.1f} %, "
        f"UAR {100 * judged['fused']['uar']:.1f} %"
    )
    figure.colorbar(image, label="% of the acted emotion", shrink=0.85)
    figure.savefig(path)


def draw_curves(path: Path, log: Path) -> None:
    """Draw loss and accuracy of each epoch from the CSV log of a training."""
    from matplotlib.figure import Figure

    with log.open(encoding="utf-8") as stream:
        epochs = list(csv.DictReader(stream))
    figure = Figure(figsize=(9, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, 2)
    numbers = [int(epoch["epoch"]) + 1 for epoch in epochs]
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for head, colour in zip(HEADS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
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
    figure.savefig(path)
