"""The two ways input can be wrong, and the one-line answer a command gives to it."""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Callable
from types import FrameType

STORAGE_ERRNOS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
}


class InputError(Exception):
    """Something the user gave cannot be used; the message says what to do about it."""


class MediaError(InputError):
    """One media file cannot be read; other files are unaffected."""


class Terminated(BaseException):
    """The system asked this process to end; like Ctrl-C, it is no error to be caught."""


def leave_interrupts_to_parent() -> None:
    """Start a worker process that ignores Ctrl-C: its parent hears it too and ends the work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


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
        The command's own code; 2 after a user's mistake or a refusing disk; 130 after Ctrl-C,
        143 after SIGTERM.
    """
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        return command()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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
        print(f"interrupted: finished parts are kept, {go_on}", file=sys.stderr)
        return 130
    except Terminated:
        print(f"terminated: finished parts are kept, {go_on}", file=sys.stderr)
        return 143


def raise_terminated(number: int, _frame: FrameType | None) -> None:
    """Answer SIGTERM by leaving every block in order; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise Terminated
