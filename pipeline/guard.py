"""Work in a child process that may die or hang: it is killed, and the answer says so.

A library in C may crash on a file, or loop while it holds the interpreter lock, so nothing in
the same process can stop it. :func:`call` hands the work to a child of the calling thread,
spoken to through a socket, and waits no longer than it is told to. The child is a plain
``subprocess``: daemonic workers, such as those of dask, may start no other kind.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

log = logging.getLogger(__name__)

START_SECONDS = 300.0
START_ATTEMPTS = 3

LONGEST_SECONDS = 1e6
"""A longer limit is this one: the system's clocks overflow."""

END_SECONDS = 5.0
"""How long a child that ends may take to be gone: one that waits for a dead disk takes for ever."""

IDLE_SECONDS = 60.0
"""A child without work ends itself after this: workers of a cluster outlive the run."""

BACKSTOP_SECONDS = 60.0
"""A child over its time by this much ends itself: its parent is gone."""

PR_SET_PDEATHSIG = 1
"""Linux' ``prctl``: the signal a process gets when the thread that started it ends."""

SINGLE_THREADED = {
    f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA", "VECLIB")
}
"""Children work side by side, one a core."""

local = threading.local()


@dataclass(frozen=True)
class Failure:
    """What comes instead of an answer: why, and whether the work may succeed another time."""

    reason: str
    transient: bool


class Child:
    """A process that does one thing at a time, of what a module offers."""

    def __init__(self, module: str) -> None:
        self.key = module, os.getpid()
        root = str(Path(__file__).parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.pipe, theirs = Pipe()
        with theirs:
            serve = f"guard.serve({theirs.fileno()}, {module!r}, {os.getpid()})"
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"from pipeline import guard; {serve}"],
                stdin=subprocess.DEVNULL,
                # What libraries print is no output of the command.
                stdout=2,
                pass_fds=[theirs.fileno()],
                # The folder a user happens to be in is no place to import from.
                env={**os.environ, **SINGLE_THREADED, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
                # Ctrl-C is the parent's to answer.
                start_new_session=True,
            )
        self.close = weakref.finalize(self, end, self.process, self.pipe, os.getpid())

    def is_usable(self, module: str) -> bool:
        """Whether it lives, has imported a module, and belongs to this process, not to a fork."""
        return self.key == (module, os.getpid()) and self.process.poll() is None

    def receive(self, limit_seconds: float) -> Any:
        """Wait for an answer, 0 for ever; it ends with EOFError or OSError if the child does."""
        if not self.pipe.poll(min(limit_seconds, LONGEST_SECONDS) or None):
            raise TimeoutError
        answer = self.pipe.recv_bytes()
        try:
            return pickle.loads(answer)
        except Exception as error:
            # Whatever a foreign class does here: it is the answer that is wrong.
            return bug(error)


def end(process: subprocess.Popen, pipe: Connection, owner: int) -> None:
    """Kill a child if it lives, and forget it; in a fork of its owner, only forget it."""
    if os.getpid() == owner:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    pipe.close()


def call(target: str, *arguments: Any, limit_seconds: float = 0.0) -> Any | Failure:
    """Call a function in the child process of this thread.

    Parameters
    ----------
    target
        ``"package.module:function"``; imported by the child alone.
    arguments
        Whatever can be pickled.
    limit_seconds
        Time it may take, from when the child has imported the module; 0 for no limit.

    Returns
    -------
    Any or Failure
        What the function returns; :class:`Failure` where it raised an exception, took too long, or
        took its process down twice.

    Raises
    ------
    InputError
        If no child process can be started, or it cannot import the module; or the function's own.
    """
    ending = ""
    for _ in range(2):
        try:
            child = child_of_thread(target.partition(":")[0])
            child.pipe.send_bytes(pickle.dumps((target, arguments, limit_seconds)))
            answer = child.receive(limit_seconds)
        except TimeoutError:
            forget_child()
            return Failure(
                f"expected an end within {limit_seconds:g} s, got none; if the file is sound, "
                "raise --clip-timeout",
                transient=True,
            )
        except (EOFError, OSError):
            ending = forget_child(END_SECONDS)
            log.debug("%s: the process ended by %s", target, ending)
            continue
        except BaseException:
            # An interrupt while the answer is under way: half of it may be read.
            forget_child()
            raise
        if isinstance(answer, InputError):
            raise answer
        if not isinstance(answer, MemoryError):
            return answer
        ending = "MemoryError"
        forget_child()
    # Killed from outside, or for want of memory: the file need not be at fault.
    transient = ending in ("SIGKILL", "SIGTERM", "MemoryError")
    remedy = "is memory short? run with fewer --jobs" if transient else "is the file damaged?"
    return Failure(f"expected a process to survive this, got {ending} twice; {remedy}", transient)


def child_of_thread(module: str) -> Child:
    """Return this thread's child process for a module, started where there is none."""
    child = getattr(local, "child", None)
    if child is not None and child.is_usable(module):
        return child
    got = ""
    for _ in range(START_ATTEMPTS):
        forget_child()
        try:
            local.child = Child(module)
            failure = local.child.receive(START_SECONDS)
        except TimeoutError:
            got = f"nothing within {START_SECONDS:g} s"
        except (EOFError, OSError) as error:
            # It ended, or there is no room for another process.
            got = forget_child(END_SECONDS) or str(error.args[-1])
        else:
            if failure is None:
                return local.child
            got = f"{failure}; is everything installed? 'make setup' does it"
            break
    else:
        got = f"{got} in {START_ATTEMPTS} attempts; is memory short? run with fewer --jobs"
    forget_child()
    raise InputError(f"expected a child process that imports {module}, got {got}")


def forget_child(grace_seconds: float = 0.0) -> str:
    """End this thread's child process, if there is one; say how: a signal's name, an exit code.

    One that leaves closes its pipe before it is gone; grace lets it end by itself.
    """
    child, local.child = getattr(local, "child", None), None
    if child is None:
        return ""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(grace_seconds)
    child.close()
    code = child.process.returncode
    try:
        return "no end" if code is None else signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def serve(pipe: int, module: str, parent: int) -> None:
    """Be a child: import, then answer until the parent has no more to ask."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    failure = None
    try:
        importlib.import_module(module)
    except Exception as error:
        # Whatever is wrong with it, the parent says it in one line.
        failure = one_line(error)
    # The parent may be gone at any moment; libraries have nothing to tidy up.
    with contextlib.suppress(EOFError, OSError):
        answers = Connection(pipe)
        answers.send_bytes(pickle.dumps(failure))
        while answers.poll(IDLE_SECONDS):
            answers.send_bytes(perform(answers.recv_bytes()))
    os._exit(0)


def perform(request: bytes) -> bytes:
    """Call what a request names and return the answer, pickled; no exception gets out."""
    try:
        target, arguments, limit_seconds = pickle.loads(request)
        if limit_seconds:
            end_seconds = min(limit_seconds, LONGEST_SECONDS) + BACKSTOP_SECONDS
            faulthandler.dump_traceback_later(end_seconds, exit=True)
        module, _, name = target.partition(":")
        answer = getattr(importlib.import_module(module), name)(*arguments)
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        return pickle.dumps(MemoryError())
    except InputError as error:
        # Not the file's fault: something is missing here, and every other file would meet it.
        return pickle.dumps(error)
    except Exception as error:
        # The boundary of a process: whatever is wrong concerns this work alone, and is reported.
        return pickle.dumps(bug(error))
    finally:
        faulthandler.cancel_dump_traceback_later()


def bug(error: Exception) -> Failure:
    """Report an exception that nobody expected, with its place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Failure(
        f"expected no error, got {one_line(error)} at {Path(place.filename).name}:{place.lineno}; "
        "this is a bug of the pipeline, please report it with the file",
        transient=False,
    )


def one_line(error: Exception) -> str:
    """Kind and text of an exception, even where the text fails."""
    return " ".join("".join(traceback.format_exception_only(error)).split())


def die_with(parent: int) -> None:
    """Let the system kill this process when the thread that started it is gone (Linux).

    Elsewhere it ends once it finds the pipe closed, or by ``BACKSTOP_SECONDS``.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
