"""Predictions to numbers: WAR, UAR, recall, confusion, calibration, per actor."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train import confidence, figures
from train.dataset import EVALUATION_BATCH_SIZE, in_order, input_errors
from train.heads import HEADS
from train.table import Rows

LABELS = tuple(range(len(EMOTIONS)))


def predict(
    model: keras.Model, rows: Rows, batch_size: int = EVALUATION_BATCH_SIZE
) -> dict[str, NDArray[np.float32]]:
    """Probabilities of each head for each row, shape (rows, 8), in the order of the table.

    These are the network's own: :func:`train.confidence.temper` makes them as sure as they may be.
    """
    given = in_order(rows, batch_size).map(
        lambda inputs, _: {name: inputs[name] for name in model.input}
    )
    with input_errors():
        return model.predict(given, verbose=0)


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
        ``recall`` by emotion (None where absent), ``actors`` (war, uar and clips of each),
        ``confusion`` (rows: true emotion, columns: answer) and ``calibration``
        (:func:`train.confidence.calibration`); then ``clips`` and ``actors``.

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
            "calibration": confidence.calibration(probabilities[head], rows.label),
        }
    judged["clips"] = len(rows)
    judged["actors"] = np.unique(rows.actor).tolist()
    return judged


def head_averages(
    rows: Rows, probabilities: dict[str, NDArray[np.float32]]
) -> dict[str, dict[str, float]]:
    """Weighted and unweighted average recall of each head."""
    return {head: averages(rows.label, probabilities[head].argmax(axis=1)) for head in HEADS}


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
    """Short table of the heads' averages in percent, and their expected calibration error."""
    lines = [
        f"{'':8}{'WAR':>7}{'UAR':>7}{'ECE':>8}   actors {judged['actors']}, {judged['clips']} clips"
    ]
    for head in HEADS:
        error = judged[head]["calibration"]["expected_calibration_error"]
        lines.append(
            f"{head:8}{100 * judged[head]['war']:7.1f}{100 * judged[head]['uar']:7.1f}{error:8.3f}"
        )
    if judged.get("stamp"):
        lines.append(judged["stamp"])
    return "\n".join(lines)


def write_report(
    folder: Path, rows: Rows, probabilities: dict[str, NDArray[np.float32]], judged: dict
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.png`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(folder / "metrics.json", json.dumps(judged, indent=1).encode())
    stream = io.StringIO(newline="")
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
    atomic.write_durably(folder / "predictions.csv", stream.getvalue().encode())
    figures.draw_confusion(folder / "confusion.png", judged)
