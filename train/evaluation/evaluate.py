"""Trained models on actors they have not seen, of any corpora."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache.index import Index
from pipeline.corpora.actors import Actor, format_actors, in_order
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train.artefact import Artefact
from train.data import corpora, duplicates, speaker
from train.data.corpora import CorpusOfRows
from train.data.rows import Rows, select_rows
from train.evaluation import metrics, report, robustness
from train.heads import HEADS

TABLE_NAME = "cross_corpus.json"


@dataclass(frozen=True)
class Tested:
    """A cache to test on.

    Parameters
    ----------
    name
        What tables and reports call it.
    path
        As the user named it.
    index
        The cache.
    actors
        Whom to test; None for all that a model has not seen.
    """

    name: str
    path: Path
    index: Index
    actors: Sequence[Actor] | None = None


def refuse_other_spec(trained: Artefact, cache: Index, path: Path) -> str | None:
    """Raise unless a cache holds what a model takes; say so if its variants are others."""
    if dataclasses.replace(trained.spec, variants=cache.spec.variants) != cache.spec:
        raise InputError(
            f"expected a cache of the model's spec {trained.spec.digest}, got {cache.spec.digest} "
            f"in {path}; extract with the recipe the model was trained with"
        )
    if trained.spec == cache.spec:
        return None
    return (
        f"the cache holds other variants ({', '.join(cache.spec.variants) or 'none'}) than the "
        f"model's ({', '.join(trained.spec.variants) or 'none'}): only clean rows are tested"
    )


def evaluate_one(folder: Path, trained: Artefact, tested: Tested) -> None:
    """Test a model on one cache, write the report and print the tables.

    Raises
    ------
    InputError
        If the model has seen all actors and none is named, or the cache lacks one.
    """
    shared = shared_emotions(trained, tested.index) if len(trained.corpora) > 1 else None
    seen = seen_actors(trained, tested.index)
    chosen = chosen_rows(trained, tested, seen, shared)
    if chosen is None:
        raise InputError(
            f"expected actors the model has not seen in {tested.path}, got none; "
            "name some with --actors to test on seen ones all the same"
        )
    if not len(chosen):
        raise InputError(
            f"expected clips of emotions that the model has learned in {tested.path}, got none; "
            "test it on another corpus"
        )
    target, judged = judge(folder, trained, tested, chosen, seen)
    print(metrics.table(judged))
    measured = robustness.measure(trained.model, chosen, tested.index, trained.learned)
    robustness.write(target, measured)
    print(robustness.table(measured))
    if judged["seen_in_training"]:
        print(
            f"not a test: the model was trained on recordings of actors "
            f"{format_actors(judged['seen_in_training'])}"
        )
    print(f"report: {target}")


def evaluate_all(models: Sequence[tuple[Path, Artefact]], caches: Sequence[Tested]) -> None:
    """Test each model on each cache, write all reports, and print the table of both."""
    lines = []
    for folder, trained in models:
        cells: dict[str, dict | None] = {}
        for tested in caches:
            seen = seen_actors(trained, tested.index)
            shared = shared_emotions(trained, tested.index)
            chosen = chosen_rows(trained, tested, seen, shared)
            cells[tested.name] = None if chosen is None else {}
            if not chosen:
                continue
            target, judged = judge(folder, trained, tested, chosen, seen)
            print(f"report: {target}")
            cells[tested.name] = {
                **{head: judged[head]["uar"] for head in HEADS if head in judged},
                "clips": judged["clips"],
                "actors": judged["actors"],
                "emotions": [EMOTIONS[label] for label in np.flatnonzero(shared)],
                "seen_in_training": judged["seen_in_training"],
            }
        lines.append({"model": str(folder), "trained_on": trained_on(trained), "tested_on": cells})
    path = models[0][0] / TABLE_NAME
    atomic.write_durably(path, json.dumps(lines, indent=1).encode())
    print(table(lines))
    print(f"table: {path}")


def trained_on(trained: Artefact) -> str:
    """Name the corpora that a model has learned from."""
    return "+".join(corpus["name"] for corpus in trained.corpora) or trained.corpus or "?"


def shared_emotions(trained: Artefact, cache: Index) -> NDArray[np.bool_]:
    """Which emotions both a model has learned from and a cache has clips of, shape (8,)."""
    learned = {name for corpus in trained.corpora for name in corpus["emotions"]}
    # A model that does not say it may have learned any.
    known = np.array([not learned or name in learned for name in EMOTIONS])
    return known & corpora.emotions_of(cache)


def seen_actors(trained: Artefact, cache: Index) -> set[int]:
    """Actors of a cache with recordings that a model has learned from."""
    known = set(trained.seen)
    return {
        entry.actor
        for entry in cache.clips
        if any(source.sha256 in known for source in entry.sources)
    }


def asked_actors(tested: Tested, seen: set[int]) -> Sequence[Actor]:
    """Return the actors that are named, or else all that a model has not seen."""
    return tested.actors or sorted(set(tested.index.actors) - seen)


def chosen_rows(
    trained: Artefact, tested: Tested, seen: set[int], shared: NDArray[np.bool_] | None
) -> Rows | None:
    """Select clean rows to test a model on; None where it has seen all actors.

    With ``shared``, bool (8,), the clips of other emotions are left out, and answers are to be one
    of these.
    """
    actors = asked_actors(tested, seen)
    if not actors:
        return None
    copies: frozenset[str] = frozenset()
    if trained.speaker_reference != "none":
        copies = duplicates.left_out(duplicates.across_actors(tested.index))
    references = speaker.references(tested.index, trained.speaker_reference, copies)
    chosen = speaker.with_reference(select_rows(tested.index, actors), references)
    if shared is None:
        return chosen
    chosen = chosen.where(shared[chosen.label])
    number = np.zeros(len(chosen), np.int64)
    own = CorpusOfRows((tested.name,), shared[np.newaxis], number)
    return dataclasses.replace(chosen, corpora=own)


def judge(
    folder: Path, trained: Artefact, tested: Tested, chosen: Rows, seen: set[int]
) -> tuple[Path, dict]:
    """Test a model on some rows and write the report; return its folder and the metrics."""
    probabilities = metrics.within_corpus(chosen, metrics.predict(trained.model, chosen))
    actors = in_order(chosen.actor.tolist())
    judged = metrics.metrics(chosen, probabilities, trained.learned) | {
        "stamp": speaker.stamp(trained.split.stamp, trained.speaker_reference),
        "seen_in_training": sorted(seen & set(actors)),
    }
    if chosen.corpora is None:
        asked = select_rows(tested.index, asked_actors(tested, seen))
        judged["left_out"] += speaker.left_out(asked, chosen)
    target = folder / f"report-{tested.name}-actors-{format_actors(actors)}"
    report.write_report(target, chosen, probabilities, judged)
    return target, judged


def table(lines: Sequence[Mapping]) -> str:
    """Table of the fused UAR in percent: a row a model, a column a corpus it is tested on."""
    trained = [line["trained_on"] for line in lines]
    labels = [
        name if trained.count(name) == 1 else f"{name} ({line['model']})"
        for name, line in zip(trained, lines, strict=True)
    ]
    columns = list(lines[0]["tested_on"])
    first, title = max(map(len, [*labels, "UAR %, fused"])), "UAR %, fused"
    widths = [max(8, len(name)) + 2 for name in columns]
    head = "".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
    shown, starred = [f"{title:{first}}{head}"], False
    for label, line in zip(labels, lines, strict=True):
        cells = [cell_text(line["tested_on"][name]) for name in columns]
        starred |= any(cell.endswith("*") for cell in cells)
        row = "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        shown.append(f"{label:{first}}{row}")
    if starred:
        shown.append("* not a test: the model was trained on recordings of these actors")
    return "\n".join(shown)


def cell_text(cell: Mapping | None) -> str:
    """Write a cell: percent, starred where it is no test, or why there is none."""
    if not cell:
        return "seen" if cell is None else "-"
    return f"{100 * cell['fused']:.1f}{'*' if cell['seen_in_training'] else ''}"
