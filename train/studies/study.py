"""Studies: named conditions, each trained over the same splits and seeds, in one table.

Three short tables: ``ablation`` (recipes and variants), ``choices`` (what the training does) and
``leak`` (what a split by clip adds). The first condition of each is what the others are compared
with.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import atomic
from pipeline.backends import Workers
from pipeline.cache import index
from pipeline.cache.index import Index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec
from train.heads import AUGMENTATIONS, HEADS
from train.settings import Settings, scaled
from train.studies import protocol, runner, summary
from train.studies.protocol import Split

RECIPES = {"published": FeatureSpec.as_published(variants=()), "default": FeatureSpec(variants=())}
"""Recipes of the ablation by name; with variants or without, which are another column."""

INNER_FOLDS = 3
BY_ACTOR, BY_CLIP = "actors apart", "clips at random"
IN_EPOCHS = ("patience", "plateau_patience", "warmup_epochs")


@dataclass(frozen=True)
class Condition:
    """One row of a study: what is trained, on which cache, over which splits.

    Parameters
    ----------
    name
        What the table calls it.
    index
        A finished cache.
    splits
        Folds.
    settings
        How to train; the study sets the seed.
    """

    name: str
    index: Index
    splits: tuple[Split, ...]
    settings: Settings


@dataclass(frozen=True)
class Study:
    """Conditions that are compared with the first of them, and what to say of the comparison."""

    name: str
    conditions: tuple[Condition, ...]
    note: str


def longer(settings: Settings, factor: float) -> Settings:
    """Return settings with all that is counted in epochs multiplied, patience included."""
    counts = {name: max(1, round(factor * getattr(settings, name))) for name in IN_EPOCHS}
    return dataclasses.replace(scaled(settings, factor), **counts)


def without_variants(settings: Settings, spec: FeatureSpec) -> Settings:
    """Train on clean rows alone, for as many more epochs, so that as many rows are learned from."""
    return longer(dataclasses.replace(settings, variants=False), 1 + len(spec.variants))


def ablation(caches: Mapping[str, Index], settings: Settings) -> Study:
    """Compare recipes, each with and without variants, on the default split."""
    conditions = []
    for recipe, cache in caches.items():
        splits = (protocol.split_actors(cache.actors),)
        clean = without_variants(settings, cache.spec)
        conditions += [
            Condition(f"{recipe}, without variants", cache, splits, clean),
            Condition(f"{recipe}, with variants", cache, splits, settings),
        ]
    note = "choose by the validation actors, report the test actors"
    return Study("ablation", tuple(conditions), note)


def choices(cache: Index, modality: str, settings: Settings, folds: int = INNER_FOLDS) -> Study:
    """Compare the training of one branch with what becomes of it when one choice is left out.

    The test actors of the default split have no part in it: what is chosen here can still be tested
    on them.

    Raises
    ------
    InputError
        If there are too few other actors, or not so many folds.
    """
    kept_out = protocol.split_actors(cache.actors).test
    inner = sorted(set(cache.actors) - set(kept_out))
    if len(inner) < INNER_FOLDS:
        raise InputError(
            f"expected at least {INNER_FOLDS} actors beside the test actors, got {len(inner)}; "
            "extract more"
        )
    splits = first(protocol.folds(f"{protocol.CONTIGUOUS}:{INNER_FOLDS}", inner), folds)
    default = dataclasses.replace(settings, modalities=(modality,))
    listed = {"default": default}
    for name in AUGMENTATIONS.get(modality, ()):
        listed[f"without {name}"] = dataclasses.replace(default, without=(name,))
    if cache.spec.variants:
        listed["without variants"] = without_variants(default, cache.spec)
    listed["half of the epochs"] = scaled(default, 0.5)
    conditions = (Condition(name, cache, splits, given) for name, given in listed.items())
    note = f"actors {format_actors(kept_out)} have no part in it"
    return Study(f"choices-{modality}", tuple(conditions), note)


def leak(cache: Index, settings: Settings, folds: int) -> Study:
    """Compare splits by actor with splits by clip, which train and test on as many rows.

    On all 24 actors of RAVDESS the folds by actor are those of ``sixfold``.

    Raises
    ------
    InputError
        If there are not so many folds.
    """
    groups = min(protocol.RANDOM_FOLDS, len(cache.actors))
    names = {BY_ACTOR: f"{protocol.CONTIGUOUS}:{groups}", BY_CLIP: protocol.RANDOM}
    conditions = (
        Condition(title, cache, first(protocol.folds(name, cache.actors), folds), settings)
        for title, name in names.items()
    )
    return Study("leak", tuple(conditions), f"{BY_CLIP}: {protocol.LEAKING}")


def first(splits: Sequence[Split], count: int) -> tuple[Split, ...]:
    """Return the first of some folds."""
    if not 1 <= count <= len(splits):
        raise InputError(f"expected 1 to {len(splits)} folds, got {count}; choose others")
    return tuple(splits[:count])


def find_recipes(root: Path) -> dict[str, Path]:
    """Find the caches of both recipes in a folder of caches.

    Raises
    ------
    InputError
        If there is not exactly one of each, or they hold different actors.
    """
    found: dict[str, list[Index]] = {name: [] for name in RECIPES}
    for path in sorted(root.glob(f"*/{index.INDEX_NAME}")):
        cache = index.read_index(path.parent)
        for name, spec in RECIPES.items():
            if dataclasses.replace(cache.spec, variants=()) == spec:
                found[name].append(cache)
    counts = ", ".join(f"{len(caches)} {name}" for name, caches in found.items())
    actors = {tuple(cache.actors) for caches in found.values() for cache in caches}
    if any(len(caches) != 1 for caches in found.values()) or len(actors) != 1:
        held = " and ".join(format_actors(held) for held in sorted(actors)) or "none"
        raise InputError(
            f"expected one finished cache of each recipe in {root}, of the same actors, got "
            f"{counts}, of actors {held}; run 'make ablation', or 'python -m pipeline features' "
            "with --recipe published and without"
        )
    return {name: cache.folder for name, (cache,) in found.items()}


def measure(
    study: Study, folder: Path, seeds: Sequence[int], workers: Workers | None = None
) -> dict:
    """Train every condition over its splits and some seeds, and write ``<study>.json``.

    What is finished is not trained again, see :func:`train.studies.runner.run`.

    Returns
    -------
    dict
        ``study``, ``note``, ``seeds`` and ``conditions``: of each its ``summary`` over folds and
        seeds (:func:`train.studies.summary.summarize`), and of each head its mean UAR over folds,
        a number a seed, on ``validation`` and ``test`` actors.
    """
    tasks = {
        (condition.name, seed): runner.fold_tasks(
            condition.index,
            folder / condition.name.replace(", ", "-").replace(" ", "-") / f"seed-{seed}",
            condition.splits,
            dataclasses.replace(condition.settings, seed=seed),
            f"{condition.name}, seed {seed}, ",
        )
        for condition in study.conditions
        for seed in seeds
    }
    trained = iter(runner.run([task for own in tasks.values() for task in own], workers))
    results = {key: [next(trained) for _ in own] for key, own in tasks.items()}
    conditions = {}
    for name in (condition.name for condition in study.conditions):
        own = [results[name, seed] for seed in seeds]
        folders = [task.folder for seed in seeds for task in tasks[name, seed]]
        conditions[name] = {
            "summary": summary.summarize(folders),
            "validation": means_by_head([[fold["validation"] for fold in folds] for folds in own]),
            "test": means_by_head(own),
        }
    measured: dict[str, Any] = {"study": study.name, "note": study.note, "seeds": list(seeds)}
    measured["conditions"] = conditions
    atomic.write_durably(folder / f"{study.name}.json", json.dumps(measured, indent=1).encode())
    return measured


def means_by_head(results: Sequence[Sequence[Mapping]]) -> dict[str, list[float]]:
    """Mean UAR over folds of each seed, of the heads that every fold has."""
    return {
        head: [float(np.mean([fold[head]["uar"] for fold in folds])) for folds in results]
        for head in HEADS
        if all(head in fold for folds in results for fold in folds)
    }


def difference(condition: Mapping, reference: Mapping, head: str) -> str:
    """Test UAR minus that of the reference, in points, and its standard error over actors.

    The actors that both are tested on are compared in pairs: whether an actor is easy to tell does
    not count.
    """
    own, others = (given["summary"][head]["actors"] for given in (condition, reference))
    pairs = [100 * (own[one]["uar"] - others[one]["uar"]) for one in own if one in others]
    points = 100 * (np.mean(condition["test"][head]) - np.mean(reference["test"][head]))
    if set(own) != set(others) and pairs:
        # Conditions that test other actors differ by these, too.
        points = np.mean(pairs)
    if len(pairs) < 2:
        return f"{points:+.1f}"
    return f"{points:+.1f} ± {np.std(pairs, ddof=1) / np.sqrt(len(pairs)):.1f}"


def table(measured: Mapping) -> str:
    """Table of UAR by head and condition in percent: mean ± standard deviation over seeds.

    The last column is the difference from the first condition, see :func:`difference`.
    """
    conditions = measured["conditions"]
    reference, width = next(iter(conditions)), 2 + max(map(len, conditions))
    lines = []
    for head in HEADS:
        shown = {name: own for name, own in conditions.items() if head in own["test"]}
        if reference not in shown:
            continue
        columns = ("validation", "test", "difference in test")
        lines.append(f"{head + ', UAR %':{width}}" + "".join(f"{name:>20}" for name in columns))
        for name, own in shown.items():
            cells = [summary.spread(own[side].get(head, ())) for side in ("validation", "test")]
            if name != reference:
                cells.append(difference(own, conditions[reference], head))
            lines.append(f"{name:{width}}" + "".join(f"{cell:>20}" for cell in cells))
    lines += dict.fromkeys(
        line for own in conditions.values() for line in own["summary"]["left_out"]
    )
    actors = format_actors(conditions[reference]["summary"]["actors"])
    seeds = ", ".join(map(str, measured["seeds"]))
    lines.append(f"tested on actors {actors}; seeds {seeds}; ± of differences: over actors")
    return "\n".join([*lines, measured["note"]])
