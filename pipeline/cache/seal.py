"""The first bytes of a shard: a seal on its structure, broken by any damage outside the tensors.

HDF5 may crash or never return on a file whose structure is damaged, so a shard is handed to it
only under an unbroken seal. The seal lies in the file's user block, which HDF5 leaves to others.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pipeline.cache.index import FORMAT_VERSION
from pipeline.errors import InputError

SEAL_BYTES = 512
"""Size of the user block, the smallest that HDF5 allows."""

MAKE_AGAIN = "run 'make features' again, it makes the shard anew"


def write_seal(path: Path, start: int, end: int) -> None:
    """Seal a closed shard whose tensors lie from byte ``start`` to byte ``end``."""
    content = {
        "format_version": FORMAT_VERSION,
        "tensors": [start, end],
        "sha256": structure_sha256(path, start, end),
    }
    with path.open("r+b") as file:
        file.write(json.dumps(content).encode().ljust(SEAL_BYTES, b"\n"))


def structure_sha256(path: Path, start: int, end: int) -> str:
    """SHA-256 of all bytes after the seal that are not tensors, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(SEAL_BYTES)
        digest.update(file.read(start - SEAL_BYTES))
        file.seek(end)
        digest.update(file.read())
    return digest.hexdigest()


def check_seal(path: Path) -> None:
    """Refuse a shard that HDF5 should not see.

    Raises
    ------
    InputError
        If it is missing, not sealed, of another format version, or damaged outside its tensors.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(SEAL_BYTES))
        version, (start, end) = content["format_version"], map(int, content["tensors"])
    except FileNotFoundError as error:
        raise InputError(
            f"expected a shard at {path}, got nothing; run 'make features' again"
        ) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"expected a sealed shard of format {FORMAT_VERSION} at {path}, got another file; "
            f"{MAKE_AGAIN}"
        ) from error
    if version != FORMAT_VERSION:
        raise InputError(
            f"expected shard format {FORMAT_VERSION} in {path}, got {version}; {MAKE_AGAIN}"
        )
    if not SEAL_BYTES < start < end <= path.stat().st_size:
        raise InputError(f"expected a whole shard at {path}, got a part of one; {MAKE_AGAIN}")
    if content.get("sha256") != structure_sha256(path, start, end):
        raise InputError(
            f"expected the structure of {path} as it was written, got other bytes; {MAKE_AGAIN}"
        )
