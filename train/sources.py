"""Which code a result is of: a result of other code is not taken for one of this."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DECIDING = ("train/**/*.py", "pipeline/spec.py")
"""What decides the result of a training on a given cache; the cache itself tells what made it."""


@functools.cache
def digest(root: Path = ROOT) -> str:
    """SHA-256 of the sources that decide results, in hexadecimal."""
    found = hashlib.sha256()
    for pattern in DECIDING:
        for path in sorted(root.glob(pattern)):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return found.hexdigest()
