"""Sections about a model: its result, where it is right and wrong, how it was trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.corpora.actors import format_actors
from pipeline.spec import EMOTIONS
from train.evaluation import figures, robustness
from train.heads import HEADS
from train.page.markup import (
    Markup,
    counted,
    element,
    figure,
    join,
    paragraph,
    percent,
    table,
)
from train.page.material import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD_NAMES = {head: head if head == "fused" else f"{head} alone" for head in HEADS}

MOST_PAIRS = 5
"""Confusions that are named in words."""


def chance(judged: dict[str, Any]) -> float:
    """Return the recall of guessing: one of the emotions that were tested."""
    return 1 / sum(value is not None for value in judged["fused"]["recall"].values())


def headline(trained: Trained) -> Markup:
    """Say the result, and how it was measured, in a few sentences."""
    judged, sides = trained.judged, trained.description.get("actors", {})
    if "fused" not in judged:
        return paragraph("The model was not tested.")
    uar = [actor["uar"] for actor in judged["fused"]["actors"].values()]
    clips, actors = judged["clips"], judged["actors"]
    tested = f"{counted(len(actors), 'actor')} ({format_actors(actors)})"
    said = [
        f"Unweighted average recall (UAR) of the fused answer on {counted(clips, 'clip')} of "
        f"{tested}. Chance is {percent(chance(judged), 1)}."
        + (f" Single actors: {percent(min(uar))} to {percent(max(uar))}." if len(uar) > 1 else ""),
        f"One training, seed {trained.description.get('settings', {}).get('seed', 'unknown')}, "
        f"on actors {format_actors(sides.get('train', []))}; actors "
        f"{format_actors(sides.get('validation', []))} decided when to stop.",
    ]
    if trained.description.get("clip_seed") is None:
        said.append("No clip of a test actor was used in training or in any choice.")
    if corpus := trained.description.get("corpus"):
        said.append(f"Corpus: {corpus}.")
    warnings = [*judged.get("left_out", []), *filter(None, [judged.get("stamp")])]
    number = element("strong", percent(judged["fused"]["uar"], 1))
    return join(
        [
            element("div", number, class_="headline"),
            *map(paragraph, said),
            *(paragraph(warning, class_="bad") for warning in warnings),
            heads(judged),
        ]
    )


def heads(judged: dict[str, Any]) -> Markup:
    """Table of the averages of each head."""
    lines = []
    for head in figures.tested_heads(judged):
        own = judged[head]
        error = own["calibration"]["expected_calibration_error"]
        lines.append(
            (HEAD_NAMES[head], percent(own["uar"], 1), percent(own["war"], 1), f"{error:.3f}")
        )
    return table(["answer", "UAR", "accuracy (WAR)", "calibration error (ECE)"], lines)


def errors(judged: dict[str, Any]) -> Markup:
    """Which emotions are taken for which, and how sure the answers are."""
    return element("div", confusion(judged), calibration(judged), class_="panels")


def confusion(judged: dict[str, Any]) -> Markup:
    """Picture of the confusion matrix, and the most frequent confusions in words."""
    counts = np.array(judged["fused"]["confusion"])
    wrong = counts * ~np.eye(len(counts), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [
        f"{EMOTIONS[acted]} as {EMOTIONS[said]} ({wrong[acted, said]} of {counts[acted].sum()})"
        for acted, said in zip(*np.unravel_index(order, wrong.shape), strict=True)
        if wrong[acted, said]
    ]
    said = f"Most often confused: {', '.join(pairs)}." if pairs else "No clip is answered wrongly."
    drawn = figures.new_figure(4.6, 4)
    figures.plot_confusion(drawn.subplots(), judged)
    svg = Markup(figures.svg_text(drawn, f"Confusion matrix. {said}"))
    return figure(svg, said)


def panel(plot: Callable[[Axes], None], alt: str, caption: str, height: float = 3.4) -> Markup:
    """Draw a figure of one pair of axes; ``height`` is in inches, the width is 4.6."""
    drawn = figures.new_figure(4.6, height)
    axes = drawn.subplots()
    plot(axes)
    drawn.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    return figure(Markup(figures.svg_text(drawn, alt)), caption)


def by_actor(judged: dict[str, Any]) -> Markup:
    """Bars by actor and by emotion."""
    uar = {number: actor["uar"] for number, actor in judged["fused"]["actors"].items()}
    recall = {name: value for name, value in judged["fused"]["recall"].items() if value is not None}
    actors, emotions = best_and_worst(uar, "actor "), best_and_worst(recall)
    return element(
        "div",
        panel(lambda axes: figures.plot_actors(axes, judged), f"UAR by actor. {actors}", actors),
        panel(
            lambda axes: figures.plot_recall(axes, judged),
            f"Recall by emotion. {emotions}",
            emotions,
        ),
        class_="panels",
    )


def best_and_worst(parts: dict[str, float], what: str = "") -> str:
    """Name the smallest and the largest of some parts of one."""
    worst, best = min(parts, key=parts.get), max(parts, key=parts.get)
    return (
        f"Fused: from {percent(parts[worst])} ({what}{worst}) to {percent(parts[best])} "
        f"({what}{best})."
    )


def calibration(judged: dict[str, Any]) -> Markup:
    """Confidence against accuracy of each head."""
    tested = figures.tested_heads(judged)
    errors = ", ".join(
        f"{HEAD_NAMES[head]} {judged[head]['calibration']['expected_calibration_error']:.3f}"
        for head in tested
    )
    said = f"Expected calibration error: {errors}. On the diagonal an answer is as sure as right."
    return panel(
        lambda axes: figures.plot_calibration(axes, judged, tested),
        f"Calibration. {said}",
        said,
        height=4,
    )


def curves(trained: Trained) -> Markup:
    """Loss and accuracy of every epoch of every stage."""
    if not trained.epochs:
        return paragraph("The model's report has no log of its epochs.")
    stages = list(dict.fromkeys(epoch["stage"] for epoch in trained.epochs))
    said = f"{len(trained.epochs)} epochs of {len(stages)} stages: {', '.join(stages)}."
    return element(
        "div",
        *(
            panel(
                partial(figures.plot_epochs, epochs=trained.epochs, name=name),
                f"{name} of {said}",
                f"{name.capitalize()}; solid: validation, dotted: training.",
            )
            for name in ("loss", "accuracy")
        ),
        class_="panels",
    )


def degraded(trained: Trained) -> Markup:
    """Table of what is left when a modality is missing or noisy."""
    measured = trained.degraded
    if measured is None:
        return paragraph("The model's report has no robustness table.")
    lines = [
        (name, *(percent(value, 1) for value in values))
        for name, values in robustness.averages(measured).items()
    ]
    said = "; ".join([f"{measured['clips']} test clips", *measured.get("left_out", [])])
    return join([table(["", *robustness.COLUMNS], lines), paragraph(f"{said}.", class_="soft")])


def other_tests(trained: Trained) -> Markup:
    """Table of what ``make evaluate`` measured later."""
    lines = []
    for name, judged in trained.others.items():
        seen = judged.get("seen_in_training", [])
        said = f"trained on actors {format_actors(seen)}: not a test" if seen else ""
        uar = (percent(judged.get(head, {}).get("uar"), 1) for head in HEAD_NAMES)
        clips, actors = judged["clips"], len(judged["actors"])
        lines.append((name, f"{clips:,}", actors, *uar, said or judged.get("stamp") or ""))
    header = ["report", "clips", "actors", *(f"{name}, UAR" for name in HEAD_NAMES.values()), ""]
    return join([element("h3", "Later tests (make evaluate)"), table(header, lines)])
