"""Damaged shards made again from the raw folder."""

from __future__ import annotations

import dataclasses

from pipeline.backends import Workers
from pipeline.cache import build
from pipeline.cache.verify import Report
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError


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
        If the raw folder lacks a clip of the cache, or nothing says what the cache's numbers mean.
    """
    if report.spec is None or report.spec.digest != report.folder.name:
        raise InputError(
            f"expected a folder named by its spec at {report.folder}, got one that does not state "
            "it; remove the folder and run 'make features' again"
        )
    if report.index is not None:
        sizes = {path: path.stat().st_size for clip in catalogue.clips for path in clip.sources}
        recorded = (source for entry in report.index.clips for source in entry.sources)
        for source in recorded:
            if sizes.get(catalogue.root / source.path, source.bytes) != source.bytes:
                raise InputError(
                    f"expected the raw files that {report.folder} was made from, those of "
                    f"{report.index.root}, got another {source.path} in {catalogue.root}; name "
                    "that folder, or run 'make features' with this one first"
                )
        held = {entry.clip for entry in report.index.entries}
        kept = [clip for clip in catalogue.clips if clip.id in held]
        if missing := sorted(held - {clip.id for clip in kept}):
            raise InputError(
                f"expected every clip of {report.folder} in {catalogue.root}, got none of "
                f"{len(missing)}, such as {missing[0]}; name the raw folder the cache was made from"
            )
        catalogue = dataclasses.replace(catalogue, clips=kept)
    return build.build(catalogue, report.folder.parent, report.spec, workers, options, report.files)
