"""What each choice of the training recipe is worth, one branch at a time, on no test actor.

The actors that a training may learn from or choose by are cut into groups; networks trained on the
others, with and without one choice, are judged on each group. Branches learn alone, with their own
heads, as they do within the whole network, where fusion passes no gradient to them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import atomic
from pipeline.backends import Workers
from pipeline.cache.index import Index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from train import crossval, duplicates, judging, protocol, runtime, sources
from train.heads import CHANGES
from train.protocol import Split
from train.settings import Settings
from train.table import Rows, select_rows

NAME = "choices.json"
GROUPS = 3
WHOLE = "the recipe"
HALF_THE_ACTORS = "half of the actors"


@dataclass(frozen=True)
class Recipe:
    """How one branch is trained.

    Parameters
    ----------
    head
        ``"audio"`` or ``"video"``.
    epochs
        All of them are done: there are no actors to choose one by.
    variants
        Whether the cached augmented rows are trained on.
    without
        Changes on the fly that are left out.
    """

    head: str
    epochs: int
    variants: bool = True
    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One training: what it leaves out, whom it learns from and is judged on, and its seed."""

    left_out: str
    recipe: Recipe
    split: Split
    seed: int


@dataclass(frozen=True)
class Task:
    """A trial on a cache, and the folder of all results."""

    trial: Trial
    index: Index
    folder: Path

    @functools.cached_property
    def description(self) -> dict:
        """All that decides the result, as JSON gives it back."""
        settings = dataclasses.asdict(settings_of(self.trial))
        trial = dataclasses.asdict(self.trial)
        made_by = {"code": sources.digest(), "cache": self.index.fingerprint}
        return crossval.as_json({**trial, "settings": settings, **made_by})

    @property
    def path(self) -> Path:
        """File that gets the result."""
        group = format_actors(self.trial.split.validation)
        name = self.trial.left_out.replace(" ", "-")
        return self.folder / f"seed-{self.trial.seed}" / f"actors-{group}" / f"{name}.json"


def recipes(head: str, epochs: int, variant_count: int) -> dict[str, Recipe]:
    """List the recipe and what becomes of it when one choice is left out.

    Without cached variants there are as many more epochs, so that as many rows are learned from.
    """
    whole = Recipe(head, epochs)
    changed = {name: dataclasses.replace(whole, without=(name,)) for name in CHANGES[head]}
    if variant_count:
        changed["variants"] = dataclasses.replace(
            whole, variants=False, epochs=epochs * (1 + variant_count)
        )
    changed["half of the epochs"] = dataclasses.replace(whole, epochs=max(1, epochs // 2))
    return {WHOLE: whole, **changed}


def inner_folds(actors: Sequence[int]) -> list[Split]:
    """Cut all actors but the default split's test actors into groups, in order.

    Raises
    ------
    InputError
        If there are too few.
    """
    outer = protocol.split_actors(actors)
    inner = sorted((*outer.train, *outer.validation))
    if len(inner) < GROUPS:
        raise InputError(
            f"expected at least {GROUPS} actors beside the test actors, got {len(inner)}; "
            "extract more"
        )
    groups = [tuple(map(int, group)) for group in np.array_split(inner, GROUPS)]
    return [
        Split(tuple(actor for actor in inner if actor not in group), group, ()) for group in groups
    ]


def plan(
    index: Index, head: str, settings: Settings, seeds: Sequence[int], folds: int = GROUPS
) -> list[Trial]:
    """List every training of the first folds, those of one seed and fold beside each other.

    The audio branch has the epochs of its warm start too. Half of the actors are the first of them,
    with twice the epochs; what they are worth is a scale for the choices.
    """
    epochs = settings.epochs + (settings.warm_start_epochs if head == "audio" else 0)
    listed = recipes(head, epochs, len(index.spec.variants))
    longer = dataclasses.replace(listed[WHOLE], epochs=2 * epochs)
    trials = []
    for seed in seeds:
        for split in inner_folds(index.actors)[:folds]:
            trials += [Trial(name, recipe, split, seed) for name, recipe in listed.items()]
            half = dataclasses.replace(split, train=split.train[: (len(split.train) + 1) // 2])
            trials.append(Trial(HALF_THE_ACTORS, longer, half, seed))
    return trials


def measure(
    index: Index, folder: Path, trials: Sequence[Trial], workers: Workers | None = None
) -> dict:
    """Carry out trainings, see :func:`train.crossval.carry`, and write ``choices.json``.

    What is finished is not trained again.

    Returns
    -------
    dict
        ``head``, ``epochs``, ``actors`` judged, and ``uar``: of what is left out, of each seed,
        the mean over folds.
    """
    index, place = crossval.elsewhere(index), folder.resolve()
    tasks = [Task(trial, index, place) for trial in trials]
    values = crossval.carry(train_task, tasks, finished_uar, workers or Workers(1))
    found: dict[tuple[str, int], list[float]] = {}
    for trial, uar in zip(trials, values, strict=True):
        found.setdefault((trial.left_out, trial.seed), []).append(uar)
    names = list(dict.fromkeys(trial.left_out for trial in trials))
    seeds = sorted({trial.seed for trial in trials})
    measured = {
        "head": trials[0].recipe.head,
        "epochs": trials[0].recipe.epochs,
        "actors": sorted({actor for trial in trials for actor in trial.split.validation}),
        "seeds": seeds,
        "uar": {name: [float(np.mean(found[name, seed])) for seed in seeds] for name in names},
    }
    atomic.write_durably(folder / NAME, json.dumps(measured, indent=1).encode())
    return measured


def finished_uar(task: Task) -> float | None:
    """UAR of a task that is finished; None for any other."""
    return crossval.read_result(task.path, task.description)


def train_task(task: Task) -> None:
    """Carry out a training unless it is finished, and leave its UAR in a file."""
    with crossval.ONE_TRAINING:
        if finished_uar(task) is None:
            uar = train_alone(task.index, task.folder, task.trial)
            crossval.write_result(task.path, task.description, uar)


def settings_of(trial: Trial) -> Settings:
    """Give a trial the settings of every training, but for its epochs and seed."""
    return Settings(epochs=trial.recipe.epochs, seed=trial.seed)


def train_alone(index: Index, folder: Path, trial: Trial) -> float:
    """Train one branch with its own head and return its UAR on the actors left out."""
    runtime.start_tensorflow(trial.seed)
    from train import alone, dataset, evaluate, model, reading

    recipe, split = trial.recipe, trial.split
    copies = duplicates.left_out(duplicates.across_actors(index))
    training = having(recipe.head, select_rows(index, split.train, recipe.variants, copies))
    known = reading.mfcc_statistics(select_rows(index, split.train, left_out=copies))
    judges = having(recipe.head, select_rows(index, split.validation, left_out=copies))

    settings = settings_of(trial)
    network = model.build_fusion_cnn(index.spec, known.mean, known.variance, settings.dropout)
    branch = model.lessons(network, [recipe.head])
    with dataset.input_errors():
        alone.learn(branch, training, known, settings, folder, without=recipe.without)
        answers = evaluate.predict(branch, judges)[recipe.head]
    return evaluate.averages(judges.label, answers.argmax(axis=1))["uar"]


def having(head: str, rows: Rows) -> Rows:
    """Return the rows that have the modality of a head.

    Raises
    ------
    InputError
        If there are none.
    """
    kept = rows.where(rows.having(head))
    if not len(kept):
        raise InputError(
            f"expected clips with {head} of actors "
            f"{format_actors(np.unique(rows.actor).tolist())}, got none; "
            "choose the other --head"
        )
    return kept


def table(measured: dict) -> str:
    """Table of mean UAR ± deviation over seeds, in percent, and of what each choice adds."""
    whole = 100 * np.array(measured["uar"][WHOLE])
    lines = [f"{measured['head'] + ' alone, left out':28}{'UAR, %':>14}{'worth, points':>18}"]
    for name, values in measured["uar"].items():
        left = 100 * np.array(values)
        shown = "nothing" if name == WHOLE else name
        lines.append(
            f"{shown:28}{judging.spread(left):>14}"
            + ("" if name == WHOLE else f"{judging.spread(whole - left, '+'):>18}")
        )
    seeds = ", ".join(map(str, measured["seeds"]))
    lines.append(
        f"{measured['epochs']} epochs, seeds {seeds}, judged on actors "
        f"{format_actors(measured['actors'])}"
    )
    return "\n".join(lines)
