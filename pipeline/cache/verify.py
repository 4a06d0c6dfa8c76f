"""Is a cache still what was written? Reads all of it, names every fault; changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import console, parallel
from pipeline.backends import Workers
from pipeline.cache import facts, survey
from pipeline.cache import format as shard_format
from pipeline.cache.facts import ShardFacts
from pipeline.cache.format import Fault
from pipeline.cache.index import INDEX_NAME, Index, read_index
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

CACHE_NAME = "[0-9a-f]" * 16


@dataclass(frozen=True)
class Report:
    """What was found in one cache.

    Parameters
    ----------
    folder
        The cache.
    spec
        What its numbers mean; None if nothing in it says so any more.
    index
        Its index; None if that is damaged or missing.
    shards
        What was read.
    faults
        What is wrong with it.
    """

    folder: Path
    spec: FeatureSpec | None
    index: Index | None
    shards: tuple[ShardFacts, ...]
    faults: tuple[Fault, ...]

    @property
    def files(self) -> frozenset[str]:
        """Names of the files with a fault."""
        return frozenset(fault.file for fault in self.faults)

    @property
    def rows(self) -> int:
        """How many rows were read."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """How much was read."""
        return sum(shard.bytes for shard in self.shards)


def caches(root: Path) -> list[Path]:
    """Folders of the caches that a path means: itself, or all those in it.

    Raises
    ------
    InputError
        If there is none.
    """
    if is_cache(root):
        return [root]
    found = [folder for folder in sorted(root.glob(CACHE_NAME)) if is_cache(folder)]
    if not found:
        state = "no cache" if root.is_dir() else "a file" if root.exists() else "nothing"
        raise InputError(f"expected a cache in {root}, got {state}; run 'make features' first")
    return found


def is_cache(folder: Path) -> bool:
    """Whether a folder holds an index or a shard."""
    return (folder / INDEX_NAME).is_file() or any(folder.glob(f"actor-*{facts.SHARD_SUFFIX}"))


def check_cache(folder: Path, workers: Workers | None = None, progress: bool = True) -> Report:
    """Read a whole cache and compare it with its manifests: also shards that no index names.

    Parameters
    ----------
    folder
        The cache.
    workers
        Who reads.
    progress
        Whether to show a bar.

    Returns
    -------
    Report
    """
    faults: list[Fault] = []
    index = None
    try:
        index = read_index(folder)
        spec = index.spec
    except InputError as error:
        faults.append(Fault(INDEX_NAME, str(error)))
        try:
            spec = survey.spec_of(folder)
        except InputError:
            return Report(folder, None, None, (), tuple(faults))
    shards = []
    for path in sorted(folder.glob(facts.MANIFEST_PATTERN)):
        try:
            shards.append(facts.read_manifest(path, spec))
        except InputError as error:
            faults.append(Fault(path.name, str(error)))
    faults += check_shards(folder, shards, spec, workers, progress)
    return Report(folder, spec, index, tuple(shards), tuple(faults))


def check_shards(
    folder: Path,
    shards: Sequence[ShardFacts],
    spec: FeatureSpec,
    workers: Workers | None = None,
    progress: bool = True,
) -> list[Fault]:
    """Read shards from the first byte to the last, side by side."""
    work = functools.partial(shard_format.check_shard, folder.resolve(), spec=spec)
    with console.bar(total=len(shards), desc="verify", unit="shard", disable=not progress) as bar:
        found = parallel.collect(work, shards, workers or Workers(), bar, folder)
    return [
        Fault(file, reason, row, tuple(clips))
        for faults in found
        for file, reason, row, clips in faults
    ]
