"""Work in a child process that may die or hang: it is killed, and the answer says so.

A library in C may crash on a file, or loop while it holds the interpreter lock, so nothing in
the same process can stop it. :func:`call` hands the work to a child of the calling thread,
spoken to through a pipe, and waits no longer than it is told to. The child is a plain
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
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import traceback
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.errors import InputError

log = logging.getLogger(__name__)

HEADER = struct.Struct("<Q")
"""Size of the message that follows."""

READ_BYTES = 1 << 20

POLL_SECONDS = 1.0
"""Longest wait at a time. One wait counts for twice that at most: a process that was stopped, or
a computer that slept, is not time that the work took."""

START_SECONDS = 300.0
START_ATTEMPTS = 3

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
class Lost:
    """What comes instead of an answer.

    Parameters
    ----------
    reason
        Why there is none: expected, received, remedy.
    transient
        Whether the same work may succeed another time.
    """

    reason: str
    transient: bool


class Child:
    """A process that does one thing at a time.

    Parameters
    ----------
    module
        What it imports before it says that it is ready.
    """

    def __init__(self, module: str) -> None:
        self.module, self.owner = module, os.getpid()
        root = str(Path(__file__).parent.parent)
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from pipeline import guard; guard.serve({module!r}, {self.owner})",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # The folder a user happens to be in is no place to import from.
            env={**os.environ, **SINGLE_THREADED, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
            # Ctrl-C is the parent's to answer.
            start_new_session=True,
        )
        self.close = weakref.finalize(self, end, self.process, self.owner)
        os.set_blocking(self.process.stdout.fileno(), False)

    def is_usable(self, module: str) -> bool:
        """Whether it lives, has imported a module, and belongs to this process, not to a fork."""
        return (
            (module, os.getpid()) == (self.module, self.owner)
            and self.close.alive
            and self.process.poll() is None
        )

    def send(self, message: object) -> None:
        """Ask for something.

        Raises
        ------
        EOFError
            If the child is gone.
        """
        try:
            write_message(self.process.stdin, pickle.dumps(message))
        except BrokenPipeError as error:
            raise EOFError from error

    def receive(self, limit_seconds: float) -> Any:
        """Wait for an answer; 0 waits for ever.

        Raises
        ------
        EOFError
            If the child ends before it has answered.
        TimeoutError
            If it takes too long.
        """
        limit_seconds = limit_seconds or float("inf")
        number = self.process.stdout.fileno()
        poll = select.poll()
        poll.register(number, select.POLLIN)
        data, size, waited = bytearray(), None, 0.0
        while size is None or len(data) < HEADER.size + size:
            before = time.monotonic()
            ready = poll.poll(1000 * min(POLL_SECONDS, max(0.01, limit_seconds - waited)))
            waited += min(time.monotonic() - before, 2 * POLL_SECONDS)
            if ready:
                block = os.read(number, READ_BYTES)
                if not block:
                    raise EOFError
                data += block
            elif waited >= limit_seconds:
                raise TimeoutError
            if size is None and len(data) >= HEADER.size:
                (size,) = HEADER.unpack_from(data)
        try:
            return pickle.loads(memoryview(data)[HEADER.size :])
        except Exception as error:
            # Whatever a foreign class does here: it is the answer that is wrong.
            return bug(error)

    def kill(self, grace_seconds: float = 0.0) -> str:
        """End the process and say how it ended: a signal's name, or an exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_seconds)
        self.close()
        code = self.process.returncode
        if code is None:
            return "no end"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"exit code {code}"


def end(process: subprocess.Popen, owner: int) -> None:
    """Kill a child if it lives, and forget it; in a fork of its owner, only forget it."""
    if os.getpid() == owner:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    process.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()


def call(target: str, *arguments: Any, limit_seconds: float = 0.0) -> Any | Lost:
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
    Any or Lost
        What the function returns; :class:`Lost` where it raised an exception, took too long, or
        took its process down twice.

    Raises
    ------
    InputError
        If no child process can be started, or it cannot import the module; or the function's own.
    """
    ending = ""
    for _ in range(2):
        child = child_of_thread(target.partition(":")[0])
        try:
            child.send((target, arguments, limit_seconds))
            answer = child.receive(limit_seconds)
        except TimeoutError:
            forget_child()
            return Lost(
                f"expected an end within {limit_seconds:g} s, got none; if the file is sound, "
                "raise --clip-timeout",
                transient=True,
            )
        except EOFError:
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
    return Lost(f"expected a process to survive this, got {ending} twice; {remedy}", transient)


def child_of_thread(module: str) -> Child:
    """Return this thread's child process for a module, started where there is none.

    Raises
    ------
    InputError
        See :func:`call`.
    """
    child = getattr(local, "child", None)
    if child is not None and child.is_usable(module):
        return child
    got = ""
    for _ in range(START_ATTEMPTS):
        forget_child()
        try:
            local.child = Child(module)
            failure = local.child.receive(START_SECONDS)
        except EOFError:
            got = forget_child(END_SECONDS)
        except TimeoutError:
            got = f"nothing within {START_SECONDS:g} s"
        except OSError as error:
            # No room for another process, or for its pipes.
            got = error.strerror or str(error)
        except BaseException:
            forget_child()
            raise
        else:
            if failure is None:
                return local.child
            forget_child()
            raise InputError(
                f"expected a child process that imports {module}, got {failure}; "
                "is everything installed? 'make setup' does it"
            )
    forget_child()
    raise InputError(
        f"expected a child process that imports {module}, got {got} in {START_ATTEMPTS} attempts; "
        "is memory short? run with fewer --jobs"
    )


def forget_child(grace_seconds: float = 0.0) -> str:
    """End this thread's child process, if there is one, and say how it ended.

    Parameters
    ----------
    grace_seconds
        Time for it to end by itself: one that leaves closes its pipe before it is gone.
    """
    child, local.child = getattr(local, "child", None), None
    return child.kill(grace_seconds) if child else ""


def serve(module: str, parent: int) -> None:
    """Be a child: import, then answer until the parent has no more to ask."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not get among the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        importlib.import_module(module)
        failure = None
    except Exception as error:
        # Whatever is wrong with it, the parent says it in one line.
        failure = one_line(error)
    # The parent may be gone at any moment; libraries have nothing to tidy up.
    with contextlib.suppress(BrokenPipeError):
        write_message(answers, pickle.dumps(failure))
        while select.select([requests], [], [], IDLE_SECONDS)[0]:
            (size,) = HEADER.unpack(requests.read(HEADER.size) or HEADER.pack(0))
            request = requests.read(size)
            if not size or len(request) < size:
                break
            write_message(answers, perform(request))
    os._exit(0)


def perform(request: bytes) -> bytes:
    """Call what a request names and return the answer, pickled; no exception gets out."""
    try:
        target, arguments, limit_seconds = pickle.loads(request)
        if limit_seconds:
            end_seconds = min(limit_seconds + BACKSTOP_SECONDS, threading.TIMEOUT_MAX)
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


def bug(error: Exception) -> Lost:
    """Report an exception that nobody expected, with its place."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return Lost(
        f"expected no error, got {one_line(error)} at {Path(place.filename).name}:{place.lineno}; "
        "this is a bug of the pipeline, please report it with the file",
        transient=False,
    )


def one_line(error: Exception) -> str:
    """Kind and text of an exception, even where the text fails."""
    return " ".join("".join(traceback.format_exception_only(error)).split())


def write_message(stream: BinaryIO, data: bytes) -> None:
    """Write a message with its length before it."""
    stream.write(HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()


def die_with(parent: int) -> None:
    """Let the system kill this process when the thread that started it is gone (Linux).

    Elsewhere it ends once it finds the pipe closed, or by ``BACKSTOP_SECONDS``.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
