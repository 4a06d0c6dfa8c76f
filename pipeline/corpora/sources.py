"""Raw files as the index knows them: where they lie, how large they are, what they hold."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.cache.entries import Source

HASH_BLOCK_BYTES = 1 << 20


def describe(path: Path, root: Path) -> Source:
    """Record a raw file as it is now."""
    state = path.stat()
    return Source(relative_path(path, root), state.st_size, file_sha256(path), state.st_mtime_ns)


def relative_path(path: Path, root: Path) -> str:
    """Path below the raw folder, the same on every system."""
    return path.relative_to(root).as_posix()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
