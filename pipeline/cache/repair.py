"""Which clips of a damaged cache to do without, and which to make again. Decides only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.cache.index import Index
from pipeline.cache.verify import Fault, Report
from pipeline.corpora.catalogue import Catalog
from pipeline.errors import InputError


def leave_out(index: Index, faults: Sequence[Fault]) -> Index:
    """Return an index without the clips that faults damage, and without shards left empty."""
    lost = {clip for fault in faults for clip in fault.clips}
    clips = tuple(clip for clip in index.clips if clip.clip not in lost)
    left = {clip.shard for clip in clips}
    shards = tuple(shard for shard in index.shards if shard.file in left)
    return dataclasses.replace(index, shards=shards, clips=clips)


def to_repair(report: Report, catalog: Catalog) -> Catalog:
    """Choose the clips a repaired cache holds: those it held, no others and none less.

    Parameters
    ----------
    report
        A cache with faults.
    catalog
        What the raw folder holds.

    Returns
    -------
    Catalog
        Everything where no index says what the cache held.

    Raises
    ------
    InputError
        If the raw folder lacks a clip of the cache, or nothing says what the cache's numbers mean.
    """
    if report.spec is None or report.spec.digest != report.folder.name:
        raise InputError(
            f"expected a folder named by its spec, or a shard that names it, at {report.folder}, "
            "got neither; remove the folder and run 'make features' again"
        )
    if report.index is None:
        return catalog
    held = {entry.clip for entry in report.index.clips}
    kept = [clip for clip in catalog.clips if clip.id in held]
    if missing := sorted(held - {clip.id for clip in kept}):
        raise InputError(
            f"expected every clip of {report.folder} in {catalog.root}, got none of "
            f"{len(missing)}, such as {missing[0]}; name the raw folder the cache was made from"
        )
    return dataclasses.replace(catalog, clips=kept)
