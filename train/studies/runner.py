"""Trainings, several at a time, each in a folder of its own; what is finished is kept."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, parallel
from pipeline.backends import Workers
from pipeline.cache.index import Index
from pipeline.console import bar as progress_bar
from pipeline.corpora.actors import format_actors
from train import runtime, sources
from train.description import DESCRIPTION_NAME, KERAS_NAME
from train.evaluation import report
from train.heads import HEADS
from train.settings import Settings
from train.studies.protocol import Split

RESULT_NAME = "result.json"
"""What was trained, and once it is finished its metrics and minutes."""

MODEL_NAMES = (
    KERAS_NAME,
    DESCRIPTION_NAME,
    f"report/{report.METRICS_NAME}",
    f"report/{report.PREDICTIONS_NAME}",
)
"""What a finished training has left."""
ONE_TRAINING = threading.Lock()
"""Seeds and settings of TensorFlow belong to the process: its trainings take turns."""


@dataclass(frozen=True)
class Task:
    """One training.

    Parameters
    ----------
    name
        What its progress line calls it.
    index
        A finished cache.
    folder
        Where the model goes.
    split
        Actors of each side.
    settings
        How to train.
    """

    name: str
    index: Index
    folder: Path
    split: Split
    settings: Settings

    @functools.cached_property
    def description(self) -> dict:
        """All that decides the result, as JSON gives it back."""
        content = {
            "code": sources.digest(),
            "spec": self.index.spec.digest,
            "cache": self.index.fingerprint,
            "split": dataclasses.asdict(self.split),
            "settings": dataclasses.asdict(self.settings),
        }
        return json.loads(json.dumps(content))


def fold_tasks(
    index: Index, folder: Path, splits: Sequence[Split], settings: Settings, title: str = ""
) -> list[Task]:
    """List the trainings of some splits: ``fold-1``, ``fold-2``, … in a folder, of one cache."""
    # A worker may have another working directory.
    index, folder = dataclasses.replace(index, folder=index.folder.resolve()), folder.resolve()
    return [
        Task(f"{title}fold {number}", index, folder / f"fold-{number}", split, settings)
        for number, split in enumerate(splits, 1)
    ]


def run(tasks: Sequence[Task], workers: Workers | None = None, progress: bool = True) -> list[dict]:
    """Carry out trainings, several at a time, and say how each one went.

    A training that is finished, with the same code, cache, split and settings, is not done again.
    One whose worker died is tried again, see :func:`pipeline.parallel.run`.

    Parameters
    ----------
    tasks
        What to train.
    workers
        Who trains; by default this process, one training after the other.
    progress
        Whether to show a bar and a line a training.

    Returns
    -------
    list of dict
        The test metrics of each task, with ``minutes`` it took; None for one that was interrupted.
    """
    found: dict[int, dict] = {}
    with progress_bar(
        total=len(tasks), desc="trainings", unit="training", disable=not progress
    ) as bar:

        def look() -> int:
            for number, task in enumerate(tasks):
                if number not in found and (result := read_result(task)) is not None:
                    found[number] = result
                    if progress:
                        bar.write(progress_line(task, result))
            return len(found)

        watch = parallel.watching(bar, look)
        parallel.run(train_task, tasks, is_finished, workers or Workers(1), watch)
    return [found[number] for number in range(len(tasks))]


def train_task(task: Task) -> None:
    """Carry out a training unless it is finished; one that was interrupted goes on."""
    with ONE_TRAINING:
        if is_finished(task):
            return
        runtime.start_tensorflow(task.settings.seed)
        from train import fit

        task.folder.mkdir(parents=True, exist_ok=True)
        go_on = read_file(task)["training"] == task.description
        if not go_on:
            shutil.rmtree(task.folder / fit.TRAINING_FOLDER, ignore_errors=True)
            write_result(task, None)
        started = time.monotonic()
        metrics = fit.fit(task.index, task.folder, task.split, task.settings, go_on, progress=False)
        minutes = None if go_on else round((time.monotonic() - started) / 60, 3)
        write_result(task, metrics | {"minutes": minutes})


def read_file(task: Task) -> dict:
    """Read which training a folder is of, and its result; None for what is not there."""
    try:
        content = json.loads((task.folder / RESULT_NAME).read_bytes())
        return {name: content[name] for name in ("training", "result")}
    except (OSError, ValueError, KeyError, TypeError):
        return {"training": None, "result": None}


def write_result(task: Task, result: dict | None) -> None:
    """Write which training a folder is of, and its result; None until it is finished."""
    content = {"training": task.description, "result": result}
    atomic.write_durably(task.folder / RESULT_NAME, json.dumps(content, indent=1).encode())


def read_result(task: Task) -> dict | None:
    """Metrics and minutes of a task that is finished; None for any other."""
    content = read_file(task)
    there = all((task.folder / name).is_file() for name in MODEL_NAMES)
    return content["result"] if there and content["training"] == task.description else None


def is_finished(task: Task) -> bool:
    """Whether the result of a task is there."""
    return read_result(task) is not None


def progress_line(task: Task, metrics: dict) -> str:
    """Say in one line how a training went."""
    said = "  ".join(
        f"{head} {100 * metrics[head]['uar']:.1f}" for head in HEADS if head in metrics
    )
    said += "".join(f"; {line}" for line in metrics["left_out"])
    minutes = metrics["minutes"]
    took = "interrupted and resumed" if minutes is None else f"{minutes:.1f} minutes"
    return f"{task.name}: tested on {format_actors(metrics['actors'])}: UAR {said}, {took}"
