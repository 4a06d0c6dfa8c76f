"""One run at a time fills a cache: a lock on its folder that ends with whichever process holds it.

Only the command that plans takes it; tasks do not, wherever they run. They are idempotent, so two
runs at once, on a file system that knows no locks, waste work and harm nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

from pipeline.errors import InputError

LOCK_NAME = ".lock"
HOLDER_SUFFIX = ".holder"

LOCKLESS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without locks answer."""

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held(folder: Path, wait: bool = False, name: str = "") -> Iterator[None]:
    """Hold a lock of a cache folder; runs for other actors hold one of another name.

    A folder that cannot be written to needs no lock, and on some file systems there is none.

    Raises
    ------
    InputError
        If another run holds it and is not to be waited for; the message says which.
    """
    if not os.access(folder, os.W_OK):
        yield
        return
    lock = filelock.FileLock(folder / f"{LOCK_NAME}{name}")
    # Contenders empty the lock file itself.
    holder = folder / f"{LOCK_NAME}{name}{HOLDER_SUFFIX}"
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except filelock.Timeout as error:
        other = ""
        with contextlib.suppress(OSError):
            other = holder.read_text(encoding="utf-8")
        raise InputError(
            f"expected no other run in {folder}, got {other or 'a process'}; "
            "let it end, or wait for it with --wait (make: WAIT=1)"
        ) from error
    except OSError as error:
        if error.errno not in LOCKLESS:
            raise
        log.warning("%s is not locked: %s; let no two runs use it at once", folder, error.strerror)
    try:
        # A full disk has no room for the note, but the lock holds.
        with contextlib.suppress(OSError):
            since = time.strftime("%F %T")
            note = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            holder.write_text(note, encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def all_held(folder: Path, wait: bool = False) -> Iterator[None]:
    """Hold every lock of a cache folder: whoever removes something must be alone."""
    files = {path.name for path in folder.glob(f"{LOCK_NAME}*")} | {LOCK_NAME}
    with contextlib.ExitStack() as stack:
        for file in sorted(files):
            if not file.endswith(HOLDER_SUFFIX):
                stack.enter_context(held(folder, wait, file.removeprefix(LOCK_NAME)))
        yield
