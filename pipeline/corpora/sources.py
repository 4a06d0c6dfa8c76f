"""Raw files: where they are, how large they are, what they hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """A raw file as it was when its clip was extracted.

    Parameters
    ----------
    path
        Relative to the raw folder, with forward slashes.
    bytes, sha256
        Size and content.
    modified_ns
        Modification time. A different one alone only makes the content be compared.
    """

    path: str
    bytes: int
    sha256: str
    modified_ns: int


def describe(path: Path, root: Path) -> Source:
    """Record a raw file as it is now.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    state = path.stat()
    return Source(relative_path(path, root), state.st_size, file_sha256(path), state.st_mtime_ns)


def relative_path(path: Path, root: Path) -> str:
    """Path below the raw folder, with forward slashes."""
    return path.relative_to(root).as_posix()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def printable(text: str | Path) -> str:
    r"""Write a path, or text that names one, so that it prints on one line of any terminal.

    Bytes that are not UTF-8, control characters and the like are escaped.

    >>> printable("caf\udce9\n.mp4")
    'caf\\xe9\\n.mp4'
    """
    return "".join(map(escaped, str(text)))


def escaped(character: str) -> str:
    """Escape a character that does not print."""
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":  # a byte that Python could not decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def is_utf8(text: str) -> bool:
    """Whether a file name can be written down: the system may give bytes that are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
