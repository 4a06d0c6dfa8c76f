"""What the plan decides on: the shards that are there, and the raw files as they are now."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Collection
from pathlib import Path

from pipeline import console, parallel
from pipeline.backends import Workers
from pipeline.cache import facts, index
from pipeline.cache import plan as planning
from pipeline.cache.facts import ShardFacts
from pipeline.cache.plan import UNREADABLE, FileState, Known, WantedClip
from pipeline.corpora import sources
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec, digest_of

log = logging.getLogger(__name__)


def look(
    catalogue: Catalogue,
    folder: Path,
    spec: FeatureSpec,
    workers: Workers,
    damaged: Collection[str] = (),
    check_content: bool = False,
    progress: bool = True,
) -> tuple[list[WantedClip], dict[str, FileState], Known]:
    """Look at a raw folder and a cache, and return what :func:`pipeline.cache.plan.plan` asks for.

    Workers hash the raw files whose time stamp moved, or all that are cached (``check_content``).
    Shards that are ``damaged`` count as missing.

    Raises
    ------
    InputError
        If a raw file is gone.
    """
    root = catalogue.root
    wanted = [
        WantedClip(
            clip.id,
            clip.actor,
            clip.emotion,
            tuple(sources.relative_path(path, root) for path in clip.sources),
        )
        for clip in catalogue.clips
    ]
    known = known_shards(folder, spec, damaged)
    states = {path: file_state(root / path) for clip in wanted for path in clip.paths}
    if paths := planning.to_hash(wanted, states, known, check_content):
        log.info("%d raw files are hashed", len(paths))
        files = [root / path for path in paths]
        with console.bar(total=len(paths), desc="hash", unit="file", disable=not progress) as bar:
            hashes = parallel.collect(sha256_or_none, files, workers, bar, folder)
        for path, sha256 in zip(paths, hashes, strict=True):
            states[path] = dataclasses.replace(states[path], sha256=sha256 or UNREADABLE)
    return wanted, states, known


def sha256_or_none(path: Path) -> str | None:
    """Hash a raw file: a task. None where it cannot be read: extracting its clip says why."""
    try:
        return sources.file_sha256(path)
    except OSError:
        return None


def file_state(path: Path) -> FileState:
    """Ask the system for size and modification time of a raw file."""
    try:
        state = path.stat()
    except OSError as error:
        raise InputError(
            f"expected a file at {path}, got: {error.strerror}; put it back, or run again "
            "without it"
        ) from error
    return FileState(state.st_size, state.st_mtime_ns)


def known_shards(folder: Path, spec: FeatureSpec, damaged: Collection[str] = ()) -> Known:
    """Read the manifest of every shard of a folder that is whole, as far as its size says."""
    paths = sorted(folder.glob(facts.MANIFEST_PATTERN))
    found = (whole_shard(path, spec, damaged) for path in paths)
    shards = [shard for shard in found if shard is not None]
    try:
        return Known(shards, index.times_of(facts.read_sealed(folder / index.INDEX_NAME, "")))
    except (InputError, *facts.PARSING):
        return Known(shards)


def whole_shard(
    manifest: Path, spec: FeatureSpec, damaged: Collection[str] = ()
) -> ShardFacts | None:
    """Read the manifest of a shard; None where it or its shard is damaged."""
    try:
        shard = facts.read_manifest(manifest, spec)
    except InputError as error:
        log.warning("%s does not count: %s", manifest.name, error)
        return None
    path = manifest.with_name(shard.file)
    size = path.stat().st_size if shard.rows and path.is_file() else 0
    if shard.file in damaged or size != shard.bytes:
        log.info("%s does not count: it is damaged or missing", shard.file)
        return None
    return shard


def stated_settings(folder: Path) -> dict | None:
    """Return the settings whose digest names a cache folder; None if no file of it states them.

    They may be those of another version, whose caches nothing else here can read.
    """
    for path in (folder / index.INDEX_NAME, *sorted(folder.glob(facts.MANIFEST_PATTERN))):
        try:
            settings = json.loads(path.read_bytes())["spec"]
        except (OSError, *facts.PARSING):
            continue
        if isinstance(settings, dict) and digest_of(settings) == folder.name:
            return settings
    return None


def spec_of(folder: Path) -> FeatureSpec:
    """Return the spec of a cache folder, as its index or a manifest states it.

    Raises
    ------
    InputError
        If nothing there states the spec that the folder is named by.
    """
    try:
        return FeatureSpec.from_json(json.dumps(stated_settings(folder)))
    except ValueError as error:
        raise InputError(
            f"expected a cache of this version at {folder}, got none that states its spec; "
            "'make prune' lists caches of other versions, 'make features' makes one of this"
        ) from error
