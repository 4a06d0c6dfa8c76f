"""Is a cache still what was written? Every fault is named, and its shard made again if asked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import console, parallel
from pipeline.backends import Workers
from pipeline.cache import build, facts, survey
from pipeline.cache import format as shard_format
from pipeline.cache.facts import ShardFacts
from pipeline.cache.format import Fault
from pipeline.cache.index import INDEX_NAME, Index, read_index
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

CACHE_NAME = "[0-9a-f]" * 16


@dataclass(frozen=True)
class Report:
    """What was found in one cache: the shards that were read, and what is wrong.

    Without a ``spec`` nothing in it says any more what its numbers mean; without an ``index`` that
    one is damaged or missing.
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
    found = [
        folder
        for folder in (root, *sorted(root.glob(CACHE_NAME)))
        if (folder / INDEX_NAME).is_file() or any(folder.glob("actor-*.h5"))
    ]
    if not found:
        state = "no cache" if root.is_dir() else "a file" if root.exists() else "nothing"
        raise InputError(f"expected a cache in {root}, got {state}; run 'make features' first")
    return [root] if found[0] == root else found


def check_cache(folder: Path, workers: Workers | None = None, progress: bool = True) -> Report:
    """Read a whole cache and compare it with its manifests: also shards that no index names."""
    faults, index, shards = [], None, []
    try:
        index = read_index(folder)
    except InputError as error:
        faults.append(Fault(INDEX_NAME, str(error)))
    try:
        spec = index.spec if index else survey.spec_of(folder)
    except InputError:
        return Report(folder, None, None, (), tuple(faults))
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
    faults = [values for of_shard in found for values in of_shard]
    return [Fault(file, reason, row, tuple(clips)) for file, reason, row, clips in faults]


def repair(
    report: Report,
    catalogue: Catalogue,
    workers: Workers | None = None,
    options: build.Options | None = None,
) -> build.Summary:
    """Make the damaged shards of a cache again from the raw folder.

    Parameters
    ----------
    report
        A cache with faults.
    catalogue
        What the raw folder holds: all that the cache's index does, if it has one.
    workers, options
        See :func:`pipeline.cache.build.build`.

    Raises
    ------
    InputError
        If the raw folder lacks a clip of the cache, or has another, or nothing says what the
        cache's numbers mean.
    """
    folder, spec, index = report.folder, report.spec, report.index
    if spec is None or spec.digest != folder.name:
        raise InputError(
            f"expected a folder named by its spec at {folder}, got one that does not state it; "
            "remove the folder and run 'make features' again"
        )
    if index is not None:
        sizes = {path: path.stat().st_size for clip in catalogue.clips for path in clip.sources}
        for source in (source for entry in index.clips for source in entry.sources):
            if sizes.get(catalogue.root / source.path, source.bytes) != source.bytes:
                raise InputError(
                    f"expected the raw files that {folder} was made from, those of {index.root}, "
                    f"got another {source.path} in {catalogue.root}; name that folder, or run "
                    "'make features' with this one first"
                )
        held = {entry.clip for entry in index.entries}
        kept = [clip for clip in catalogue.clips if clip.id in held]
        if missing := sorted(held - {clip.id for clip in kept}):
            raise InputError(
                f"expected every clip of {folder} in {catalogue.root}, got none of "
                f"{len(missing)}, such as {missing[0]}; name the raw folder the cache was made from"
            )
        catalogue = dataclasses.replace(catalogue, clips=kept)
    return build.build(catalogue, folder.parent, spec, workers, options, report.files)
