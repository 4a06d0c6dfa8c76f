"""Why a clip is where it is: for ``make features EXPLAIN=clip``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.backends import Workers
from pipeline.cache import plan as planning
from pipeline.cache import survey, task
from pipeline.cache.facts import ShardFacts
from pipeline.cache.plan import Rules
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec


def explain(catalogue: Catalogue, cache: Path, spec: FeatureSpec, clip_id: str) -> str:
    """Say in words where a clip's rows are, or why the next run makes them.

    Raises
    ------
    InputError
        If the catalogue has no such clip.
    """
    clip = next((clip for clip in catalogue.clips if clip_id in names_of(clip)), None)
    if clip is None:
        raise InputError(
            f"expected a clip of {catalogue.root}, got {clip_id!r}; a clip is named by its take, "
            f"such as {catalogue.clips[0].id}"
        )
    clip_id = clip.id
    folder, wanted = cache / spec.digest, survey.wanted_clips(catalogue)
    known = survey.known_shards(folder, spec)
    states = survey.file_states(catalogue.root, folder, wanted, known, Workers(), False, False)
    plan = planning.plan(wanted, states, known, Rules(task.reader_version()))
    files = ", ".join(next(own.paths for own in wanted if own.id == clip_id))
    lines = [f"{clip_id}: {clip.emotion}, actor {clip.actor}, from {files}"]
    if clip_id in plan.held:
        lines.append(where(clip_id, plan.held[clip_id], known.shards, folder))
    for shard in plan.make:
        if clip_id in shard.clips:
            cause = next(own for own in (clip_id, *shard.clips) if own in plan.reasons)
            lines.append(f"to be made in {shard.file}, because {cause}: {plan.reasons[cause]}")
    return "\n".join(lines)


def names_of(clip: Clip) -> set[str]:
    """Return what people may call a clip: its id, and the names of its files."""
    return {clip.id, *(name for path in clip.sources for name in (path.name, path.stem))}


def where(clip_id: str, file: str, shards: Sequence[ShardFacts], folder: Path) -> str:
    """Say where the rows of a cached clip are, and what made them."""
    shard = next(shard for shard in shards if shard.file == file)
    entry = next(entry for entry in shard.clips if entry.clip == clip_id)
    if entry.reason:
        state = f"could not be read: {entry.reason}"
    else:
        state = f"rows {entry.row} to {entry.row + len(entry.checksums) - 1}"
    versions = ", ".join(f"{name} {version}" for name, version in shard.libraries.items())
    return f"cached in {folder / file}, {state}\nmade {shard.finished} with {versions}"
