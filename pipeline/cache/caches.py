"""The caches of a folder: how large and old they are, what they mean, which models need them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic
from pipeline.atomic import PARTIAL_SUFFIX
from pipeline.cache import lock, survey
from pipeline.cache.facts import PARSING
from pipeline.cache.index import INDEX_NAME
from pipeline.cache.verify import CACHE_NAME
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

MODEL_NAME = "model.json"

OWN_FILES = ("actor-*.h5", "actor-*.json", INDEX_NAME, f"*{PARTIAL_SUFFIX}", "*.lock", ".lock*")
"""What a run leaves in a cache folder, of this version or of an older one."""


@dataclass(frozen=True)
class CacheInfo:
    """A cache as it is listed: its folder, size, and time since anything in it changed.

    ``meaning`` says how its spec differs from the default one, ``models`` are the descriptions of
    models that were trained on it.
    """

    path: Path
    bytes: int
    age_seconds: float
    meaning: str
    models: tuple[Path, ...]


def list_caches(root: Path, models: Sequence[Path]) -> list[CacheInfo]:
    """List the caches of a folder, sorted by name, with the models below others that need them.

    A folder counts as a cache if it is named by a digest and a file in it states the spec of that
    digest; anything else is left alone.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    if not root.is_dir():
        raise InputError(f"expected a folder of caches at {root}, got nothing; name another")
    digests = {path: digest_of_model(path) for path in model_files(models)}
    found = []
    for folder in sorted(root.glob(CACHE_NAME)):
        settings = None if folder.is_symlink() else survey.stated_settings(folder)
        if settings is not None:
            states = [path.stat() for path in own_files(folder)]
            age = time.time() - max(state.st_mtime for state in states)
            size = sum(state.st_size for state in states)
            needed_by = tuple(path for path, digest in digests.items() if digest == folder.name)
            found.append(CacheInfo(folder, size, age, difference(settings), needed_by))
    return found


def model_files(roots: Sequence[Path]) -> Iterator[Path]:
    """Yield every model's description below some folders; caches and raw folders are skipped.

    Links are followed, and a folder is entered once.
    """
    entered: set[str] = set()
    for root in roots:
        for folder, subfolders, names in os.walk(root, followlinks=True):
            real = os.path.realpath(folder)
            known = real in entered
            entered.add(real)
            subfolders[:] = [] if known else sorted(set(subfolders) - {"raw", "cache"})
            if MODEL_NAME in names and not known:
                yield Path(folder, MODEL_NAME)


def digest_of_model(path: Path) -> str | None:
    """Return the digest of the cache that a model names; None if it cannot be read."""
    try:
        return str(json.loads(path.read_bytes())["spec_digest"])
    except (OSError, *PARSING):
        return None


def difference(settings: dict) -> str:
    """Say in which fields settings differ from the default spec's."""
    default = json.loads(FeatureSpec().to_json())
    changed = [f"{name} {value}" for name, value in settings.items() if value != default.get(name)]
    missing = [f"no {name}" for name in default if name not in settings]
    return ", ".join(changed + missing) or "the default spec"


def own_files(folder: Path) -> list[Path]:
    """Files of a cache that this code wrote, and folders of killed runs, the index first."""
    found = {
        path
        for pattern in OWN_FILES
        for path in folder.glob(pattern)
        if path.is_file() or (path.is_dir() and path.suffix == PARTIAL_SUFFIX)
    }
    return sorted(found, key=lambda path: (path.name != INDEX_NAME, path.name))


def remove(cache: CacheInfo, despite_models: bool = False) -> bool:
    """Remove a cache, one that models name only despite them; say whether nothing of it is left.

    Only files that this code wrote are removed, the index first: what is left of an interrupted
    removal does not pass for a finished cache.

    Raises
    ------
    InputError
        If a model names it, or another run is at it.
    """
    if cache.models and not despite_models:
        raise InputError(
            f"expected a cache that no model needs, got {cache.path.name}, which "
            f"{cache.models[0]} was trained on; say --despite-models to remove it all the same"
        )
    with lock.all_held(cache.path):
        for path in own_files(cache.path):
            atomic.remove(path)
    # The locks themselves, which were held up to here.
    for path in own_files(cache.path):
        atomic.remove(path)
    if any(cache.path.iterdir()):
        return False
    cache.path.rmdir()
    return True
