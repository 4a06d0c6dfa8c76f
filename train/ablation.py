"""What recipe and variants are worth: the same training on several caches, in one table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline import atomic
from pipeline.backends import Workers
from pipeline.cache import index
from pipeline.cache.index import Index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec
from train import crossval, judging, protocol
from train.heads import HEADS

RECIPES = {"published": FeatureSpec.as_published(variants=()), "default": FeatureSpec(variants=())}
"""What the rows of the table are called, by what their caches hold; variants are another column."""

NAME = "ablation.json"
SIDES = ("validation", "test")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of the table: a recipe with or without variants, trained once a seed."""

    recipe: str
    variants: bool
    tasks: tuple[crossval.Task, ...]


def find_recipes(root: Path) -> dict[str, Index]:
    """Open the caches of both recipes in a folder of caches.

    Raises
    ------
    InputError
        If there is not exactly one of each, or they hold different actors.
    """
    found: dict[str, list[Index]] = {name: [] for name in RECIPES}
    for path in sorted(root.glob(f"*/{index.INDEX_NAME}")):
        cache = index.read_index(path.parent)
        plain = dataclasses.replace(cache.spec, variants=())
        for name, spec in RECIPES.items():
            if plain == spec:
                found[name].append(cache)
    if any(len(caches) != 1 for caches in found.values()):
        counts = ", ".join(f"{len(caches)} {name}" for name, caches in found.items())
        raise InputError(
            f"expected one finished cache of each recipe in {root}, got {counts}; run "
            "'make ablation', or 'python -m pipeline features' with --recipe published and without"
        )
    caches = {name: caches[0] for name, caches in found.items()}
    if caches["published"].actors != caches["default"].actors:
        raise InputError(
            f"expected the same actors in both caches of {root}, got "
            f"{format_actors(caches['published'].actors)} and "
            f"{format_actors(caches['default'].actors)}; extract both from one folder"
        )
    return caches


def plan_rows(
    caches: dict[str, Index], folder: Path, settings: dict, seeds: Sequence[int]
) -> list[Row]:
    """List what is trained for the table.

    Parameters
    ----------
    caches
        Of each recipe.
    folder
        Gets a folder for each training.
    settings
        All fields of :class:`train.fit.Settings`. Without variants an epoch has fewer rows, so
        there are as many more epochs: every row of the table learns from as many rows.
    seeds
        One training each.
    """
    in_epochs = ("epochs", "patience", "plateau_patience", "warmup_epochs")
    rows, folder = [], folder.resolve()
    for recipe, given in caches.items():
        cache = crossval.elsewhere(given)
        split = protocol.split_actors(cache.actors)
        for variants in (False, True):
            factor = 1 if variants else 1 + len(cache.spec.variants)
            longer = {name: factor * settings[name] for name in in_epochs}
            title = f"{recipe}, {'with' if variants else 'without'} variants"
            place = folder / f"{recipe}-{'variants' if variants else 'clean'}"
            tasks = tuple(
                crossval.Task(
                    f"{title}, seed {seed}",
                    cache,
                    place / f"seed-{seed}",
                    split,
                    {**settings, **longer, "variants": variants, "seed": seed},
                )
                for seed in seeds
            )
            rows.append(Row(recipe, variants, tasks))
    return rows


def measure(rows: Sequence[Row], folder: Path, workers: Workers | None = None) -> dict:
    """Train every row, see :func:`train.crossval.run`, and write ``ablation.json``.

    What is finished is not trained again.

    Returns
    -------
    dict
        ``actors`` of each side and ``rows``: ``recipe``, ``variants``, ``seeds`` and, of each side
        and head, the UAR of each seed; ``left_out``: heads that are not judged, and why. Choices
        belong to the validation side; the test side is for the report.
    """
    trained = iter(crossval.run([task for row in rows for task in row.tasks], workers))
    measured: dict = {"actors": dataclasses.asdict(rows[0].tasks[0].split), "rows": []}
    left_out: set[str] = set()
    for row in rows:
        judged = [next(trained) for _ in row.tasks]
        left_out.update(line for fold in judged for line in fold["left_out"])
        sides = {"validation": [fold["validation"] for fold in judged], "test": judged}
        measured["rows"].append(
            {
                "recipe": row.recipe,
                "variants": row.variants,
                "seeds": [task.settings["seed"] for task in row.tasks],
                **{
                    side: {
                        head: [fold[head]["uar"] for fold in folds]
                        for head in HEADS
                        if all(head in fold for fold in folds)
                    }
                    for side, folds in sides.items()
                },
            }
        )
    measured["left_out"] = sorted(left_out)
    atomic.write_durably(folder / NAME, json.dumps(measured, indent=1).encode())
    return measured


def table(measured: dict) -> str:
    """Table of mean UAR ± deviation over seeds, in percent, of both sides."""
    heads = ("audio", "video", "fused")
    lines = [
        f"{'UAR, %':29}{'validation actors':^36}{'test actors':^36}",
        f"{'':29}" + "".join(f"{head:>12}" for head in heads * 2),
    ]
    for row in measured["rows"]:
        title = f"{row['recipe']}, {'with' if row['variants'] else 'without'} variants"
        cells = [
            judging.spread(100 * np.array(row[side][head])) if head in row[side] else "left out"
            for side in SIDES
            for head in heads
        ]
        lines.append(f"{title:29}" + "".join(f"{cell:>12}" for cell in cells))
    lines += measured["left_out"]
    seeds = ", ".join(map(str, measured["rows"][0]["seeds"]))
    lines.append(f"seeds {seeds}; choose by the validation side, report the other")
    return "\n".join(lines)
