"""Cross-validation: every fold trained and tested alone, in a folder of its own."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib

from pipeline import atomic
from pipeline.cache.index import Index
from pipeline.console import bar as progress_bar
from pipeline.errors import InputError
from train import runtime
from train.heads import HEADS
from train.protocol import Split, format_actors
from train.settings import Settings

TIME_NAME = "minutes.json"


@dataclass(frozen=True)
class Task:
    """One training: where it goes, what it reads, how it is divided and set.

    Parameters
    ----------
    name
        What its progress line calls it.
    index
        A finished cache.
    folder
        Where the model goes.
    split
        Who trains, who chooses, who tests.
    settings
        Fields of :class:`train.settings.Settings`; ``seed`` has to be there.
    """

    name: str
    index: Index
    folder: Path
    split: Split
    settings: dict


def fold_tasks(index: Index, folder: Path, splits: Sequence[Split], settings: dict) -> list[Task]:
    """List the trainings of a protocol: ``fold-1``, ``fold-2``, … in a folder, of one cache."""
    return [
        Task(f"fold {number}", index, folder / f"fold-{number}", split, settings)
        for number, split in enumerate(splits, 1)
    ]


def run(tasks: Sequence[Task], jobs: int = 1, progress: bool = True) -> list[dict]:
    """Carry out trainings, several at a time, and say how each one went.

    A training that is finished, with the same cache, split and settings, is not done again.

    Parameters
    ----------
    tasks
        What to train.
    jobs
        Trainings at the same time, each in a process of its own. Any backend of joblib carries
        them: choose one with ``joblib.parallel_config``.
    progress
        Whether to show a bar and a line a training.

    Returns
    -------
    list of dict
        The test metrics of each task, with ``minutes`` it took; none for one that was interrupted.
    """
    works = (joblib.delayed(numbered)(number, task) for number, task in enumerate(tasks))
    # Not every backend can hand over results as they come.
    backend, _ = joblib.parallel.get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    parallel = joblib.Parallel(jobs, return_as="generator_unordered" if streams else "list")
    found: dict[int, dict] = {}
    with progress_bar(total=len(tasks), desc="folds", unit="fold", disable=not progress) as bar:
        for number, judged in parallel(works):
            found[number] = judged
            if progress:
                bar.write(progress_line(tasks[number], judged))
            bar.update()
    return [found[number] for number in range(len(tasks))]


def progress_line(task: Task, judged: dict) -> str:
    """Say in one line how a training went."""
    figures = "  ".join(f"{head} {100 * judged[head]['uar']:.1f}" for head in HEADS)
    minutes = judged["minutes"]
    took = "interrupted and resumed" if minutes is None else f"{minutes:.1f} minutes"
    return f"{task.name}: tested on {format_actors(judged['actors'])}: UAR {figures}, {took}"


def numbered(number: int, task: Task) -> tuple[int, dict]:
    """Train a task and return its place beside its metrics: results come in any order."""
    return number, train_task(task)


def train_task(task: Task) -> dict:
    """Train a task unless it is finished, and return its metrics and the minutes it took.

    Nobody has counted the minutes of a training that was killed: one that goes on has none.
    """
    runtime.start_tensorflow(task.settings["seed"])
    from train import artefact, fit, resume

    chosen = Settings(**task.settings)
    split = json.loads(json.dumps(dataclasses.asdict(task.split)))
    try:
        description = artefact.read_description(task.folder)
    except InputError:
        description = {}
    same = (
        description.get("spec_digest") == task.index.spec.digest
        and description.get("settings") == dataclasses.asdict(chosen)
        and {**description.get("actors", {}), "clip_seed": description.get("clip_seed")} == split
        and description.get("cache") == task.index.fingerprint
    )
    clock = task.folder / TIME_NAME
    if same and clock.is_file():
        return description["metrics"] | {"minutes": json.loads(clock.read_text())}
    task.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    resumed = any((task.folder / fit.TRAINING_FOLDER).rglob(resume.STATE_NAME))
    try:
        judged = fit.fit(task.index, task.folder, task.split, chosen, go_on=True, progress=False)
    except resume.OtherSettings:
        resumed = False
        judged = fit.fit(task.index, task.folder, task.split, chosen, progress=False)
    minutes = None if resumed else round((time.monotonic() - started) / 60, 3)
    atomic.write_durably(clock, json.dumps(minutes).encode())
    return judged | {"minutes": minutes}
