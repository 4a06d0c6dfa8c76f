"""Predictions to numbers: WAR, UAR, recall, confusion, calibration, per actor."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Mapping
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sklearn_metrics

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train import confidence, figures
from train.dataset import EVALUATION_BATCH_SIZE, in_order, input_errors
from train.heads import HEADS, LEFT_OUT, UNTAUGHT
from train.table import Rows

LABELS = tuple(range(len(EMOTIONS)))


def predict(
    model: keras.Model, rows: Rows, batch_size: int = EVALUATION_BATCH_SIZE
) -> dict[str, NDArray[np.float32]]:
    """Probabilities of each head for each row, shape (rows, 8), in the order of the table.

    These are the network's own: :func:`train.confidence.temper` makes them as sure as they may be.
    """
    given = in_order(rows, batch_size, model.input).map(lambda inputs, *_: inputs)
    with input_errors():
        return model.predict(given, verbose=0)


def judged_rows(rows: Rows, learned: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """Which rows each head is judged on, shape (rows,); heads without any are left out.

    Parameters
    ----------
    rows
        What was predicted.
    learned
        Heads that have learned. The fused answer is judged in any case: it is all there is.
    """
    heads = [head for head in HEADS if head == "fused" or head in learned]
    return {head: rows.having(head) for head in heads if rows.having(head).any()}


def left_out(rows: Rows, learned: Collection[str]) -> list[str]:
    """Say which heads are not judged, and why."""
    judged = judged_rows(rows, learned)
    return [
        (LEFT_OUT if head in learned else UNTAUGHT)[head] for head in HEADS if head not in judged
    ]


def metrics(
    rows: Rows, probabilities: dict[str, NDArray[np.float32]], learned: Collection[str] = HEADS
) -> dict:
    """Judge predictions.

    Parameters
    ----------
    rows
        What was predicted.
    probabilities
        Of each head, shape (rows, 8).
    learned
        Heads that have learned, see :func:`judged_rows`.

    Returns
    -------
    dict
        For each head, over the rows that have its modality, ``war`` (accuracy), ``uar`` (mean
        recall of the emotions present), ``recall`` by emotion (None where absent), ``actors`` (war,
        uar and clips of each), ``confusion`` (rows: true emotion, columns: answer) and
        ``calibration`` (:func:`train.confidence.calibration`); then ``clips``, ``actors`` and
        ``left_out``: which heads are not there, and why.

    Notes
    -----
    Weighted and unweighted average recall as in Schuller et al. 2009, "The INTERSPEECH 2009
    Emotion Challenge".
    """
    judged: dict = {}
    for head, having in judged_rows(rows, learned).items():
        own, given = rows.where(having), probabilities[head][having]
        answer = given.argmax(axis=1)
        confusion = sklearn_metrics.confusion_matrix(own.label, answer, labels=LABELS)
        counts = confusion.sum(axis=1)
        recall = [
            float(confusion[label, label] / counts[label]) if counts[label] else None
            for label in LABELS
        ]
        judged[head] = averages(own.label, answer) | {
            "recall": dict(zip(EMOTIONS, recall, strict=True)),
            "actors": {
                str(actor): averages(own.label[chosen], answer[chosen])
                | {"clips": int(chosen.sum())}
                for actor in np.unique(own.actor)
                for chosen in [own.actor == actor]
            },
            "confusion": confusion.tolist(),
            "calibration": confidence.calibration(given, own.label),
        }
    judged["left_out"] = left_out(rows, learned)
    judged["clips"] = len(rows)
    judged["actors"] = np.unique(rows.actor).tolist()
    return judged


def head_averages(
    rows: Rows, probabilities: dict[str, NDArray[np.float32]], learned: Collection[str] = HEADS
) -> dict[str, dict[str, float]]:
    """Weighted and unweighted average recall of each head that is judged."""
    return {
        head: averages(rows.label[having], probabilities[head][having].argmax(axis=1))
        for head, having in judged_rows(rows, learned).items()
    }


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
    """Short table of the heads' averages in percent, and their expected calibration error.

    Heads that are not judged are named below it.
    """
    lines = [
        f"{'':8}{'WAR':>7}{'UAR':>7}{'ECE':>8}   actors {judged['actors']}, {judged['clips']} clips"
    ]
    for head in (head for head in HEADS if head in judged):
        error = judged[head]["calibration"]["expected_calibration_error"]
        lines.append(
            f"{head:8}{100 * judged[head]['war']:7.1f}{100 * judged[head]['uar']:7.1f}{error:8.3f}"
        )
    lines += judged.get("left_out", [])
    if judged.get("stamp"):
        lines.append(judged["stamp"])
    return "\n".join(lines)


def write_report(
    folder: Path, rows: Rows, probabilities: Mapping[str, NDArray[np.float32]], judged: dict
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.png`` into a folder.

    The answer of a head that is not judged, or whose modality the clip lacks, is left empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(folder / "metrics.json", json.dumps(judged, indent=1).encode())
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(
        ["clip", "actor", "face_found", "emotion", *HEADS, *(f"p_{name}" for name in EMOTIONS)]
    )
    having = {head: rows.having(head) & (head in judged) for head in HEADS}
    for number in range(len(rows)):
        answers = [
            EMOTIONS[probabilities[head][number].argmax()] if having[head][number] else ""
            for head in HEADS
        ]
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
