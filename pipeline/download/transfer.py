"""One file from a server: continued where it ended, checked, then given its name."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import requests

from pipeline import atomic
from pipeline.download.client import TRANSIENT, Client, Interrupted, reason_of
from pipeline.errors import InputError

CHUNK_BYTES = 1 << 20
PART_SUFFIX = ".part"
NOTE_SUFFIX = ".part.json"
RANGE_PATTERN = re.compile(r"bytes (\d+)-\d+/(\d+|\*)", re.ASCII)

Report = Callable[[int], object]
"""Told how many bytes more there are; fewer, if a file is begun again."""


@dataclass(frozen=True)
class Remote:
    """A file that can be fetched.

    Parameters
    ----------
    name, url
        Its own name, and its address.
    bytes
        Size.
    algorithm, digest
        Name of a hash that :mod:`hashlib` knows, and what it gives in hexadecimal.
    """

    name: str
    url: str
    bytes: int
    algorithm: str
    digest: str

    def hasher(self) -> hashlib._Hash:
        """Begin to hash."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def fetch(client: Client, remote: Remote, path: Path, report: Report) -> None:
    """Fetch a file; a part of it that is there is continued.

    Parameters
    ----------
    client
        Sends the requests.
    remote
        What to fetch.
    path
        Its final name, which it gets when its size and checksum are right; until then it is
        called ``<name>.part``, with a note beside it.
    report
        Told of every byte, those of the part that is there included.

    Raises
    ------
    InputError
        If the file cannot be had, or is another one.
    OSError
        If the disk refuses. The part is kept.
    """
    for last in (False, True):
        with Part(remote, path, report) as part:
            client.retrying(remote.url, functools.partial(part.attempt, client))
            found = part.hash.hexdigest()
        if found == remote.digest:
            atomic.replace_durably(part.path, path)
            part.note.unlink(missing_ok=True)
            return
        report(-remote.bytes)
        part.path.unlink()
        if last:
            raise InputError(
                f"expected {remote.algorithm} {remote.digest} of {remote.name}, got {found} twice; "
                "another file is published under this name, or the connection changes it"
            )


class Part:
    """A file that is being fetched, with its hash so far; a context that opens and closes it."""

    def __init__(self, remote: Remote, path: Path, report: Report) -> None:
        self.remote, self.report = remote, report
        self.path = path.with_name(path.name + PART_SUFFIX)
        self.note = path.with_name(path.name + NOTE_SUFFIX)
        self.bytes = 0
        self.furthest = 0
        self.etag = ""
        self.hash = remote.hasher()
        self.stream: BinaryIO

    def __enter__(self) -> Part:
        """Open the part; one of another file, or without a note, is begun again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_same = self.read_note() and part_bytes(self.path) <= self.remote.bytes
        self.stream = self.path.open("r+b" if is_same else "w+b")
        while block := self.stream.read(CHUNK_BYTES):
            self.hash.update(block)
            self.bytes += len(block)
        self.report(self.bytes)
        self.furthest = self.bytes
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, which may have to write what is left."""
        with atomic.refusals_named(self.path):
            self.stream.close()

    def read_note(self) -> bool:
        """Read which file this is a part of; whether it is this one."""
        try:
            note = json.loads(self.note.read_bytes())
        except (OSError, ValueError):
            return False
        if not isinstance(note, dict) or note.get("digest") != self.remote.digest:
            return False
        self.etag = str(note.get("etag", ""))
        return self.path.exists()

    def restart(self) -> None:
        """Throw away what there is of the file."""
        self.report(-self.bytes)
        self.stream.seek(0)
        self.stream.truncate()
        self.bytes, self.etag, self.hash = 0, "", self.remote.hasher()

    def attempt(self, client: Client) -> None:
        """Fetch what is missing.

        Raises
        ------
        Interrupted
            If it ends early.
        InputError
            If there is nothing to be had, or too much of it.
        """
        if self.bytes == self.remote.bytes:
            return
        headers = {"Range": f"bytes={self.bytes}-"} if self.bytes else {}
        if self.bytes and self.etag:
            headers["If-Range"] = self.etag
        with client.get(self.remote.url, headers) as response:
            if not self.begins_here(response):
                self.restart()
                raise Interrupted("not the part that was asked for")
            if response.status_code == 200 and self.bytes:
                self.restart()
            self.write_note(response)
            try:
                # What has come is written at once: iter_content loses a chunk that is cut short.
                while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                    self.append(chunk)
            except TRANSIENT as error:
                raise Interrupted(reason_of(error), self.is_further()) from error
        if self.bytes < self.remote.bytes:
            said = f"the end after {self.bytes} of {self.remote.bytes} bytes"
            raise Interrupted(said, self.is_further())

    def is_further(self) -> bool:
        """Whether there is more than ever before: a file that begins again may never end."""
        before, self.furthest = self.furthest, max(self.furthest, self.bytes)
        return self.bytes > before

    def begins_here(self, response: requests.Response) -> bool:
        """Whether an answer is the whole file, or goes on where the part ends."""
        if response.status_code != 206:
            return response.status_code == 200
        match = RANGE_PATTERN.fullmatch(response.headers.get("Content-Range", ""))
        if not match or int(match[1]) != self.bytes:
            return False
        return match[2] in ("*", str(self.remote.bytes))

    def write_note(self, response: requests.Response) -> None:
        """Write down which file this is a part of, before there is any of it."""
        etag = response.headers.get("ETag", "")
        # A weak one does not say that the bytes are the same.
        self.etag = "" if etag.startswith("W/") else etag
        if self.remote.bytes <= CHUNK_BYTES:
            return  # small enough to be fetched whole
        note = {"digest": self.remote.digest, "etag": self.etag}
        atomic.write_durably(self.note, json.dumps(note).encode())

    def append(self, chunk: bytes) -> None:
        """Write some more bytes."""
        if self.bytes + len(chunk) > self.remote.bytes:
            self.restart()
            raise InputError(
                f"expected {self.remote.bytes} bytes of {self.remote.name}, got more; "
                "another file is published under this name"
            )
        with atomic.refusals_named(self.path):
            self.stream.write(chunk)
            self.stream.flush()
        self.hash.update(chunk)
        self.bytes += len(chunk)
        self.report(len(chunk))


def part_bytes(path: Path) -> int:
    """Size of a file; 0 without one."""
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def is_right(remote: Remote, path: Path) -> bool:
    """Whether a file has the size and the checksum it should have."""
    if path.stat().st_size != remote.bytes:
        return False
    digest = remote.hasher()
    with path.open("rb") as stream:
        while block := stream.read(CHUNK_BYTES):
            digest.update(block)
    return digest.hexdigest() == remote.digest
