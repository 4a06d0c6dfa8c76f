"""Cross-validation by actors: every fold trained and tested alone, then judged together."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
import tqdm
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.index import Index
from pipeline.spec import EMOTIONS
from train import runtime
from train.protocol import Split, format_actors

RESAMPLES = 2000
CONFIDENCE = 0.95
CALIBRATION_BINS = 10
WORST_CLIPS = 10


@dataclasses.dataclass(frozen=True)
class Answers:
    """Test answers of all folds, a row a clip.

    Parameters
    ----------
    clip, actor, label
        What was tested: identity, person, index of the emotion.
    answer
        Label that each head gave, shape (clips,) each.
    probabilities
        Of the fused head, float32 (clips, 8).
    """

    clip: NDArray[np.str_]
    actor: NDArray[np.int64]
    label: NDArray[np.int64]
    answer: dict[str, NDArray[np.int64]]
    probabilities: NDArray[np.float32]


def run(
    index: Index,
    folder: Path,
    splits: Sequence[Split],
    settings: dict,
    jobs: int = 1,
    progress: bool = True,
) -> list[Path]:
    """Train and test each fold in a folder of its own.

    A fold that is finished, with the same cache, split and settings, is not trained again.

    Parameters
    ----------
    index
        A finished cache; all folds read it.
    folder
        Gets ``fold-1``, ``fold-2``, …
    splits
        One a fold.
    settings
        Fields of :class:`train.fit.Settings`.
    jobs
        Folds trained at the same time, each in a process of its own.
    progress
        Whether to show a bar over folds.

    Returns
    -------
    list of Path
        The folds' folders.
    """
    places = [folder / f"fold-{number + 1}" for number in range(len(splits))]
    works = [
        joblib.delayed(train_fold)(index, place, split, settings)
        for place, split in zip(places, splits, strict=True)
    ]
    results = joblib.Parallel(n_jobs=jobs, return_as="generator")(works)
    with tqdm.tqdm(total=len(works), desc="folds", unit="fold", disable=not progress) as bar:
        for number, (split, judged) in enumerate(zip(splits, results, strict=True)):
            figures = "  ".join(
                f"{head} {100 * judged[head]['uar']:.1f}" for head in ("fused", "audio", "video")
            )
            bar.write(f"fold {number + 1}: tested on {format_actors(split.test)}: UAR {figures}")
            bar.update()
    return places


def train_fold(index: Index, folder: Path, split: Split, settings: dict) -> dict:
    """Train a fold unless it is finished, and return its metrics."""
    runtime.start_tensorflow(settings["seed"])
    from train import artefact, fit, resume

    chosen = fit.Settings(**settings)
    try:
        description = artefact.read_description(folder)
    except InputError:
        description = {}
    same = (
        description.get("spec_digest") == index.spec.digest
        and description.get("settings") == dataclasses.asdict(chosen)
        and description.get("actors") == json.loads(json.dumps(dataclasses.asdict(split)))
        and description.get("cache") == index.fingerprint
    )
    if same:
        return description["metrics"]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return fit.fit(index, folder, split, chosen, go_on=True, progress=False)
    except resume.OtherSettings:
        return fit.fit(index, folder, split, chosen, progress=False)


def read_answers(folders: Sequence[Path]) -> Answers:
    """Gather the predictions of all folds, sorted by actor and clip."""
    rows: list[dict[str, str]] = []
    for folder in folders:
        with (folder / "report" / "predictions.csv").open(encoding="utf-8") as stream:
            rows += csv.DictReader(stream)
    rows.sort(key=lambda row: (int(row["actor"]), row["clip"]))
    return Answers(
        np.array([row["clip"] for row in rows]),
        np.array([int(row["actor"]) for row in rows]),
        np.array([EMOTIONS.index(row["emotion"]) for row in rows]),
        {
            head: np.array([EMOTIONS.index(row[head]) for row in rows])
            for head in ("fused", "audio", "video")
        },
        np.array([[float(row[f"p_{name}"]) for name in EMOTIONS] for row in rows], np.float32),
    )


def actor_confusions(answers: Answers, head: str) -> NDArray[np.int64]:
    """Confusion matrix of each actor, shape (actors, 8, 8): true emotion by answer."""
    actors = np.unique(answers.actor)
    counts = np.zeros((len(actors), len(EMOTIONS), len(EMOTIONS)), np.int64)
    place = np.searchsorted(actors, answers.actor)
    np.add.at(counts, (place, answers.label, answers.answer[head]), 1)
    return counts


def averages(confusion: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """WAR and UAR of confusion matrices, shape (…, 8, 8); absent emotions do not count."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    counts = confusion.sum(axis=-1)
    recall = np.divide(hits, counts, out=np.full(hits.shape, np.nan), where=counts > 0)
    return hits.sum(axis=-1) / counts.sum(axis=-1), np.nanmean(recall, axis=-1)


def bootstrap(confusions: NDArray[np.int64], seed: int = 0) -> dict[str, list[float]]:
    """Interval of the pooled WAR and UAR when other actors of the kind had been recorded.

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


def calibration(answers: Answers) -> dict:
    """Compute the expected calibration error of the fused head and the bins it is made of.

    Notes
    -----
    Guo et al. 2017, "On calibration of modern neural networks", equation 3.
    """
    confidence = answers.probabilities.max(axis=1)
    right = answers.probabilities.argmax(axis=1) == answers.label
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    rows = [
        {
            "clips": int(chosen.sum()),
            "confidence": float(confidence[chosen].mean()),
            "accuracy": float(right[chosen].mean()),
        }
        for number in range(CALIBRATION_BINS)
        for chosen in [bins == number]
        if chosen.any()
    ]
    error = sum(row["clips"] * abs(row["confidence"] - row["accuracy"]) for row in rows)
    return {"expected_calibration_error": error / len(right), "bins": rows}


def most_wrong(answers: Answers) -> list[dict]:
    """List the clips whose true emotion was thought least probable, relative to the answer."""
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


def judge(folders: Sequence[Path], splits: Sequence[Split], stamp: str | None) -> dict:
    """Judge all folds together.

    Returns
    -------
    dict
        For each head ``war`` and ``uar``: mean and standard deviation over folds, pooled value and
        its interval over actors; ``confusion`` and ``recall`` pooled; ``actors``; then
        ``calibration``, ``most_wrong``, ``folds`` and, where the protocol was cut down,
        ``stamp``.
    """
    answers = read_answers(folders)
    actors = np.unique(answers.actor)
    judged: dict = {
        "stamp": stamp,
        "clips": len(answers.clip),
        "actors": actors.tolist(),
        "folds": [dataclasses.asdict(split) for split in splits],
    }
    for head in answers.answer:
        confusions = actor_confusions(answers, head)
        of_folds = [
            averages(confusions[np.isin(actors, split.test)].sum(axis=0)) for split in splits
        ]
        interval = bootstrap(confusions)
        pooled = averages(confusions.sum(axis=0))
        of_actors = np.array(averages(confusions)).T
        total = confusions.sum(axis=0)
        judged[head] = {
            name: {
                "mean": float(np.mean([fold[place] for fold in of_folds])),
                "sd": float(np.std([fold[place] for fold in of_folds], ddof=len(splits) > 1)),
                "pooled": float(pooled[place]),
                "interval": interval[name],
                "folds": [float(fold[place]) for fold in of_folds],
            }
            for place, name in enumerate(("war", "uar"))
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
                for actor, (war, uar) in zip(actors, of_actors, strict=True)
            },
            "confusion": total.tolist(),
        }
    judged["calibration"] = calibration(answers)
    judged["most_wrong"] = most_wrong(answers)
    return judged


def table(judged: dict) -> str:
    """Table of the heads' averages, in percent: mean ± deviation over folds, interval."""
    lines = [f"{'':8}{'WAR':>14}{'UAR':>14}{'UAR, 95 % over actors':>25}"]
    for head in ("fused", "audio", "video"):
        cells = [
            f"{100 * judged[head][name]['mean']:.1f} ± {100 * judged[head][name]['sd']:.1f}"
            for name in ("war", "uar")
        ]
        low, high = (100 * edge for edge in judged[head]["uar"]["interval"])
        lines.append(f"{head:8}{cells[0]:>14}{cells[1]:>14}{f'{low:.1f} to {high:.1f}':>25}")
    error = judged["calibration"]["expected_calibration_error"]
    lines.append(
        f"{judged['clips']} clips of {len(judged['actors'])} actors, "
        f"{len(judged['folds'])} folds; expected calibration error {error:.3f}"
        + (f"; {judged['stamp']}" if judged["stamp"] else "")
    )
    return "\n".join(lines)


def write_report(folder: Path, judged: dict) -> None:
    """Write ``crossval.json``, the pooled confusion matrix, bars and calibration curve."""
    from train import evaluate

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crossval.json").write_text(json.dumps(judged, indent=1), encoding="utf-8")
    pooled = {name: judged["fused"][name]["pooled"] for name in ("war", "uar")}
    evaluate.draw_confusion(
        folder / "confusion.png",
        judged | {"fused": pooled | {"confusion": judged["fused"]["confusion"]}},
    )
    draw_bars(folder / "actors_emotions_calibration.png", judged)


def draw_bars(path: Path, judged: dict) -> None:
    """Draw UAR of each actor, recall of each emotion, and confidence against accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), dpi=110, layout="constrained")
    by_actor, by_emotion, curve = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for offset, head in enumerate(("fused", "audio", "video")):
        actors = judged[head]["actors"]
        places = np.arange(len(actors)) + 0.27 * (offset - 1)
        by_actor.bar(places, [100 * actor["uar"] for actor in actors.values()], 0.27, label=head)
        places = np.arange(len(EMOTIONS)) + 0.27 * (offset - 1)
        by_emotion.bar(places, [100 * value for value in judged[head]["recall"].values()], 0.27)
    by_actor.set_xticks(range(len(judged["actors"])), judged["actors"])
    by_actor.set(xlabel="actor", ylabel="UAR, %", ylim=(0, 100))
    by_actor.legend(ncols=3, fontsize=8)
    by_emotion.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    by_emotion.set(ylabel="recall, %", ylim=(0, 100))
    bins = judged["calibration"]["bins"]
    curve.plot([0, 1], [0, 1], ":", color="grey")
    curve.plot([row["confidence"] for row in bins], [row["accuracy"] for row in bins], "o-")
    curve.set(xlabel="confidence of the fused answer", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    figure.savefig(path)
