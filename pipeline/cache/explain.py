"""Why a clip is where it is: for ``make features EXPLAIN=clip``."""

from __future__ import annotations

from pathlib import Path

from pipeline.backends import Workers
from pipeline.cache import plan as planning
from pipeline.cache import survey, task
from pipeline.cache.build import Options
from pipeline.corpora.clip import Catalogue
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec


def explain(
    catalogue: Catalogue,
    cache: Path,
    spec: FeatureSpec,
    name: str,
    options: Options | None = None,
) -> str:
    """Say in words where a clip's rows are, or why the next run makes them.

    Parameters
    ----------
    catalogue, cache, spec
        See :func:`pipeline.cache.build.build`.
    name
        Of the clip, or of one of its files.
    options
        Of the run that is asked about: what counts as fresh depends on them.

    Raises
    ------
    InputError
        If the catalogue has no such clip.
    """
    for clip in catalogue.clips:
        if name in (clip.id, *(part for path in clip.sources for part in (path.name, path.stem))):
            break
    else:
        raise InputError(
            f"expected a clip of {catalogue.root}, got {name!r}; a clip is named by its take, "
            f"such as {catalogue.clips[0].id}"
        )
    folder = cache / spec.digest
    options = options or Options()
    wanted, states, known = survey.look(
        catalogue, folder, spec, Workers(), (), options.check_content, progress=False
    )
    plan = planning.plan(
        wanted, states, known, task.reader_version(), options.retry_bad, options.only_wanted
    )
    files = ", ".join(next(own.paths for own in wanted if own.id == clip.id))
    lines = [f"{clip.id}: {clip.emotion}, actor {clip.actor}, from {files}"]
    if entry := plan.held.get(clip.id):
        rows = f"rows {entry.row} to {(entry.row or 0) + len(entry.checksums) - 1}"
        state = f"could not be read: {entry.reason}" if entry.reason else rows
        shard = next(shard for shard in known.shards if shard.file == entry.shard)
        versions = ", ".join(f"{name} {version}" for name, version in shard.libraries.items())
        lines.append(f"cached in {folder / shard.file}, {state}")
        lines.append(f"made {shard.finished} with {versions}")
    for made in plan.make:
        if clip.id in made.clips:
            cause = next(own for own in (clip.id, *made.clips) if own in plan.reasons)
            lines.append(f"to be made in {made.file}, because {cause}: {plan.reasons[cause]}")
    return "\n".join(lines)
