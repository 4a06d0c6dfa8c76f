"""The figures of a report, drawn from the numbers in the JSON or CSV file beside them."""

from __future__ import annotations

import csv
import html
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.corpora.actors import Actor
from pipeline.spec import EMOTIONS
from train.heads import HEADS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BAR_WIDTH = 0.8 / len(HEADS)

MOST_TICKS = 40
"""Of more actors than this, not every one is named."""


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")


def draw_confusion(path: Path, judged: Mapping) -> None:
    """Draw the confusion matrix of the fused head, row by row in percent."""
    figure = new_figure(6.4, 5.6)
    axes = figure.subplots()
    plot_confusion(axes, judged)
    averages = judged["fused"]
    lines = [f"{judged['clips']} clips of {len(judged['actors'])} test actors"]
    lines += [*judged["left_out"], *filter(None, [judged.get("stamp")])]
    lines.append(f"WAR {100 * averages['war']:.1f} %, UAR {100 * averages['uar']:.1f} %")
    axes.set_title("\n".join(lines), fontsize=10)
    save(figure, path)


def plot_confusion(axes: Axes, judged: Mapping) -> None:
    """Plot the confusion matrix of the fused head, each row in percent."""
    from sklearn.metrics import ConfusionMatrixDisplay

    counts = np.array(judged["fused"]["confusion"])
    share = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    ConfusionMatrixDisplay(share, display_labels=EMOTIONS).plot(
        ax=axes,
        cmap="Blues",
        values_format=".0f",
        xticks_rotation=45,
        im_kw={"vmin": 0, "vmax": 100},
    )
    axes.set(xlabel="fused answer", ylabel="acted emotion, each row in percent")


def draw_curves(path: Path, log: Path) -> None:
    """Draw loss and accuracy of every epoch of every stage; see :func:`plot_epochs`."""
    epochs = read_lines(log)
    figure = new_figure(9, 3.6)
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        plot_epochs(axes, epochs, name)
    panels[0].legend(fontsize=7, title="solid: validation, dotted: training", title_fontsize=7)
    save(figure, path)


def read_lines(path: Path) -> list[dict[str, str]]:
    """Read the lines of a CSV file, each by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def plot_epochs(axes: Axes, epochs: Sequence[Mapping[str, str]], name: str) -> None:
    """Plot ``loss`` or ``accuracy`` of every epoch: dotted in training, solid in validation.

    Parameters
    ----------
    axes
        Where to.
    epochs
        A line an epoch with ``stage``, ``loss``, ``accuracy``, ``val_loss`` and ``val_accuracy``;
        the last two are empty where a stage has no validation actors.
    name
        What is plotted.
    """
    stages = itertools.groupby(enumerate(epochs, 1), key=lambda epoch: epoch[1]["stage"])
    for place, (stage, group) in enumerate(stages):
        numbers, lines = zip(*group, strict=True)
        for column, style in ((name, ":"), (f"val_{name}", "-")):
            values = [float(line[column] or "nan") for line in lines]
            label = stage if style == "-" else None
            axes.plot(numbers, values, style, color=f"C{place}", label=label, marker=".")
    axes.set(xlabel="epoch, all stages", ylabel=name)
    axes.grid(alpha=0.3)


def draw_summary(path: Path, judged: Mapping) -> None:
    """Draw UAR by actor, recall by emotion and the fused head's confidence against accuracy.

    See :func:`train.studies.summary.summarize` for ``judged``.
    """
    figure = new_figure(14, 4)
    by_actor, by_emotion, curve = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    plot_actors(by_actor, judged)
    by_actor.legend(ncols=3, fontsize=8)
    plot_recall(by_emotion, judged)
    plot_calibration(curve, judged, ("fused",))
    if said := [*judged["left_out"], *filter(None, [judged["stamp"]])]:
        figure.suptitle("; ".join(said))
    save(figure, path)


def tested_heads(judged: Mapping) -> list[str]:
    """Heads that a result has metrics of, the fused one first."""
    return [head for head in HEADS if head in judged]


def plot_actors(axes: Axes, judged: Mapping) -> None:
    """Plot bars of the UAR of each actor, one for each head."""
    names = [str(actor) for actor in judged["actors"]]
    for number, head in enumerate(tested_heads(judged)):
        actors = judged[head]["actors"]
        shift = BAR_WIDTH * (number - 1)
        places = [names.index(actor) + shift for actor in actors]
        uar = [100 * actor["uar"] for actor in actors.values()]
        axes.bar(places, uar, BAR_WIDTH, label=head)
    every = math.ceil(len(names) / MOST_TICKS)
    axes.set_xticks(range(len(names))[::every], names[::every])
    axes.set(xlabel="actor", ylabel="UAR, %", ylim=(0, 100))


def plot_recall(axes: Axes, judged: Mapping) -> None:
    """Plot bars of the recall of each emotion, one for each head."""
    for number, head in enumerate(tested_heads(judged)):
        recall = [100 * (value or 0) for value in judged[head]["recall"].values()]
        axes.bar(np.arange(len(EMOTIONS)) + BAR_WIDTH * (number - 1), recall, BAR_WIDTH, label=head)
    axes.set_xticks(range(len(EMOTIONS)), EMOTIONS, rotation=45, ha="right")
    axes.set(ylabel="recall, %", ylim=(0, 100))


def plot_calibration(axes: Axes, judged: Mapping, heads: Sequence[str]) -> None:
    """Plot accuracy against confidence in bins, a line a head."""
    axes.plot([0, 1], [0, 1], ":", color="grey")
    for number, head in enumerate(heads):
        bins = judged[head]["calibration"]["bins"]
        places = [[row[name] for row in bins] for name in ("confidence", "accuracy")]
        axes.plot(*places, "o-", color=f"C{number}", label=head)
    which = "the fused answer" if list(heads) == ["fused"] else "an answer"
    axes.set(xlabel=f"confidence of {which}", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))


def plot_counts(axes: Axes, actors: Sequence[Actor], counts: NDArray[np.int64]) -> None:
    """Plot how many clips each actor has of each emotion, shape (actors, 8)."""
    image = axes.imshow(counts.T, cmap="Blues", aspect="auto", vmin=0, vmax=1.5 * counts.max())
    if len(actors) <= MOST_TICKS:
        # Light letters are read on a dark cell.
        middle = 1.5 * counts.max() / 2
        for place, label in np.ndindex(counts.shape):
            number = int(counts[place, label])
            colour = image.cmap(1.0 if number <= middle else 0.0)
            axes.text(place, label, str(number), ha="center", va="center", color=colour, fontsize=7)
    every = math.ceil(len(actors) / MOST_TICKS)
    axes.set_xticks(range(len(actors))[::every], [str(actor) for actor in actors[::every]])
    axes.set_yticks(range(len(EMOTIONS)), EMOTIONS)
    axes.set(xlabel="actor")


def save(figure: Figure, path: Path) -> None:
    """Write a figure in one step; an encoder that writes by itself does not say why it failed."""
    memory = io.BytesIO()
    figure.savefig(memory, format=path.suffix[1:])
    atomic.write_durably(path, memory.getbuffer())


def svg_text(figure: Figure, alt: str) -> str:
    """Write a figure as an SVG element: black becomes the colour of the text around it.

    Parameters
    ----------
    figure
        What :func:`new_figure` made.
    alt
        What it shows, in words.
    """
    import matplotlib

    memory = io.StringIO()
    # Text stays text, and the same figure gives the same names of its parts.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(memory, format="svg", transparent=True, metadata={"Date": None})
    _, _, inside = memory.getvalue().partition("<svg ")
    attributes, _, inside = inside.partition(">")
    (box,) = re.findall(r'viewBox="[^"]*"', attributes)
    inside = re.sub(r"<metadata>.*?</metadata>", "", inside, flags=re.DOTALL)
    inside = inside.replace("#000000", "currentColor")
    return f'<svg {box} role="img" aria-label="{html.escape(alt)}">{inside}'
