"""What carries tasks: joblib's processes and threads, or a cluster of dask's or of ray's.

See docs/cluster.md.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import joblib

from pipeline.errors import InputError, Terminated

Item = TypeVar("Item")

BACKENDS = ("loky", "threading", "dask", "ray")

PARENT_SECONDS = 0.25
"""How often a worker looks for its parent."""

CONNECT_SECONDS = 10.0
"""How long a dask scheduler may take to answer."""

RETRIES = 3
"""How often ray itself tries a task whose worker died."""

INSTALL = "run 'make setup-cluster', or pip install -r requirements-cluster.txt"
GO_ON = "finished parts are kept, start it and run the same command again"


@dataclass(frozen=True)
class Workers:
    """Who does the work.

    Parameters
    ----------
    jobs
        Tasks at the same time; -1 for one a core. A dask scheduler has its own number.
    backend
        One of ``BACKENDS``; None takes the backend that is active in joblib (see
        ``joblib.parallel_config``), which is loky's processes by default.
    scheduler
        Address of a dask scheduler (``tcp://host:8786``) or of a ray cluster; None starts a
        cluster on this machine.
    """

    jobs: int = -1
    backend: str | None = None
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.jobs == 0:
            raise InputError("expected a number of jobs other than 0, got 0; -1 uses every core")
        if self.backend is not None and self.backend not in BACKENDS:
            raise InputError(
                f"expected a backend out of {', '.join(BACKENDS)}, got {self.backend!r}; "
                "leave it out for processes on this machine"
            )
        if self.scheduler is not None and self.backend not in ("dask", "ray"):
            raise InputError(
                f"expected BACKEND=dask or ray beside a scheduler, got {self.backend!r}; name one"
            )

    @property
    def are_elsewhere(self) -> bool:
        """Whether other machines may do the tasks."""
        active = self.backend is None and active_backend() in ("dask", "ray")
        return active or self.scheduler is not None


def carry(work: Callable[[Item], object], items: Sequence[Item], workers: Workers) -> None:
    """Hand tasks to a backend once and wait; return early if it lost some of them.

    Raises
    ------
    InputError
        If there is no cluster, it goes away, or its workers lack the code.
    """
    name = workers.backend or active_backend()
    carriers = {"dask": carry_by_dask, "ray": carry_by_ray}
    try:
        carriers.get(name, carry_by_joblib)(work, items, workers)
    except (ModuleNotFoundError, RuntimeError) as error:
        # Dask's scheduler reads tasks, too, and wraps what it finds missing.
        missing = error.__cause__ if isinstance(error, RuntimeError) else error
        if name not in carriers or not isinstance(missing, ModuleNotFoundError):
            raise
        if missing.name in ("distributed", "ray"):
            raise InputError(f"expected {missing.name} installed, got none; {INSTALL}") from error
        root = Path(__file__).parent.parent
        raise InputError(
            f"expected a cluster that can import {missing.name}, got none; start scheduler and "
            f"workers with the same packages and PYTHONPATH={root}"
        ) from error


def active_backend() -> str:
    """Name of the backend that ``joblib.Parallel`` takes where none is named."""
    backend, _ = joblib.parallel.get_active_backend()
    names = {"DaskDistributedBackend": "dask", "RayBackend": "ray", "LokyBackend": "loky"}
    return names.get(type(backend).__name__, "other")


def carry_by_joblib(
    work: Callable[[Item], object], items: Sequence[Item], workers: Workers
) -> None:
    """Hand tasks to ``joblib.Parallel``, in the backend that is named or active."""
    named = joblib.parallel_config(workers.backend) if workers.backend else None
    with named or contextlib.nullcontext(), contextlib.suppress(BrokenProcessPool):
        # A dead worker breaks loky's whole pool, and takes results that nobody has read.
        # One job is done in this process; a last task that kills its worker must not take it down.
        jobs = min(joblib.effective_n_jobs(workers.jobs), max(2, len(items)))
        processes = active_backend() == "loky" and jobs > 1
        # If this process is killed, joblib's resource tracker tidies up and would warn of it.
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
        options = worker_options() if processes else {}
        with interrupts_elsewhere() if processes else contextlib.nullcontext():
            try:
                run = joblib.Parallel(jobs, batch_size=1, **options)
                run(joblib.delayed(work)(item) for item in items)
            except UnboundLocalError as error:
                # Of loky's own, where Ctrl-C meets it between two lines that start a worker.
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise KeyboardInterrupt from error
                raise


@contextlib.contextmanager
def interrupts_elsewhere() -> Iterator[None]:
    """Block SIGINT in this thread, so that processes started from it are born that way.

    A worker that is still importing would answer Ctrl-C with a traceback, and a cluster's own
    processes would be gone before they are shut down. Another thread receives the signal; Python
    raises ``KeyboardInterrupt`` in the main thread nevertheless.
    """
    # loky starts this one before its workers, and Python unblocks the signal as it does so.
    resource_tracker.ensure_running()
    ended = threading.Event()
    threading.Thread(target=ended.wait, daemon=True).start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        ended.set()


def worker_options() -> dict[str, Any]:
    """Options of ``joblib.Parallel`` for processes on this machine."""
    return {"initializer": start_worker, "initargs": (os.getpid(),)}


def start_worker(parent: int) -> None:
    """Make a worker process leave interrupts to its parent, and not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, args=(parent,), daemon=True).start()


def end_with_parent(parent: int) -> None:
    """End this process once its parent is gone: loky's own would wait for it for ever."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)


def carry_by_dask(work: Callable[[Item], object], items: Sequence[Item], workers: Workers) -> None:
    """Hand tasks to dask's own futures.

    joblib's dask backend calls back only for tasks that end: after ``KilledWorker`` it waits for
    ever.
    """
    import distributed

    with dask_client(workers) as client:
        futures = client.map(work, items, pure=False)
        try:
            for future in distributed.as_completed(futures, loop=client.loop):
                with contextlib.suppress(distributed.KilledWorker):
                    future.result()
        except distributed.CancelledError as error:
            raise InputError(
                f"expected the dask scheduler at {client.scheduler.address} to stay, got no "
                f"answer; {GO_ON}"
            ) from error
        finally:
            if client.status == "running":
                client.cancel(futures)


@contextlib.contextmanager
def dask_client(workers: Workers) -> Iterator[Any]:
    """Find the client that is active, or connect to a scheduler, or start one with workers."""
    import distributed

    if workers.backend is None:
        yield joblib.parallel.get_active_backend()[0].client
        return
    # For good: connections die noisily, even after the run, and the store knows what is missing.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if workers.scheduler:
        options: dict[str, Any] = {"address": workers.scheduler, "timeout": CONNECT_SECONDS}
    else:
        jobs = joblib.effective_n_jobs(workers.jobs)
        options = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        options |= {"silence_logs": logging.CRITICAL}
    try:
        with interrupts_elsewhere():
            client = distributed.Client(set_as_default=False, **options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"expected a dask scheduler at {workers.scheduler}, got no answer; "
            "start one with 'dask scheduler', and workers beside it"
        ) from error
    with client:
        yield client


def carry_by_ray(work: Callable[[Item], object], items: Sequence[Item], workers: Workers) -> None:
    """Hand tasks to ray's own futures.

    joblib's ray backend is a pool: one dead worker ends it, and all that the others have begun.
    """
    # Read when ray is imported: else it prints to the standard output that a worker died.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    import ray

    errors = ray.exceptions
    died = errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError
    with ray_cluster(workers):
        task: Any = ray.remote(max_retries=RETRIES)(lambda item: work(item))
        futures = [task.remote(item) for item in items]
        try:
            for future in futures:
                with contextlib.suppress(*died):
                    ray.get(future)
        except errors.RayTaskError as error:
            raise (error.cause or error) from error
        except errors.RayError as error:
            kind = type(error).__name__
            raise InputError(f"expected the ray cluster to stay, got {kind}; {GO_ON}") from error
        except BaseException:
            # Never after success: ray's own process ends if a task is cancelled as it completes.
            for future in futures:
                ray.cancel(future)
            raise


@contextlib.contextmanager
def ray_cluster(workers: Workers) -> Iterator[None]:
    """Connect to a ray cluster, or start one, unless this process is connected already."""
    import ray

    if ray.is_initialized():
        yield
        return
    if workers.scheduler:
        options: dict[str, Any] = {"address": workers.scheduler}
    else:
        jobs = joblib.effective_n_jobs(workers.jobs)
        options = {"num_cpus": jobs, "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with interrupts_elsewhere():
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except SystemExit as error:
        # What ray makes of SIGTERM.
        raise Terminated from error
    except ConnectionError as error:
        raise InputError(
            f"expected a ray cluster at {workers.scheduler}, got no answer; "
            "start one with 'ray start --head'"
        ) from error
    try:
        if threading.current_thread() is threading.main_thread():
            # Ray has put its own in place.
            signal.signal(signal.SIGTERM, handler)
        yield
    finally:
        ray.shutdown()
