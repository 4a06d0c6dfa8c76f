"""The figures of a report, drawn from the numbers in the JSON or CSV file beside them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline import atomic
from pipeline.spec import EMOTIONS
from train.heads import HEADS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_WIDTH = 0.27


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def draw_confusion(path: Path, judged: Mapping) -> None:
    """Draw the confusion matrix of the fused head, row by row in percent."""
    from sklearn.metrics import ConfusionMatrixDisplay

    counts, averages = np.array(judged["fused"]["confusion"]), judged["fused"]
    share = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    figure = new_figure(6.4, 5.6)
    axes = figure.subplots()
    ConfusionMatrixDisplay(share, display_labels=EMOTIONS).plot(
        ax=axes,
        cmap="Blues",
        values_format=".0f",
        xticks_rotation=45,
        im_kw={"vmin": 0, "vmax": 100},
    )
    axes.set(xlabel="fused answer", ylabel="acted emotion, each row in percent")
    lines = [f"{judged['clips']} clips of {len(judged['actors'])} test actors"]
    lines += [*judged["left_out"], *filter(None, [judged.get("stamp")])]
    lines.append(f"WAR {100 * averages['war']:.1f} %, UAR {100 * averages['uar']:.1f} %")
    axes.set_title("\n".join(lines), fontsize=10)
    save(figure, path)


def draw_curves(path: Path, log: Path) -> None:
    """Draw loss and accuracy of every epoch of every stage.

    Parameters
    ----------
    path
        Gets the figure.
    log
        CSV with a line an epoch and the columns ``stage``, ``loss``, ``accuracy``, ``val_loss`` and
        ``val_accuracy``; the last two are empty where a stage has no validation actors.
    """
    with log.open(encoding="utf-8", newline="") as stream:
        epochs = list(enumerate(csv.DictReader(stream), 1))
    figure = new_figure(9, 3.6)
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        stages = itertools.groupby(epochs, key=lambda epoch: epoch[1]["stage"])
        for place, (stage, group) in enumerate(stages):
            numbers, lines = zip(*group, strict=True)
            for column, style in ((name, ":"), (f"val_{name}", "-")):
                values = [float(line[column] or "nan") for line in lines]
                label = stage if style == "-" else None
                axes.plot(numbers, values, style, color=f"C{place}", label=label, marker=".")
        axes.set(xlabel="epoch, all stages", ylabel=name)
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=7, title="solid: validation, dotted: training", title_fontsize=7)
    save(figure, path)


def draw_summary(path: Path, judged: Mapping) -> None:
    """Draw UAR by actor, recall by emotion and the fused head's confidence against accuracy.

    See :func:`train.studies.summary.summarize` for ``judged``.
    """
    figure = new_figure(14, 4)
    names = [str(actor) for actor in judged["actors"]]
    by_actor, by_emotion, curve = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    for number, head in enumerate(head for head in HEADS if head in judged):
        shift = BAR_WIDTH * (number - 1)
        actors = judged[head]["actors"]
        places = [names.index(actor) + shift for actor in actors]
        uar = [100 * actor["uar"] for actor in actors.values()]
        by_actor.bar(places, uar, BAR_WIDTH, label=head)
        recall = [100 * (value or 0) for value in judged[head]["recall"].values()]
        by_emotion.bar(np.arange(len(EMOTIONS)) + shift, recall, BAR_WIDTH)
    by_actor.set_xticks(range(len(names)), names)
    by_actor.set(xlabel="actor", ylabel="UAR, %", ylim=(0, 100))
    by_actor.legend(ncols=3, fontsize=8)
    by_emotion.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    by_emotion.set(ylabel="recall, %", ylim=(0, 100))
    bins = judged["fused"]["calibration"]["bins"]
    curve.plot([0, 1], [0, 1], ":", color="grey")
    curve.plot([row["confidence"] for row in bins], [row["accuracy"] for row in bins], "o-")
    curve.set(xlabel="confidence of the fused answer", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    if said := [*judged["left_out"], *filter(None, [judged["stamp"]])]:
        figure.suptitle("; ".join(said))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure in one step; an encoder that writes by itself does not say why it failed."""
    memory = io.BytesIO()
    figure.savefig(memory, format=path.suffix[1:])
    atomic.write_durably(path, memory.getbuffer())
