"""Test results of several trainings together: mean over folds, interval over actors."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from pipeline import atomic
from pipeline.corpora.actors import Actor, in_order
from pipeline.spec import EMOTIONS
from train.evaluation import figures, metrics, report
from train.heads import HEADS

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Predictions:
    """Test predictions of several trainings, a row a clip and training.

    Parameters
    ----------
    actor, label, fold
        Actor, index of the emotion, and number of the training; shape (rows,).
    probabilities
        Of each head, float32 (rows, 8), as full as the model gave them.
    judged
        Which rows each head is tested on, shape (rows,).
    """

    actor: NDArray
    label: NDArray[np.int64]
    fold: NDArray[np.int64]
    probabilities: dict[str, NDArray[np.float32]]
    judged: dict[str, NDArray[np.bool_]]


def read_predictions(folders: Sequence[Path]) -> Predictions:
    """Gather the predictions of trainings, each from the report in its folder."""
    lines: list[dict] = []
    for fold, folder in enumerate(folders):
        with (folder / "report" / report.PREDICTIONS_NAME).open(encoding="utf-8") as stream:
            lines += [line | {"fold": fold} for line in csv.DictReader(stream)]
    return Predictions(
        np.array([actor_of(line["actor"]) for line in lines]),
        np.array([EMOTIONS.index(line["emotion"]) for line in lines]),
        np.array([line["fold"] for line in lines]),
        {
            head: np.array(
                [[line[f"p_{head}_{name}"] for name in EMOTIONS] for line in lines]
            ).astype(np.float32)
            for head in HEADS
        },
        {head: np.array([line[head] != "" for line in lines]) for head in HEADS},
    )


def actor_of(cell: str) -> Actor:
    """Read an actor: a number, or the name of one of several corpora."""
    return int(cell) if cell.isdecimal() else cell


def bootstrap(confusions: NDArray[np.int64], seed: int = 0) -> dict[str, list[float]]:
    """Percentile interval of WAR and UAR over what other actors might have been recorded.

    Confusion matrices have shape (actors, 8, 8). Actors are drawn with replacement: clips of one
    actor are not independent.

    Notes
    -----
    Efron & Tibshirani 1993, "An introduction to the bootstrap", chapters 13 and 8 (clusters).
    """
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(confusions), (RESAMPLES, len(confusions)))
    drawn = confusions[draws].sum(axis=1)
    hits, counts = np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=2)
    recall = np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)
    values = {"war": hits.sum(axis=1) / counts.sum(axis=1), "uar": np.nanmean(recall, axis=1)}
    edges = 50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)
    return {name: np.percentile(drawn, edges).tolist() for name, drawn in values.items()}


def summarize(folders: Sequence[Path], stamp: str | None = None) -> dict:
    """Summarize the test results of several trainings.

    Parameters
    ----------
    folders
        Where each training left its report.
    stamp
        What keeps the result from being compared with others, beside what the reports say.

    Returns
    -------
    dict
        For each head that is tested :func:`train.evaluation.metrics.head_metrics` of all clips
        together, but of ``war`` and ``uar`` the ``mean`` and ``sd`` over the trainings, the
        ``pooled`` value, its ``interval`` over actors, and ``folds``, the value of each training;
        then ``clips``, ``actors``, ``left_out`` and ``stamp``.
    """
    predictions = read_predictions(folders)
    said = [json.loads((path / "report" / report.METRICS_NAME).read_bytes()) for path in folders]
    stamps = filter(None, [stamp, *(content.get("stamp") for content in said)])
    parts = dict.fromkeys(part for text in stamps for part in text.split("; "))
    summary: dict = {
        "stamp": "; ".join(parts) or None,
        "clips": len(predictions.label),
        "actors": in_order(predictions.actor.tolist()),
        "left_out": left_out([content["left_out"] for content in said]),
    }
    for head, judged in predictions.judged.items():
        if judged.any():
            summary[head] = summarize_head(predictions, head)
    return summary


def summarize_head(predictions: Predictions, head: str) -> dict:
    """Summarize one head, see :func:`summarize`."""
    chosen = predictions.judged[head]
    label, actor, fold = (
        column[chosen] for column in (predictions.label, predictions.actor, predictions.fold)
    )
    probabilities = predictions.probabilities[head][chosen]
    answer, pooled = probabilities.argmax(axis=1), metrics.head_metrics(label, actor, probabilities)
    confusions = [
        confusion_matrix(label[actor == one], answer[actor == one], labels=metrics.LABELS)
        for one in np.unique(actor)
    ]
    intervals = bootstrap(np.array(confusions))
    folds = [metrics.averages(label[fold == one], answer[fold == one]) for one in np.unique(fold)]
    return pooled | {
        name: {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "pooled": pooled[name],
            "interval": intervals[name],
            "folds": values,
        }
        for name in ("war", "uar")
        for values in [[own[name] for own in folds]]
    }


def left_out(lines: Sequence[Sequence[str]]) -> list[str]:
    """Say once what each training says of heads that are left out, and which say so."""
    saying: dict[str, list[str]] = {}
    for number, own in enumerate(lines, 1):
        for line in own:
            saying.setdefault(line, []).append(str(number))
    return [
        line if len(numbers) == len(lines) else f"fold {', '.join(numbers)}: {line}"
        for line, numbers in saying.items()
    ]


def spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation in percent, such as ``47.3 ± 1.2``; of one value, itself."""
    if not len(values):
        return ""
    percent = 100 * np.asarray(values)
    deviation = f" ± {percent.std(ddof=1):.1f}" if len(percent) > 1 else ""
    return f"{percent.mean():{sign}.1f}{deviation}"


def table(summary: Mapping) -> str:
    """Table of every head in percent: mean ± standard deviation over folds, interval."""
    lines = [f"{'':8}{'WAR':>14}{'UAR':>14}{'UAR, 95 % over actors':>25}{'ECE':>8}"]
    for head in (head for head in HEADS if head in summary):
        own = summary[head]
        low, high = (100 * edge for edge in own["uar"]["interval"])
        cells = [f"{spread(own[name]['folds']):>14}" for name in ("war", "uar")]
        error = own["calibration"]["expected_calibration_error"]
        lines.append(f"{head:8}{''.join(cells)}{f'{low:.1f} to {high:.1f}':>25}{error:8.3f}")
    counts = f"{summary['clips']} clips of {len(summary['actors'])} actors"
    counts += f", {len(summary['fused']['uar']['folds'])} folds"
    if minutes := [value for value in summary.get("minutes", ()) if value is not None]:
        counts += f"; {np.mean(minutes):.1f} minutes a fold"
    return "\n".join([*lines, *summary["left_out"], counts, *filter(None, [summary["stamp"]])])


def write_report(folder: Path, summary: Mapping) -> None:
    """Write ``crossval.json``, the confusion matrix of all folds, and the figure of the heads."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(folder / "crossval.json", json.dumps(summary, indent=1).encode())
    pooled = {name: summary["fused"][name]["pooled"] for name in ("war", "uar")}
    confusion = {**summary, "fused": {**summary["fused"], **pooled}}
    figures.draw_confusion(folder / "confusion.png", confusion)
    figures.draw_summary(folder / "summary.png", summary)
