"""The files of a report: metrics, predictions, confusion matrix, learning curves."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train.evaluation import figures
from train.heads import HEADS

if TYPE_CHECKING:
    from train.data.rows import Rows

METRICS_NAME, PREDICTIONS_NAME = "metrics.json", "predictions.csv"
CURVES_NAME = "learning_curves"


def write_report(
    folder: Path, rows: Rows, probabilities: Mapping[str, NDArray[np.float32]], judged: dict
) -> None:
    """Write ``metrics.json``, ``predictions.csv`` and ``confusion.png`` into a folder.

    Rows and probabilities are what :func:`train.evaluation.metrics.metrics` made ``judged`` of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(folder / METRICS_NAME, json.dumps(judged, indent=1).encode())
    predictions = prediction_table(rows, probabilities, judged)
    atomic.write_durably(folder / PREDICTIONS_NAME, predictions.encode())
    figures.draw_confusion(folder / "confusion.png", judged)


def prediction_table(
    rows: Rows, probabilities: Mapping[str, NDArray[np.float32]], judged: Mapping
) -> str:
    """CSV of the answer and the probabilities of every head, a line a clip.

    Probabilities are written with as many digits as give the same float32 back. The answer of a
    head that is not tested, or whose modality the clip lacks, is empty.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    columns = [f"p_{head}_{name}" for head in HEADS for name in EMOTIONS]
    writer.writerow(["clip", "actor", "face_found", "emotion", *HEADS, *columns])
    having = {head: rows.having(head) & (head in judged) for head in HEADS}
    for row in range(len(rows)):
        given = {head: probabilities[head][row] for head in HEADS}
        writer.writerow(
            [
                rows.clip[row],
                rows.actor[row],
                int(rows.face_found[row]),
                EMOTIONS[rows.label[row]],
                *(EMOTIONS[given[head].argmax()] if having[head][row] else "" for head in HEADS),
                *np.concatenate(list(given.values())).astype(np.float32),
            ]
        )
    return stream.getvalue()


def write_learning_curves(folder: Path, log: Path) -> None:
    """Copy the log of all epochs into a report and draw it, see :func:`figures.draw_curves`."""
    atomic.write_durably(folder / f"{CURVES_NAME}.csv", log.read_bytes())
    figures.draw_curves(folder / f"{CURVES_NAME}.png", log)
