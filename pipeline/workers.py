"""Items to worker processes and results back in order, whatever becomes of a worker.

Each worker is a loky executor of joblib's with a single process. ``joblib.Parallel`` has one pool
for all: a worker that dies breaks it and takes what the others finished along, nobody can say
which item was in hand, and it goes on handing out work while results pile up unread. Here a death
concerns one worker, whose item in hand is known, and what runs ahead of the reader is bounded.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

import joblib
from joblib.externals.loky import ProcessPoolExecutor

from pipeline.errors import InputError, leave_interrupts_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_SECONDS = 0.5
"""How often workers are looked at while none has finished."""

QUEUED = 2
"""Items a worker has: one in hand and one to go on with while the parent writes."""

AHEAD = 4
"""Items a worker may be ahead of the reader: bounds what a slow item, or disk, makes wait."""

START_ATTEMPTS = 3

idle: list[Worker] = []
"""Workers that have nothing to do: starting one costs seconds of imports."""


@dataclass(frozen=True)
class Lost:
    """What comes instead of the result of an item that took its worker along, and why."""

    reason: str


@dataclass
class Worker:
    """One process and the items given to it, first come first served.

    Parameters
    ----------
    pool, process
        Executor with that process alone.
    tasks
        Item numbers and their results to come; the first is in hand. None is the start.
    spent_seconds
        Time seen to go by for the item in hand.
    """

    pool: ProcessPoolExecutor
    process: BaseProcess
    tasks: deque[tuple[int | None, Future]]
    spent_seconds: float = 0.0

    @classmethod
    def start(cls, work: Callable) -> Worker:
        """Start a process; it imports what the work needs while the parent goes on."""
        with interrupts_held():
            pool = ProcessPoolExecutor(max_workers=1)
            started = pool.submit(settle_in, os.getpid(), work)
        # The parent's copy of the end that only the worker writes to would hide a death amid a
        # result: loky would wait for the rest of it.
        pool._result_queue._writer.close()
        (process,) = pool._processes.values()
        # Where a system has no 'pgrep', loky warns and calls a method that its processes lack.
        warnings.filterwarnings("ignore", message="Failed to kill subprocesses")
        process.kill = partial(kill, process.pid)
        return cls(pool, process, deque([(None, started)]))

    def end(self) -> str:
        """Kill the process if it lives, and say how it ended."""
        # Not by the pool's own shutdown: that trips over items which were not begun.
        self.process.kill()
        self.pool.shutdown()
        code = self.process.exitcode
        return signal.Signals(-code).name if code and code < 0 else f"exit code {code}"


class Crew(Generic[Item, Result]):
    """Workers, what they have in hand, and what became of each item.

    Parameters
    ----------
    work
        What is done with an item, in a worker.
    items
        What there is to do.
    jobs
        Number of workers.
    limit_seconds
        Time an item may take; 0 for no limit.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        jobs: int,
        limit_seconds: float,
    ) -> None:
        self.work, self.items, self.limit_seconds = work, items, limit_seconds
        self.workers = [idle.pop() if idle else Worker.start(work) for _ in range(jobs)]
        self.waiting = deque(range(len(items)))
        self.retries: deque[int] = deque()
        self.settled: dict[int, Result | Lost] = {}
        self.failed_starts = 0
        self.looked = time.monotonic()

    def result(self, number: int) -> Result | Lost:
        """Wait for an item and give its result away."""
        while number not in self.settled:
            self.hand_out(number + AHEAD * len(self.workers))
            heads = [worker.tasks[0][1] for worker in self.workers if worker.tasks]
            wait(heads, LOOK_SECONDS, FIRST_COMPLETED)
            self.look()
        self.hand_out(number + AHEAD * len(self.workers))
        return self.settled.pop(number)

    def hand_out(self, end: int) -> None:
        """Give workers something to do, of the items before a number."""
        if self.retries:
            # Alone, to tell an item that kills its worker from one that met a bad moment.
            if not any(worker.tasks for worker in self.workers):
                self.hand(0, self.retries[0])
            return
        for depth in range(1, QUEUED + 1):
            for place, worker in enumerate(self.workers):
                if len(worker.tasks) < depth and self.waiting and self.waiting[0] < end:
                    self.hand(place, self.waiting.popleft())

    def hand(self, place: int, number: int) -> None:
        """Give an item to a worker, or to its successor if it died while idle."""
        try:
            future = self.workers[place].pool.submit(self.work, self.items[number])
        except BrokenProcessPool:
            self.replace(place)
            future = self.workers[place].pool.submit(self.work, self.items[number])
        self.workers[place].tasks.append((number, future))

    def look(self) -> None:
        """Take what is finished, replace workers that died, end those over their time."""
        # A look counts for a second at most: a run that was stopped, or a lid that was shut, is
        # not time that an item took.
        now = time.monotonic()
        passed, self.looked = min(now - self.looked, 2 * LOOK_SECONDS), now
        for place, worker in enumerate(self.workers):
            while worker.tasks and worker.tasks[0][1].done():
                number, future = worker.tasks[0]
                if isinstance(future.exception(), BrokenProcessPool):
                    self.note_death(number, self.replace(place))
                    break
                worker.tasks.popleft()
                worker.spent_seconds = 0.0
                self.note_end(number, future)
            else:
                self.keep_time(place, passed)

    def keep_time(self, place: int, passed_seconds: float) -> None:
        """Count the time of the item in hand and end its worker if it is over."""
        worker = self.workers[place]
        number = worker.tasks[0][0] if worker.tasks else None
        if number is None or not self.limit_seconds:
            return
        worker.spent_seconds += passed_seconds
        if worker.spent_seconds > self.limit_seconds:
            self.replace(place)
            self.settle(
                number,
                Lost(
                    f"expected an end within {self.limit_seconds:g} s, got none; if the file is "
                    "sound, raise --clip-timeout"
                ),
            )

    def note_end(self, number: int | None, future: Future) -> None:
        """Take the result of an item; an error that is not its own fault is raised."""
        self.failed_starts = 0
        if number is None:
            return
        if isinstance(future.exception(), MemoryError):
            self.note_death(number, "MemoryError")
        else:
            self.settle(number, future.result())

    def note_death(self, number: int | None, how: str) -> None:
        """Let an item whose worker died be tried once more, alone; then give it up."""
        memory = "is memory short? run with fewer --jobs"
        if number is None:
            self.failed_starts += 1
            if self.failed_starts == START_ATTEMPTS:
                raise InputError(f"expected a worker process to start, got {how}; {memory}")
        elif number not in self.retries:
            self.retries.append(number)
        else:
            remedy = memory if how in ("SIGKILL", "MemoryError") else "is the file damaged?"
            self.settle(
                number,
                Lost(f"expected a worker to survive this clip, got {how} twice; {remedy}"),
            )

    def settle(self, number: int, outcome: Result | Lost) -> None:
        """Keep what became of an item until it is asked for."""
        self.settled[number] = outcome
        if number in self.retries:
            self.retries.remove(number)

    def replace(self, place: int) -> str:
        """Put a fresh worker in the place of one, and say how that one ended.

        What it had not begun waits again.
        """
        worker, self.workers[place] = self.workers[place], Worker.start(self.work)
        self.waiting.extendleft(number for number, _ in reversed(list(worker.tasks)[1:]))
        return worker.end()

    def dismiss(self) -> list[Worker]:
        """Let the workers go that have done everything, and return them."""
        workers, self.workers = self.workers, []
        return workers

    def end(self) -> None:
        """Kill every worker."""
        for worker in self.workers:
            worker.end()


def in_order(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int, limit_seconds: float = 0.0
) -> Iterator[Result | Lost]:
    """Do something with each item in worker processes, yielding results in the order of the items.

    Parameters
    ----------
    work
        What is done with an item. Its exceptions end the run, all but ``MemoryError``.
    items
        What there is to do.
    jobs
        Worker processes; -1 for one a core.
    limit_seconds
        Time an item may take before its worker is killed; 0 for no limit.

    Yields
    ------
    Result or Lost
        :class:`Lost` for an item that took too long, or whose worker died twice: once among
        others and once alone.

    Raises
    ------
    InputError
        If workers die while they start.
    """
    crew = Crew(work, items, min(joblib.effective_n_jobs(jobs), len(items)), limit_seconds)
    try:
        for number in range(len(items)):
            result = crew.result(number)
            # Before the last result is given away: a reader that has it may never come back.
            if number == len(items) - 1:
                idle.extend(crew.dismiss())
            yield result
    except BaseException:
        crew.end()
        raise


def kill(pid: int) -> None:
    """End a process at once, if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


def settle_in(parent: int, _work: Callable) -> None:
    """Make a worker process leave interrupts to its parent, and not outlive it.

    The work is not done, but by being sent it has been imported: no item's time.
    """
    leave_interrupts_to_parent()
    if "PYTHONFAULTHANDLER" not in os.environ:
        # loky's workers print where a crash met them; the reason of the item says enough.
        faulthandler.disable()
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process once its parent is gone: loky's own would wait for it for ever."""
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)


@contextlib.contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back; a process started meanwhile never gets it, this one a moment later."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
