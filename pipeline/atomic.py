"""Atomic writes: under a name is the old file or the whole new one, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

PARTIAL_SUFFIX = ".partial"
"""What a file is called until it is whole: its name, :func:`own_mark`, and this."""


def own_place() -> str:
    """Name where a number means one process: this host and, on Linux, the namespace of processes.

    Containers may share the host's name and number their processes each for itself.
    """
    namespace = "0"
    with contextlib.suppress(OSError):
        namespace = re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return f"{socket.gethostname()}-{namespace}"


def own_mark() -> str:
    """Return a text that no other process, here or elsewhere, gives to a file.

    Host, namespace, process and a random part, joined by hyphens.
    """
    return f"{own_place()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def partial_folder(folder: Path | None, name: str) -> Iterator[Path]:
    """Make a folder in another (None: the system's for temporary files), and remove it again."""
    # A task that lost its run may still write there.
    with tempfile.TemporaryDirectory(
        PARTIAL_SUFFIX, f"{name}.{own_mark()}", folder, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name in the same folder, then give it its own.

    Parameters
    ----------
    path
        Final name; its folder exists.

    Yields
    ------
    Path
        Where to write. After an exception it is removed and `path` is as it was.

    Raises
    ------
    OSError
        With number, text and file name, if the disk refuses.
    """
    partial = path.with_name(f"{path.name}.{own_mark()}{PARTIAL_SUFFIX}")
    try:
        with refusals_named(path):
            yield partial
        replace_durably(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step; see :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


def replace_durably(partial: Path, path: Path) -> None:
    """Give a finished file its final name, so that a power cut leaves the old file or the new one.

    Without the first sync a file system may keep the new name and lose the content; without the
    second, a file that names another may outlive it.
    """
    with refusals_named(path):
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk itself, not only in memory."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network file systems know no fsync of folders; the file's own was done.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(number)


@contextlib.contextmanager
def refusals_named(path: Path) -> Iterator[None]:
    """Let an ``OSError`` of writing a file say which, as those of opening one do."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def dead_leftovers(folder: Path) -> list[Path]:
    """Partial files and folders that processes of this place left behind when they were killed.

    Those of other hosts and containers, and of processes that run, are not among them.
    """
    place = re.escape(own_place())
    mark = re.compile(rf"\.{place}-(\d+)-[0-9a-f]{{8}}\w*{re.escape(PARTIAL_SUFFIX)}$")
    marked = ((path, mark.search(path.name)) for path in folder.glob(f"*{PARTIAL_SUFFIX}"))
    return sorted(path for path, match in marked if match and not is_alive(int(match[1])))


def remove(path: Path) -> None:
    """Remove a file, if it is there, or a folder such as :func:`partial_folder` makes."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this host runs."""
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True
