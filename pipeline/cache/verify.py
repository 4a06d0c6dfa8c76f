"""Is a cache still what was written? Every fault is named, and its shard made again if asked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import console, parallel
from pipeline.backends import Workers
from pipeline.cache import build, facts, survey
from pipeline.cache import format as shard_format
from pipeline.cache import plan as planning
from pipeline.cache.facts import ClipEntry, ShardFacts
from pipeline.cache.format import Fault
from pipeline.cache.index import INDEX_NAME, NamedShard, named_shards, read_index
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

CACHE_NAME = "[0-9a-f]" * 16

OTHER_RAW = "name the raw folder it was made from, or run 'make features' with this one first"


@dataclass(frozen=True)
class Report:
    """What was found in one cache: the shards that were read, and what is wrong.

    Without a ``spec`` nothing in it says any more what its numbers mean. ``named`` is what its
    index names, whether the manifests are sound or not; None if the index itself is damaged.
    """

    folder: Path
    spec: FeatureSpec | None
    named: tuple[NamedShard, ...] | None
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
    faults, named, index, shards = [], None, None, []
    try:
        named = tuple(named_shards(folder))
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
    return Report(folder, spec, named, tuple(shards), tuple(faults))


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
        What the raw folder holds: every clip of the cache. No other clip is added.
    workers, options
        See :func:`pipeline.cache.build.build`.

    Raises
    ------
    InputError
        If the raw folder lacks a clip of the cache, or has another, or nothing says what the
        cache's numbers mean.
    """
    folder, spec, root = report.folder, report.spec, catalogue.root
    if spec is None or spec.digest != folder.name:
        raise InputError(
            f"expected a folder named by its spec at {folder}, got one that does not state it; "
            "remove the folder and run 'make features' again"
        )
    copies = copies_of(report)
    refuse_other_files(copies, catalogue, folder)
    held = copies.keys() | clips_by_name(report, catalogue)
    kept = [clip for clip in catalogue.clips if clip.id in held]
    if missing := sorted(held - {clip.id for clip in kept}):
        raise InputError(
            f"expected every clip of {folder} in {root}, got none of {len(missing)}, such as "
            f"{missing[0]}; {OTHER_RAW}"
        )
    catalogue = dataclasses.replace(catalogue, clips=kept)
    return build.build(catalogue, folder.parent, spec, workers, options, report.files)


def counting(report: Report) -> dict[str, frozenset[str]]:
    """Return the shards of a cache that count, each with those of its clips that do not.

    They are those that the index names; without an index, all that have a manifest.
    """
    if report.named is not None:
        return {shard.file: shard.excluded for shard in report.named}
    found = sorted(report.folder.glob(facts.MANIFEST_PATTERN))
    files = [path.with_suffix(facts.SHARD_SUFFIX).name for path in found]
    return {file: frozenset() for file in files if facts.SHARD_PATTERN.fullmatch(file)}


def copies_of(report: Report) -> dict[str, list[ClipEntry]]:
    """Return the copies of each clip that count, as far as the manifests can be read."""
    excluded = counting(report)
    copies: dict[str, list[ClipEntry]] = {}
    for shard in report.shards:
        for entry in shard.clips if shard.file in excluded else ():
            if entry.clip not in excluded[shard.file]:
                copies.setdefault(entry.clip, []).append(entry)
    return copies


def clips_by_name(report: Report, catalogue: Catalogue) -> set[str]:
    """Return the clips of the shards whose manifests cannot be read: its clips name a shard.

    Raises
    ------
    InputError
        If no clips of the raw folder give a shard its name.
    """
    # A clip that was tried again has a shard of its own.
    alone = [(clip.actor, (clip.id,)) for clip in catalogue.clips]
    groups = [*alone, *planning.group(catalogue.clips)]
    by_name = {planning.shard_name(actor, ids): ids for actor, ids in groups}
    readable = {shard.file for shard in report.shards}
    held: set[str] = set()
    for file, excluded in counting(report).items():
        if file not in readable:
            name, _ = planning.split_name(file)
            if name not in by_name:
                raise InputError(
                    f"expected the clips of {file}, whose manifest is damaged, in "
                    f"{catalogue.root}, got others; {OTHER_RAW}"
                )
            held |= set(by_name[name]) - excluded
    return held


def refuse_other_files(
    copies: Mapping[str, Sequence[ClipEntry]], catalogue: Catalogue, folder: Path
) -> None:
    """Raise if the raw files of a clip have other sizes than those of all its copies."""
    root = catalogue.root
    sizes = {path: path.stat().st_size for clip in catalogue.clips for path in clip.sources}
    for entries in copies.values():
        others = []
        for entry in (entry for entry in entries if not entry.reason):
            differing = (
                source.path
                for source in entry.sources
                if sizes.get(root / source.path, source.bytes) != source.bytes
            )
            others.append(next(differing, None))
        if others and all(others):
            raise InputError(
                f"expected the raw files that {folder} was made from, got another {others[0]} in "
                f"{root}; {OTHER_RAW}"
            )
