"""One run at a time fills a cache: a lock on its folder that dies with whoever holds it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import InputError

try:
    import fcntl
except ModuleNotFoundError:  # Windows: two runs on one cache are not told apart there
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"

CANNOT_LOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""Some network file systems have no locks; a place that cannot be written to needs none."""


@contextlib.contextmanager
def held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a cache folder.

    The system lets go of it when this process ends, however it ends: what a killed run leaves is
    a file that locks nobody out.

    Parameters
    ----------
    folder
        A cache, which exists.
    wait
        Whether to wait for another run to let go.

    Raises
    ------
    InputError
        If another run holds it, saying which.
    """
    try:
        file = None if fcntl is None else acquire(folder / LOCK_NAME, wait)
    except OSError as error:
        if error.errno not in CANNOT_LOCK and os.access(folder, os.W_OK):
            raise
        file = None
    if file is None:
        yield
        return
    try:
        holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}"
        # A full disk has no room for the note, but the lock holds.
        with contextlib.suppress(OSError):
            os.truncate(file, 0)
            os.write(file, holder.encode())
        yield
    finally:
        # While it is still held: a later holder's file must not be the one that goes.
        (folder / LOCK_NAME).unlink(missing_ok=True)
        os.close(file)


def acquire(path: Path, wait: bool) -> int:
    """Open and lock the file that everybody else finds under this name too."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError as error:
            holder = os.read(file, 200).decode(errors="replace") or "a process"
            os.close(file)
            raise InputError(
                f"expected no other run in {path.parent}, got {holder}; "
                "let it end, or wait for it with --wait"
            ) from error
        except BaseException:
            os.close(file)
            raise
        # The former holder removed it meanwhile.
        os.close(file)
