"""What the plan decides on: the shards that are there, and the raw files as they are now."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline import console, parallel
from pipeline.backends import Workers
from pipeline.cache import facts
from pipeline.cache import format as shard_format
from pipeline.cache import plan as planning
from pipeline.cache.facts import ShardFacts
from pipeline.cache.index import INDEX_NAME, read_content
from pipeline.cache.plan import FileState, Known, WantedClip
from pipeline.corpora import sources
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec

log = logging.getLogger(__name__)


def wanted_clips(catalogue: Catalogue) -> list[WantedClip]:
    """Describe the clips of a catalogue for the plan."""
    return [
        WantedClip(
            clip.id,
            clip.actor,
            clip.emotion,
            tuple(sources.relative_path(path, catalogue.root) for path in clip.sources),
        )
        for clip in catalogue.clips
    ]


def known_shards(folder: Path, spec: FeatureSpec, distrusted: Collection[str] = ()) -> Known:
    """Read the manifest of every shard of a folder that is whole, as far as its size says."""
    paths = sorted(folder.glob(f"actor-*{facts.MANIFEST_SUFFIX}"))
    found = (whole_shard(path, spec, distrusted) for path in paths)
    shards = [shard for shard in found if shard is not None]
    try:
        index = read_content(folder / INDEX_NAME)
    except InputError:
        return Known(shards)
    # Clips of each named shard that do not count.
    excluded = index["named"]
    named = {
        clip.clip: shard.file
        for shard in shards
        for clip in shard.clips
        if shard.file in excluded and clip.clip not in excluded[shard.file]
    }
    return Known(shards, index["modified_ns"], named)


def whole_shard(
    manifest: Path, spec: FeatureSpec, distrusted: Collection[str] = ()
) -> ShardFacts | None:
    """Read the manifest of a shard; None where it or its shard is damaged."""
    try:
        shard = facts.read_manifest(manifest, spec)
    except InputError as error:
        log.warning("%s does not count: %s", manifest.name, error)
        return None
    if shard.file in distrusted or not shard_format.has_file(manifest.parent, shard):
        log.info("%s does not count: it is damaged or missing", shard.file)
        return None
    return shard


def file_states(
    root: Path,
    folder: Path,
    wanted: Sequence[WantedClip],
    known: Known,
    workers: Workers,
    check_content: bool,
    progress: bool,
) -> dict[str, FileState]:
    """Look at the raw files of some clips; those whose time stamp moved are hashed, side by side.

    Parameters
    ----------
    root, folder
        The raw folder, and the cache.
    wanted, known
        See :func:`pipeline.cache.plan.plan`.
    workers
        Who hashes.
    check_content
        Whether to hash every file that is cached.
    progress
        Whether to show a bar.

    Returns
    -------
    dict of str to FileState
        By path.

    Raises
    ------
    InputError
        If a file is gone.
    """
    states = {}
    for path in (path for clip in wanted for path in clip.paths):
        try:
            state = (root / path).stat()
        except OSError as error:
            raise InputError(
                f"expected a file at {root / path}, got: {error.strerror}; "
                "put it back, or run again without it"
            ) from error
        states[path] = FileState(state.st_size, state.st_mtime_ns)
    paths = planning.to_hash(wanted, states, known, check_content)
    if paths:
        log.info("%d raw files are hashed", len(paths))
        files = [root / path for path in paths]
        with console.bar(total=len(paths), desc="hash", unit="file", disable=not progress) as bar:
            hashes = parallel.collect(sources.file_sha256, files, workers, bar, folder)
        for path, sha256 in zip(paths, hashes, strict=True):
            states[path] = dataclasses.replace(states[path], sha256=sha256)
    return states


def spec_of(folder: Path) -> FeatureSpec:
    """Return the spec of a cache folder, as its index or a manifest states it.

    Raises
    ------
    InputError
        If nothing there states the spec that the folder is named by.
    """
    for path in (folder / INDEX_NAME, *sorted(folder.glob(f"actor-*{facts.MANIFEST_SUFFIX}"))):
        spec = facts.stated_spec(path)
        if spec is not None and spec.digest == folder.name:
            return spec
    raise InputError(
        f"expected a cache of this version at {folder}, got none that states its spec; "
        "'make prune' lists caches of other versions, 'make features' makes one of this"
    )
