"""Predictions to metrics: WAR, UAR, recall, confusion, calibration, per actor."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from pipeline.corpora.actors import format_actors, in_order
from pipeline.spec import EMOTIONS
from train.evaluation.calibration import calibration
from train.heads import HEADS, LEFT_OUT, UNTAUGHT

if TYPE_CHECKING:
    import keras

    from train.data.rows import Rows

LABELS = range(len(EMOTIONS))


def predict(model: keras.Model, rows: Rows) -> dict[str, NDArray[np.float32]]:
    """Return outputs of a model by name, shape (rows, …), in the order of the table."""
    from train.data import dataset

    batches = dataset.in_order(rows, dataset.EVALUATION_BATCH_SIZE, model.input)
    with dataset.input_errors():
        return model.predict(batches.map(lambda inputs, *_: inputs), verbose=0)


def within_corpus(
    rows: Rows, probabilities: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return probabilities given that a clip shows one of the emotions that its corpus has.

    Where there is one corpus they stay what they are.

    Parameters
    ----------
    rows
        The table, of one row or more.
    probabilities
        By head, shape (rows, 8); other outputs stay what they are.
    """
    if rows.corpora is None:
        return dict(probabilities)
    given = {}
    for head in set(HEADS) & set(probabilities):
        # Where nothing is left of it, all are as probable.
        possible = (probabilities[head].astype(np.float64) + 1e-30) * rows.corpora.mask
        given[head] = (possible / possible.sum(axis=1, keepdims=True)).astype(np.float32)
    return {**probabilities, **given}


def averages(label: NDArray[np.int64], answer: NDArray[np.int64]) -> dict[str, float]:
    """Weighted (``war``) and unweighted (``uar``) average recall of answers, shape (clips,).

    WAR is accuracy; UAR is balanced accuracy, the mean recall of the emotions that are present.
    Schuller et al. 2009, "The INTERSPEECH 2009 Emotion Challenge".
    """
    # balanced_accuracy_score gives the same, and warns of answers that are no clip's emotion.
    present = np.unique(label)
    uar = recall_score(label, answer, labels=present, average="macro", zero_division=0)
    return {"war": float(accuracy_score(label, answer)), "uar": float(uar)}


def head_metrics(
    label: NDArray[np.int64], actor: NDArray, probabilities: NDArray[np.float32]
) -> dict:
    """Metrics of one head.

    Labels and actors have shape (clips,), probabilities (clips, 8).

    Returns
    -------
    dict
        ``war`` and ``uar``; ``recall`` by emotion, None where absent; ``actors``: war, uar and
        number of clips of each; ``confusion`` (rows: true emotion, columns: answer) and
        ``calibration`` (:func:`train.evaluation.calibration.calibration`).
    """
    answer = probabilities.argmax(axis=1)
    confusion = confusion_matrix(label, answer, labels=LABELS)
    hits, counts = np.diagonal(confusion), confusion.sum(axis=1)
    return averages(label, answer) | {
        "recall": {
            name: float(hits[number] / counts[number]) if counts[number] else None
            for number, name in enumerate(EMOTIONS)
        },
        "actors": {
            str(one): averages(label[own], answer[own]) | {"clips": int(own.sum())}
            for one in in_order(actor.tolist())
            for own in [actor == one]
        },
        "confusion": confusion.tolist(),
        "calibration": calibration(probabilities, label),
    }


def judged_rows(rows: Rows, learned: Collection[str]) -> dict[str, NDArray[np.bool_]]:
    """Which rows each head is tested on, shape (rows,); heads without any are left out.

    So are heads that have not ``learned``, but for the fused one, which is tested in any case.
    """
    heads = [head for head in HEADS if head == "fused" or head in learned]
    return {head: rows.having(head) for head in heads if rows.having(head).any()}


def left_out(rows: Rows, learned: Collection[str]) -> list[str]:
    """Say which heads are not tested, and why."""
    judged = judged_rows(rows, learned)
    return [
        (LEFT_OUT if head in learned else UNTAUGHT)[head] for head in HEADS if head not in judged
    ]


def metrics(
    rows: Rows,
    probabilities: Mapping[str, NDArray[np.float32]],
    learned: Collection[str] = HEADS,
) -> dict:
    """Metrics of every head that is tested, over the rows that have its modality.

    Probabilities have shape (rows, 8); for ``learned`` see :func:`judged_rows`.

    Returns
    -------
    dict
        :func:`head_metrics` by head; ``left_out``, see there; ``clips`` and ``actors``.
    """
    return {
        head: head_metrics(rows.label[having], rows.actor[having], probabilities[head][having])
        for head, having in judged_rows(rows, learned).items()
    } | {
        "left_out": left_out(rows, learned),
        "clips": len(rows),
        "actors": in_order(rows.actor.tolist()),
    }


def head_averages(
    rows: Rows,
    probabilities: Mapping[str, NDArray[np.float32]],
    learned: Collection[str] = HEADS,
) -> dict[str, dict[str, float]]:
    """Return :func:`averages` of each head that is tested."""
    return {
        head: averages(rows.label[having], probabilities[head][having].argmax(axis=1))
        for head, having in judged_rows(rows, learned).items()
    }


def by_corpus(
    rows: Rows,
    probabilities: Mapping[str, NDArray[np.float32]],
    learned: Collection[str] = HEADS,
) -> dict[str, dict]:
    """Return averages of the clips of each corpus by its name; nothing where there is one corpus.

    Returns
    -------
    dict of str to dict
        ``clips``, ``actors``, ``emotions`` (how many it has), and :func:`averages` by head.
    """
    found = {}
    for number, name in enumerate(rows.corpora.names if rows.corpora else ()):
        own = np.flatnonzero(rows.corpora.number == number)
        if len(own):
            part = {head: values[own] for head, values in probabilities.items()}
            found[name] = {
                "clips": len(own),
                "actors": in_order(rows.actor[own].tolist()),
                "emotions": int(rows.corpora.emotions[number].sum()),
                **head_averages(rows.take(own), part, learned),
            }
    return found


def table(judged: Mapping) -> str:
    """Table of :func:`metrics` in percent, with the expected calibration error of each head.

    UAR by corpus where there are several, what is left out, and the stamp of a result that is not
    comparable, are named below it.
    """
    corpora = judged.get("corpora", {})
    actors = format_actors(judged["actors"]) if corpora else judged["actors"]
    lines = [f"{'':8}{'WAR':>7}{'UAR':>7}{'ECE':>8}   actors {actors}, {judged['clips']} clips"]
    for head in (head for head in HEADS if head in judged):
        war, uar = (100 * judged[head][name] for name in ("war", "uar"))
        error = judged[head]["calibration"]["expected_calibration_error"]
        lines.append(f"{head:8}{war:7.1f}{uar:7.1f}{error:8.3f}")
    for name, own in corpora.items():
        values = ", ".join(f"{head} {100 * own[head]['uar']:.1f}" for head in HEADS if head in own)
        lines.append(f"{name}: UAR {values}; {own['clips']} clips, {own['emotions']} emotions")
    return "\n".join([*lines, *judged["left_out"], *filter(None, [judged.get("stamp")])])
