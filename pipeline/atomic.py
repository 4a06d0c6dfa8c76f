"""Writing to a disk that may refuse, or lose its power, with HDF5 in between."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

PARTIAL_SUFFIX = ".partial"
"""What a file is called, behind its own name, until it is whole."""


class PatientFile(io.FileIO):
    """A new file under HDF5 that takes whatever it is given and tells of a refusal afterwards.

    HDF5 may crash when it closes a file that it could not write, so it must not learn of it.

    Parameters
    ----------
    path
        The file to write.

    Attributes
    ----------
    refusal
        What the disk said first; nothing is written after it.
    """

    refusal: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")

    def readinto(self, buffer: memoryview) -> int:
        """Read back; zeros after a refusal."""
        if self.refusal is None:
            with self.remembering():
                return super().readinto(buffer)
        buffer[:] = bytes(len(buffer))
        return len(buffer)

    def write(self, data: memoryview) -> int:
        """Write everything, or nothing after a refusal."""
        if self.refusal is None:
            with self.remembering():
                written = 0
                while written < len(data):
                    written += super().write(data[written:])
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the length."""
        if self.refusal is None:
            with self.remembering():
                return super().truncate(size)
        return size or 0

    def close(self) -> None:
        """Close the file, which some disks refuse too."""
        with self.remembering():
            super().close()

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Keep a refusal for later."""
        try:
            yield
        except OSError as error:
            self.refusal = self.refusal or error

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """Let HDF5 work in this block, and raise afterwards what the disk said.

        Raises
        ------
        OSError
            With number, text and file name.
        """
        try:
            with signals_held():
                yield
        finally:
            if self.refusal is not None:
                refusal = self.refusal
                raise OSError(refusal.errno, refusal.strerror, str(self.name)) from refusal


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off to the end of a block in which HDF5 calls Python."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


@contextlib.contextmanager
def refusals_named(path: Path) -> Iterator[None]:
    """Let an ``OSError`` of writing a file say which, as those of opening one do."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk itself, not only in memory."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        # Some network file systems know no fsync of folders; the file's own was heard.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(number)


def replace_durably(partial: Path, path: Path) -> None:
    """Give a finished file its final name, so that a power cut leaves the old file or the new one.

    Without the first wait a file system may keep the new name and lose what it names: a shard of
    zeros, which its seal refuses, or an empty ``index.json`` or checkpoint. Without the second, a
    file that names another may outlive it.
    """
    with refusals_named(path):
        sync(partial)
        os.replace(partial, path)
        sync(path.parent)


def write_durably(path: Path, content: bytes | memoryview) -> None:
    """Write a file in one step: under its name is what was there before, or all of the new.

    Raises
    ------
    OSError
        With number, text and file name; the file is as it was before.
    """
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    try:
        with refusals_named(path):
            partial.write_bytes(content)
        replace_durably(partial, path)
    finally:
        partial.unlink(missing_ok=True)
