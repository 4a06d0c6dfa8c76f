"""What a command shows and answers: exit codes, signals, progress bars, the log."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from pipeline.errors import STORAGE_ERRNOS, InputError, Terminated

if TYPE_CHECKING:
    import tqdm

LOG_SECONDS = 30.0


def bar(*items: Any, **options: Any) -> tqdm.tqdm:
    """Return tqdm's bar; where the output is no terminal, it is printed every half minute."""
    # Not above: 'emotion-av doctor' says what is missing where nothing is installed.
    import tqdm

    if not sys.stderr.isatty():
        options = {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS, **options}
    return tqdm.tqdm(*items, **options)


def size_text(count: float) -> str:
    """Write a number of bytes as disks and networks count them: ``553.1 MB``."""
    for unit, factor in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count:.0f} B"


class Parser(argparse.ArgumentParser):
    """Answers a wrong option with one line, and takes no beginning of an option for it."""

    def __init__(self, **options: Any) -> None:
        # '--epochs 1' is not '--epochs-scale 1'.
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with exit code 2."""
        self.exit(2, f"error: {message}; '{self.prog} --help' lists what there is\n")


def add_verbose(command: argparse.ArgumentParser) -> None:
    """Add the option that shows the log."""
    command.add_argument(
        "-v", "--verbose", action="store_true", help="say what is checked, and why work is done"
    )


def show_log(verbose: bool) -> None:
    """Send warnings of the packages to standard error, and everything else where asked for."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    if verbose:
        for package in ("pipeline", "train", "infer"):
            logging.getLogger(package).setLevel(logging.DEBUG)


def run(command: Callable[[], int], go_on: str = "the same command goes on from there") -> int:
    """Run a command line and turn a user's mistake into one line and an exit code.

    Parameters
    ----------
    command
        Does the work and returns its exit code.
    go_on
        What to do after Ctrl-C or SIGTERM.

    Returns
    -------
    int
        The command's own code; 0 after a closed pipe; 2 after a user's mistake or a refusing
        disk; 130 after Ctrl-C, 143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, raise_terminated)
    for stream in (sys.stdout, sys.stderr):
        # A file's name need not be text that the terminal takes.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command()
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Such as 'list | head': the reader has what it wanted. Python would flush once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in STORAGE_ERRNOS:
            raise
        where = f" at {error.filename}" if error.filename else ""
        reason = error.strerror or str(error)
        print(
            f"error: expected a readable, writable place with room{where}, got: {reason}; "
            "free some space or name another folder; finished parts are kept",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        end_children()
        print(f"interrupted: finished parts are kept, {go_on}", file=sys.stderr)
        return 130
    except Terminated:
        end_children()
        print(f"terminated: finished parts are kept, {go_on}", file=sys.stderr)
        return 143


def end_children() -> None:
    """End the processes that are left.

    A worker that was starting when a signal came waits for ever for what it was to do, and the
    interpreter's end for the worker.
    """
    for child in multiprocessing.active_children():
        if child.pid is not None:
            # One that is just starting may miss a SIGTERM.
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)


def raise_terminated(number: int, _frame: FrameType | None) -> None:
    """Answer SIGTERM by leaving every block in order; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated
