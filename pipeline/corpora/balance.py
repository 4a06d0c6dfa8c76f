"""How many clips each actor has of each emotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.clip import Clip
from pipeline.corpora.sources import printable
from pipeline.spec import EMOTIONS

if TYPE_CHECKING:
    from pipeline.cache.facts import ClipEntry


def count_clips(clips: Sequence[Clip | ClipEntry]) -> tuple[list[int], NDArray[np.int64]]:
    """Count clips by actor and emotion.

    Returns
    -------
    actors : list of int
        Numbers of those who have clips, sorted.
    counts : ndarray
        int64 (actors, 8); the columns are :data:`pipeline.spec.EMOTIONS`.
    """
    actors = sorted({clip.actor for clip in clips})
    row = {actor: place for place, actor in enumerate(actors)}
    counts = np.zeros((len(actors), len(EMOTIONS)), np.int64)
    for clip in clips:
        counts[row[clip.actor], clip.label] += 1
    return actors, counts


def table(clips: Sequence[Clip], names: Mapping[int, str]) -> list[str]:
    """Write the counts as lines: a header, one for each actor, and one for all.

    Parameters
    ----------
    clips
        At least one.
    names
        Names of numbered actors, shown behind their rows.
    """
    actors, counts = count_clips(clips)
    held = {actor: [0, 0] for actor in actors}
    for clip in clips:
        held[clip.actor][0] += clip.video is not None
        held[clip.actor][1] += clip.audio is not None
    rows = [
        (str(actor), [*row.tolist(), int(row.sum()), *held[actor]], names.get(actor, ""))
        for actor, row in zip(actors, counts, strict=True)
    ]
    rows.append(("all", np.sum([numbers for _, numbers, _ in rows], axis=0).tolist(), ""))
    columns = (*EMOTIONS, "all", "video", "audio")
    width = max(map(len, EMOTIONS))
    return ["actor  " + " ".join(f"{name:>{width}}" for name in columns)] + [
        f"{first:>5}  {' '.join(f'{n:>{width}}' for n in numbers)}  {printable(name)}".rstrip()
        for first, numbers, name in rows
    ]


def imbalance(clips: Sequence[Clip | ClipEntry]) -> str:
    """Say in a few words how unequal the classes are.

    Returns
    -------
    str
        The rarest and the most frequent emotion of those that occur, and those that are absent.
    """
    totals = dict(zip(EMOTIONS, count_clips(clips)[1].sum(axis=0).tolist(), strict=True))
    present = [name for name in EMOTIONS if totals[name]]
    rarest, commonest = (choose(present, key=totals.__getitem__) for choose in (min, max))
    ratio = totals[commonest] / totals[rarest]
    absent = [name for name in EMOTIONS if not totals[name]]
    said = f"{commonest} has {totals[commonest]} clips, {rarest} {totals[rarest]} ({ratio:.1f} : 1)"
    return f"{said}; without {', '.join(absent)}" if absent else said
