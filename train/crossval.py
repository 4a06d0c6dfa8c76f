"""Cross-validation: every fold trained and tested alone, in a folder of its own."""

from __future__ import annotations

import dataclasses
import functools
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline import atomic, parallel
from pipeline.backends import Workers
from pipeline.cache.index import Index
from pipeline.console import bar as progress_bar
from pipeline.corpora.actors import format_actors
from train import runtime, sources
from train.heads import HEADS
from train.protocol import Split
from train.settings import Settings

RESULT_NAME = "result.json"
"""Written last: what was trained, its metrics, and the minutes it took."""

ONE_TRAINING = threading.Lock()
"""Seeds and settings of TensorFlow belong to the process: its trainings take turns."""

AnyTask = TypeVar("AnyTask")


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
        Actors of each side.
    settings
        Fields of :class:`train.settings.Settings`.
    """

    name: str
    index: Index
    folder: Path
    split: Split
    settings: dict

    @functools.cached_property
    def description(self) -> dict:
        """All that decides the result, as JSON gives it back."""
        return as_json(
            {
                "code": sources.digest(),
                "spec": self.index.spec.digest,
                "cache": self.index.fingerprint,
                "split": dataclasses.asdict(self.split),
                "settings": dataclasses.asdict(Settings(**self.settings)),
            }
        )


def fold_tasks(index: Index, folder: Path, splits: Sequence[Split], settings: dict) -> list[Task]:
    """List the trainings of a protocol: ``fold-1``, ``fold-2``, … in a folder, of one cache."""
    index, folder = elsewhere(index), folder.resolve()
    return [
        Task(f"fold {number}", index, folder / f"fold-{number}", split, settings)
        for number, split in enumerate(splits, 1)
    ]


def as_json(content: dict) -> dict:
    """Return a dictionary as JSON gives it back: lists instead of tuples."""
    return json.loads(json.dumps(content))


def elsewhere(index: Index) -> Index:
    """Return an index whose folder a worker finds from any working directory."""
    return dataclasses.replace(index, folder=index.folder.resolve())


def read_result(path: Path, description: dict) -> Any:
    """Read the result of a task; None unless one of the same description is there."""
    try:
        content = json.loads(path.read_bytes())
        return content["result"] if content["training"] == description else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(path: Path, description: dict, result: Any) -> None:
    """Write the result of a task: from now on it counts as finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"training": description, "result": result}
    atomic.write_durably(path, json.dumps(content, indent=1).encode())


def carry(
    work: Callable[[AnyTask], object],
    tasks: Sequence[AnyTask],
    result: Callable[[AnyTask], Any],
    workers: Workers,
    line: Callable[[AnyTask, Any], str] | None = None,
    progress: bool = True,
) -> list[Any]:
    """Do tasks that keep their results in files, each unless it is finished, and read these.

    Parameters
    ----------
    work
        Does a task, see :func:`pipeline.parallel.run`. A task whose worker died is tried again.
    tasks
        What to do.
    result
        Reads the result of a task; None unless it is finished.
    workers
        Who does them.
    line
        Says in one line how a task went, as soon as it is finished.
    progress
        Whether to show a bar and the lines.

    Returns
    -------
    list
        The result of each task.
    """
    found: dict[int, Any] = {}

    with progress_bar(
        total=len(tasks), desc="trainings", unit="training", disable=not progress
    ) as bar:

        def look() -> int:
            for number, task in enumerate(tasks):
                if number not in found and (value := result(task)) is not None:
                    found[number] = value
                    if line is not None and progress:
                        bar.write(line(task, value))
            return len(found)

        watch = parallel.watching(bar, look)
        parallel.run(work, tasks, lambda task: result(task) is not None, workers, watch)
    return [found[number] for number in range(len(tasks))]


def run(tasks: Sequence[Task], workers: Workers | None = None, progress: bool = True) -> list[dict]:
    """Carry out trainings, several at a time, and say how each one went.

    A training that is finished, with the same code, cache, split and settings, is not done again.

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
        The test metrics of each task, with ``minutes`` it took; none for one that was interrupted.
    """
    return carry(
        train_task, tasks, finished_metrics, workers or Workers(1), progress_line, progress
    )


def finished_metrics(task: Task) -> dict | None:
    """Metrics and minutes of a task that is finished; None for any other."""
    # The names of train.artefact, which imports TensorFlow.
    if not all((task.folder / name).is_file() for name in ("model.keras", "model.json")):
        return None
    return read_result(task.folder / RESULT_NAME, task.description)


def progress_line(task: Task, judged: dict) -> str:
    """Say in one line how a training went."""
    figures = "  ".join(
        f"{head} {100 * judged[head]['uar']:.1f}" for head in HEADS if head in judged
    )
    figures += "".join(f"; {line}" for line in judged["left_out"])
    minutes = judged["minutes"]
    took = "interrupted and resumed" if minutes is None else f"{minutes:.1f} minutes"
    return f"{task.name}: tested on {format_actors(judged['actors'])}: UAR {figures}, {took}"


def train_task(task: Task) -> None:
    """Train a task unless it is finished, and leave its metrics and minutes in its folder.

    The minutes of a training that was killed are not counted: one that goes on has none.
    """
    with ONE_TRAINING:
        if finished_metrics(task) is not None:
            return
        chosen = Settings(**task.settings)
        runtime.start_tensorflow(chosen.seed)
        from train import fit, resume

        task.folder.mkdir(parents=True, exist_ok=True)
        # Of another training, whose model is about to be replaced.
        (task.folder / RESULT_NAME).unlink(missing_ok=True)
        started = time.monotonic()
        resumed = any((task.folder / fit.TRAINING_FOLDER).rglob(resume.STATE_NAME))
        try:
            judged = fit.fit(
                task.index, task.folder, task.split, chosen, go_on=True, progress=False
            )
        except resume.OtherSettings:
            resumed = False
            judged = fit.fit(task.index, task.folder, task.split, chosen, progress=False)
        minutes = None if resumed else round((time.monotonic() - started) / 60, 3)
        result = judged | {"minutes": minutes}
        write_result(task.folder / RESULT_NAME, task.description, result)
