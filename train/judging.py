"""All folds judged together: averages, intervals over actors, and the worst mistakes."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train import confidence, figures
from train.heads import HEADS
from train.protocol import Split

RESAMPLES = 2000
CONFIDENCE = 0.95
WORST_CLIPS = 10


@dataclasses.dataclass(frozen=True)
class Answers:
    """Test answers of all folds, a row a clip.

    Parameters
    ----------
    clip, actor, label, fold
        What was tested: identity, person, index of the emotion, and number of the fold.
    answer
        Label that each head gave, shape (clips,) each; -1 where it gave none.
    probabilities
        Of the fused head, float32 (clips, 8).
    left_out
        Heads that are not judged in some fold, and why.
    """

    clip: NDArray[np.str_]
    actor: NDArray[np.int64]
    label: NDArray[np.int64]
    fold: NDArray[np.int64]
    answer: dict[str, NDArray[np.int64]]
    probabilities: NDArray[np.float32]
    left_out: tuple[str, ...] = ()


def read_answers(folders: Sequence[Path]) -> Answers:
    """Gather the predictions of all folds, sorted by actor and clip."""
    rows: list[dict] = []
    missing: dict[str, list[int]] = {}
    for number, folder in enumerate(folders):
        metrics = json.loads((folder / "report" / "metrics.json").read_bytes())
        for line in metrics["left_out"]:
            missing.setdefault(line, []).append(number + 1)
        with (folder / "report" / "predictions.csv").open(encoding="utf-8") as stream:
            rows += [row | {"fold": number} for row in csv.DictReader(stream)]
    rows.sort(key=lambda row: (int(row["actor"]), row["clip"]))
    left_out = [
        line if len(numbers) == len(folders) else f"fold {', '.join(map(str, numbers))}: {line}"
        for line, numbers in missing.items()
    ]
    return Answers(
        np.array([row["clip"] for row in rows]),
        np.array([int(row["actor"]) for row in rows]),
        np.array([EMOTIONS.index(row["emotion"]) for row in rows]),
        np.array([row["fold"] for row in rows]),
        {
            head: np.array([EMOTIONS.index(row[head]) if row[head] else -1 for row in rows])
            for head in HEADS
        },
        np.array([[float(row[f"p_{name}"]) for name in EMOTIONS] for row in rows], np.float32),
        tuple(left_out),
    )


def grouped_confusions(
    group: NDArray[np.int64], label: NDArray[np.int64], answer: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Confusion matrix of each group of clips, shape (groups, 8, 8): true emotion by answer."""
    groups, place = np.unique(group, return_inverse=True)
    counts = np.zeros((len(groups), len(EMOTIONS), len(EMOTIONS)), np.int64)
    np.add.at(counts, (place, label, answer), 1)
    return counts


def averages(confusion: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """WAR and UAR of confusion matrices, shape (…, 8, 8); absent emotions do not count."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    counts = confusion.sum(axis=-1)
    recall = np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)
    return hits.sum(axis=-1) / counts.sum(axis=-1), np.nanmean(recall, axis=-1)


def bootstrap(confusions: NDArray[np.int64], seed: int = 0) -> dict[str, list[float]]:
    """Interval of the pooled WAR and UAR over what other actors might have been recorded.

    Parameters
    ----------
    confusions
        Of each actor, shape (actors, 8, 8). Actors are drawn with replacement: clips of one actor
        are not independent.
    seed
        Of the draws.

    Returns
    -------
    dict of str to [low, high]
        Percentile interval that holds ``CONFIDENCE`` of the draws.

    Notes
    -----
    Efron & Tibshirani 1993, "An introduction to the bootstrap", chapters 13 and 8 (clusters).
    """
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(confusions), (RESAMPLES, len(confusions)))
    war, uar = averages(confusions[draws].sum(axis=1))
    edges = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    return {"war": np.percentile(war, edges).tolist(), "uar": np.percentile(uar, edges).tolist()}


def most_wrong(answers: Answers) -> list[dict]:
    """List the clips whose true emotion got the least probability, relative to the answer."""
    rows = np.arange(len(answers.label))
    given = answers.probabilities[rows, answers.label]
    gap = answers.probabilities.max(axis=1) - given
    return [
        {
            "clip": str(answers.clip[row]),
            "actor": int(answers.actor[row]),
            "emotion": EMOTIONS[answers.label[row]],
            "answer": EMOTIONS[answers.probabilities[row].argmax()],
            "probability": round(float(answers.probabilities[row].max()), 4),
        }
        for row in np.argsort(-gap, kind="stable")[:WORST_CLIPS]
        if gap[row] > 0
    ]


def judge(
    folders: Sequence[Path],
    splits: Sequence[Split],
    stamp: str | None = None,
    real_ravdess: bool = False,
) -> dict:
    """Judge all folds together.

    Parameters
    ----------
    folders
        Where each fold left its report.
    splits
        One a fold.
    stamp
        What the report has to say of itself, see :func:`train.protocol.stamp`.
    real_ravdess
        Whether the clips are RAVDESS' own, so that they compare with what people reach on them.

    Returns
    -------
    dict
        For each head ``war`` and ``uar``: mean and standard deviation over folds, pooled value and
        its interval over actors; ``confusion`` and ``recall`` pooled; ``actors``; then
        ``calibration``, ``most_wrong``, ``folds``, ``stamp``, ``real_ravdess`` and ``left_out``.
        A head counts where it gave an answer, and is left out if it gave none.
    """
    answers = read_answers(folders)
    judged: dict = {
        "stamp": stamp,
        "real_ravdess": real_ravdess,
        "clips": len(answers.clip),
        "actors": np.unique(answers.actor).tolist(),
        "left_out": list(answers.left_out),
        "folds": [dataclasses.asdict(split) for split in splits],
    }
    for head, given in answers.answer.items():
        chosen = given >= 0
        if not chosen.any():
            continue
        answer, label, actor_of = given[chosen], answers.label[chosen], answers.actor[chosen]
        actors = np.unique(actor_of)
        of_actors = grouped_confusions(actor_of, label, answer)
        total = of_actors.sum(axis=0)
        folds = averages(grouped_confusions(answers.fold[chosen], label, answer))
        intervals = bootstrap(of_actors)
        judged[head] = {
            name: {
                "mean": float(values.mean()),
                "sd": float(values.std(ddof=1)) if len(values) > 1 else None,
                "pooled": float(pooled),
                "interval": intervals[name],
                "folds": values.tolist(),
            }
            for name, values, pooled in zip(("war", "uar"), folds, averages(total), strict=True)
        } | {
            "recall": dict(
                zip(
                    EMOTIONS,
                    (np.diagonal(total) / np.maximum(1, total.sum(axis=1))).tolist(),
                    strict=True,
                )
            ),
            "actors": {
                str(actor): {"war": float(war), "uar": float(uar)}
                for actor, war, uar in zip(actors, *averages(of_actors), strict=True)
            },
            "confusion": total.tolist(),
        }
    judged["calibration"] = confidence.calibration(answers.probabilities, answers.label)
    judged["most_wrong"] = most_wrong(answers)
    return judged


def spread(values: NDArray[np.float64], sign: str = "") -> str:
    """Mean and standard deviation, such as ``47.3 ± 1.2``; of a single value there is no other."""
    deviation = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
    return f"{values.mean():{sign}.1f}{deviation}"


def table(judged: dict) -> str:
    """Table of the heads' averages, in percent: mean ± deviation over folds, interval."""
    lines = [f"{'':8}{'WAR':>14}{'UAR':>14}{'UAR, 95 % over actors':>25}"]
    for head in (head for head in HEADS if head in judged):
        cells = [spread(100 * np.array(judged[head][name]["folds"])) for name in ("war", "uar")]
        low, high = (100 * edge for edge in judged[head]["uar"]["interval"])
        lines.append(f"{head:8}{cells[0]:>14}{cells[1]:>14}{f'{low:.1f} to {high:.1f}':>25}")
    lines += judged["left_out"]
    error = judged["calibration"]["expected_calibration_error"]
    lines.append(
        f"{judged['clips']} clips of {len(judged['actors'])} actors, "
        f"{len(judged['folds'])} folds; expected calibration error {error:.3f}"
    )
    counted = [minutes for minutes in judged.get("minutes", ()) if minutes is not None]
    if counted:
        lines[-1] += f"; {sum(counted) / len(counted):.1f} minutes a fold"
    if judged["stamp"]:
        lines.append(judged["stamp"])
    return "\n".join(lines)


def write_report(folder: Path, judged: dict) -> None:
    """Write ``crossval.json``, the pooled confusion matrix, bars and calibration curve."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_durably(folder / "crossval.json", json.dumps(judged, indent=1).encode())
    pooled = {name: judged["fused"][name]["pooled"] for name in ("war", "uar")}
    figures.draw_confusion(
        folder / "confusion.png",
        judged | {"fused": pooled | {"confusion": judged["fused"]["confusion"]}},
    )
    figures.draw_bars(folder / "actors_emotions_calibration.png", judged)
