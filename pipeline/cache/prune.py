"""Caches that nothing names any more, and files that no run will finish. Lists and removes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.atomic import PARTIAL_SUFFIX
from pipeline.cache import contents, lock
from pipeline.cache.index import INDEX_NAME
from pipeline.cache.verify import CACHE_NAME
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec, digest_of

DESCRIPTION_NAMES = ("model.json", "*/model.json", "*/*/model.json")
"""Where models below a folder describe themselves: its own, and those of cross-validated folds."""

OWN_FILES = ("*.h5", INDEX_NAME, f"*{PARTIAL_SUFFIX}", "*.lock")
STILL_WRITTEN_SECONDS = 3600.0
"""A partial file changed more recently may belong to a run that is going on."""


@dataclass(frozen=True)
class Stray:
    """Something in a folder of caches that nothing needs.

    Parameters
    ----------
    path
        A cache, or a partial file.
    bytes
        Size of what would be removed.
    age_seconds
        Since anything in it changed.
    meaning
        What it is, in words.
    """

    path: Path
    bytes: int
    age_seconds: float
    meaning: str


def named_digests(models: Sequence[Path]) -> set[str]:
    """Digests of caches that something names: the two recipes, and every model.

    Parameters
    ----------
    models
        Folders of models; one that is missing names nothing.

    Raises
    ------
    InputError
        If a model's description cannot be read: it might name any cache.
    """
    digests = {FeatureSpec().digest, FeatureSpec.as_published().digest}
    for folder in models:
        for pattern in DESCRIPTION_NAMES:
            for path in sorted(folder.glob(pattern)):
                digests.add(digest_of_model(path))
    return digests


def digest_of_model(path: Path) -> str:
    """Return the digest of the cache that a ``model.json`` names."""
    try:
        digest = json.loads(path.read_text(encoding="utf-8"))["spec_digest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"expected a model that names its cache in {path}, got: {error}; "
            "repair or remove it first, it might name any cache"
        ) from error
    return str(digest)


def find_strays(cache: Path, models: Sequence[Path]) -> list[Stray]:
    """List what nothing needs in a folder of caches, sorted by name.

    A folder counts as a cache if it is named by a digest and its index or a shard says the same
    digest; anything else is left alone.

    Parameters
    ----------
    cache
        Folder of caches.
    models
        Folders of models that still need theirs.

    Returns
    -------
    list of Stray

    Raises
    ------
    InputError
        If there is no such folder, or a model cannot say which cache it names.
    """
    if not cache.is_dir():
        raise InputError(f"expected a folder of caches at {cache}, got nothing; name another")
    named = named_digests(models)
    strays = []
    for folder in sorted(cache.glob(CACHE_NAME)):
        if folder.is_symlink() or not folder.is_dir():
            continue
        settings = settings_of_cache(folder)
        if settings is not None and folder.name not in named:
            strays.append(stray(folder, own_files(folder), difference(settings)))
            continue
        for path in sorted(folder.glob(f"*{PARTIAL_SUFFIX}")):
            if path.is_file():
                strays.append(stray(path, [path], "part of an unfinished file"))
    return [
        found
        for found in strays
        if found.path.is_dir() or found.age_seconds > STILL_WRITTEN_SECONDS
    ]


def own_files(folder: Path) -> list[Path]:
    """Files of a cache that this code wrote."""
    return sorted({path for pattern in OWN_FILES for path in folder.glob(pattern)})


def stray(path: Path, files: Sequence[Path], meaning: str) -> Stray:
    """Measure what would be removed."""
    states = [file.stat() for file in files]
    changed = max(state.st_mtime for state in states)
    return Stray(path, sum(state.st_size for state in states), time.time() - changed, meaning)


def settings_of_cache(folder: Path) -> dict | None:
    """Return the settings whose digest names a folder; None if no file of it holds them.

    They may be those of another version of this code, whose caches nothing else here can read.
    """
    for settings in written_settings(folder):
        if isinstance(settings, dict) and digest_of(settings) == folder.name:
            return settings
    return None


def written_settings(folder: Path) -> Iterator[object]:
    """Yield what each file of a cache that can be read holds as its spec, the index first."""
    for path in (folder / INDEX_NAME, *sorted(folder.glob("*.h5"))):
        try:
            if path.name == INDEX_NAME:
                settings = json.loads(path.read_text(encoding="utf-8"))["spec"]
            else:
                with contents.open_shard(path) as file:
                    settings = json.loads(str(file.attrs["spec"]))
        except (InputError, *contents.DAMAGE_ERRORS):
            continue
        yield settings


def difference(settings: dict) -> str:
    """Say in which fields settings differ from the default spec's."""
    default = json.loads(FeatureSpec().to_json())
    changed = [f"{name} {value}" for name, value in settings.items() if value != default.get(name)]
    missing = [f"no {name}" for name in default if name not in settings]
    return ", ".join(changed + missing)


def remove(found: Stray) -> bool:
    """Remove a cache or a file; say whether nothing of it is left.

    Of a cache only the files that this code wrote are removed, the index first: what is left of an
    interrupted removal does not pass for a complete cache.

    Raises
    ------
    InputError
        If another run is at the cache.
    """
    if not found.path.is_dir():
        found.path.unlink(missing_ok=True)
        return True
    with lock.held(found.path, wait=False):
        (found.path / INDEX_NAME).unlink(missing_ok=True)
        for path in own_files(found.path):
            path.unlink(missing_ok=True)
    if any(found.path.iterdir()):
        return False
    found.path.rmdir()
    return True
