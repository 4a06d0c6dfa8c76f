"""Tasks to workers, whatever carries them.

A task leaves its result in a store (files that every worker sees) and returns nothing of size.
The store says what is done: results that a dying worker takes with it do not matter, and what is
missing after a round is tried again. See docs/cluster.md.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tqdm

from pipeline import atomic
from pipeline.backends import Workers, carry
from pipeline.errors import InputError

log = logging.getLogger(__name__)

Item = TypeVar("Item")

ROUNDS = 3
"""How often tasks whose workers died are tried in vain, one round after the other."""

LAG_SECONDS = 20.0
"""How long a round of other machines may seem vain before it is: NFS remembers for that long, and
longer, that a file was not there."""

LOOK_SECONDS = 0.25
"""How often the store is looked at for the progress bar."""


def run(
    work: Callable[[Item], object],
    items: Sequence[Item],
    is_done: Callable[[Item], bool],
    workers: Workers,
    watch: contextlib.AbstractContextManager | None = None,
    store: Path | None = None,
) -> None:
    """Do every task whose result is not in the store yet.

    Parameters
    ----------
    work
        Does a task and leaves its result in the store. Its exceptions end the run. Can be
        pickled, and does nothing where the result is there.
    items
        The tasks.
    is_done
        Whether the store has the result of a task.
    workers
        Who does them.
    watch
        Entered while the work goes on, see :func:`watching`.
    store
        Folder of the results, where it is one: what other machines wrote there may show late.

    Raises
    ------
    InputError
        If workers died in ``ROUNDS`` rounds in a row and nothing was done, or there is no cluster.
    """
    missing, vain = [item for item in items if not is_done(item)], 0
    with watch or contextlib.nullcontext():
        while missing:
            carry(work, missing, workers)
            before, missing = len(missing), [item for item in missing if not is_done(item)]
            if len(missing) == before and store and workers.are_elsewhere:
                missing = look_again(missing, is_done, store)
            vain = 0 if len(missing) < before else vain + 1
            if vain == ROUNDS:
                raise InputError(
                    f"expected {len(items)} tasks to end, got {len(missing)} whose workers died "
                    f"in each of {ROUNDS} rounds; is memory short? run with fewer --jobs"
                )
            if missing:
                log.warning(
                    "%d tasks are tried again: a worker died before they ended", len(missing)
                )


def look_again(missing: Sequence[Item], is_done: Callable[[Item], bool], store: Path) -> list[Item]:
    """Wait, ever longer, until a result shows in the store, and return the tasks without one."""
    left, waited, pause = list(missing), 0.0, LOOK_SECONDS
    while len(left) == len(missing) and waited < LAG_SECONDS:
        time.sleep(pause)
        waited += pause
        pause = min(2 * pause, LAG_SECONDS - waited)
        # Opening a folder makes an NFS client ask the server what it holds.
        os.listdir(store)
        left = [item for item in left if not is_done(item)]
    return left


@contextlib.contextmanager
def watching(bar: tqdm.tqdm, done: Callable[[], int]) -> Iterator[None]:
    """Keep a bar at what ``done`` says of the store, in its unit, from a thread beside the work."""
    ended, start = threading.Event(), bar.n

    def look() -> None:
        # A store that cannot be read for a moment costs a look.
        with contextlib.suppress(OSError):
            bar.update(max(0, start + done() - bar.n))

    def keep_looking() -> None:
        took = 0.0
        # Looking takes a twentieth of the time at most, however large the store is.
        while not ended.wait(max(LOOK_SECONDS, 20 * took)):
            before = time.monotonic()
            look()
            took = time.monotonic() - before

    watcher = threading.Thread(target=keep_looking, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        look()


def collect(
    work: Callable[[Item], object],
    items: Sequence[Item],
    workers: Workers,
    bar: tqdm.tqdm,
    beside: Path | None = None,
) -> list[Any]:
    """Do tasks whose results are small, and return these in the order of the items.

    Parameters
    ----------
    work
        Does a task and returns what JSON can hold; None stands for a number that is missing.
    items, workers
        The tasks, and who does them.
    bar
        Moves by one a task.
    beside
        Folder that every worker can write to; results lie there until all are done. None, or one
        that cannot be written to, takes the system's temporary folder: right for one machine.

    Returns
    -------
    list
        What `work` returned, as JSON gives it back.

    Raises
    ------
    ValueError
        If JSON cannot hold a result.
    """
    if beside is not None and not os.access(beside, os.W_OK | os.X_OK):
        beside = None
    with atomic.partial_folder(beside, "results") as folder:
        tasks = [(item, folder / f"{place}.json") for place, item in enumerate(items)]
        watch = watching(bar, lambda: len(list(folder.glob("*.json"))))
        keep = functools.partial(keep_result, work)
        run(keep, tasks, lambda task: task[1].exists(), workers, watch, folder)
        return [json.loads(path.read_bytes()) for _, path in tasks]


def keep_result(work: Callable[[Item], object], task: tuple[Item, Path]) -> None:
    """Do a task of :func:`collect` and write its result, atomically; it need not last."""
    item, path = task
    if path.exists():
        return
    result = work(item)
    try:
        text = json.dumps(result, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"expected a result that JSON can hold, got: {error}; None stands for a missing number"
        ) from error
    partial = path.with_suffix(f".{atomic.own_mark()}")
    partial.write_text(text)
    partial.replace(path)
