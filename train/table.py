"""The table of cached rows: whose they are, what they show, and where they lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import checksums
from pipeline.cache.index import Index
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec
from train import protocol


@dataclass(frozen=True)
class Rows:
    """A table of cached rows: where each one lies and what it is.

    Parameters
    ----------
    spec
        Shapes of the tensors.
    shards
        Files the rows lie in.
    offsets
        Bytes before the MFCCs and before the frames of each file.
    shard, row
        Place of each row: number in ``shards`` and position in the file.
    label, actor
        Index of its emotion, and its person.
    clip, variant
        Where it came from.
    face_found
        Whether its window shows a face.
    identity, checksum
        CRC-32 of what each row is, and of the whole row, see
        :func:`pipeline.cache.checksums.of_row`.
    rest
        The same people at rest, to read these rows against; None knows nothing of them.
    """

    spec: FeatureSpec
    shards: tuple[Path, ...]
    offsets: tuple[tuple[int, int], ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    actor: NDArray[np.int64]
    clip: NDArray[np.str_]
    variant: NDArray[np.str_]
    face_found: NDArray[np.bool_]
    identity: NDArray[np.int64]
    checksum: NDArray[np.int64]
    rest: AtRest | None = None

    def __len__(self) -> int:
        return len(self.row)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the rows where ``chosen``, shape (rows,), is true."""
        return self.take(np.flatnonzero(chosen))

    def take(self, numbers: NDArray[np.int64]) -> Rows:
        """Return the rows of some numbers, in their order; one may come several times."""
        columns = (
            column.name
            for column in dataclasses.fields(self)
            if column.name not in ("spec", "shards", "offsets", "rest")
        )
        taken = {name: getattr(self, name)[numbers] for name in columns}
        return dataclasses.replace(self, **taken, rest=self.rest and self.rest.take(numbers))


@dataclass(frozen=True)
class AtRest:
    """Which neutral clips each row of a table may be read against, see :func:`train.rest.beside`.

    Parameters
    ----------
    rows
        Neutral clips.
    numbers
        For each row of the table the numbers of those that serve it, shape (table rows, choices).
    """

    rows: Rows
    numbers: NDArray[np.int64]

    def take(self, numbers: NDArray[np.int64]) -> AtRest:
        """Return what serves the rows of some numbers, in their order."""
        return dataclasses.replace(self, numbers=self.numbers[numbers])


def select_rows(
    index: Index,
    actors: Sequence[int],
    variants: bool = False,
    left_out: Collection[str] = (),
    clip_seed: int | None = None,
) -> Rows:
    """List the rows of some actors, as the index has them; no shard is opened.

    Parameters
    ----------
    index
        A finished cache.
    actors
        Whose rows.
    variants
        Whether the augmented ones are wanted beside the clean ones.
    left_out
        Ids of clips whose rows are not wanted.
    clip_seed
        See :class:`train.protocol.Split`. With a number, whose clips are meant is random.

    Returns
    -------
    Rows

    Raises
    ------
    InputError
        If a shard is missing or has another size, an actor has no rows, or none is wanted.
    """
    if missing := sorted(set(actors) - set(index.actors)):
        raise InputError(
            f"expected actors out of {index.actors} in {index.folder}, got "
            f"{missing}; name others or extract theirs"
        )
    names = index.spec.row_names if variants else index.spec.row_names[:1]
    dealt = protocol.deal_clips(clip_owners(index), clip_seed)
    wanted = [
        clip for clip in index.clips if dealt.get(clip.clip) in actors and clip.clip not in left_out
    ]
    if not wanted:
        raise InputError(
            f"expected rows of actors {sorted(actors)} in {index.folder}, got only clips that are "
            "left out; remove the copies of recordings from the raw folder"
        )
    holding = {clip.shard for clip in wanted}
    chosen = [entry for entry in index.shards if entry.file in holding]
    number = {entry.file: place for place, entry in enumerate(chosen)}
    for entry in chosen:
        refuse_other_size(index.folder / entry.file, entry.bytes)
    columns = [
        (
            number[clip.shard],
            clip.row + place,
            EMOTIONS.index(clip.emotion),
            clip.actor,
            clip.clip,
            name,
            clip.face_found,
            identity,
            checksum,
        )
        for clip in sorted(wanted, key=lambda clip: (number[clip.shard], clip.row))
        for place, (name, identity, checksum) in enumerate(
            zip(names, checksums.of_clip(clip, index.spec), clip.checksums, strict=False)
        )
    ]
    return Rows(
        index.spec,
        tuple(index.folder / entry.file for entry in chosen),
        tuple((entry.mfcc_offset, entry.frames_offset) for entry in chosen),
        *(np.array(column) for column in zip(*columns, strict=True)),
    )


def draw_alike(
    rows: Rows, numbers: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw for each row one of another person with the same emotion.

    Parameters
    ----------
    rows
        The table.
    numbers
        Positions in it, shape (batch,).
    random
        Source of every choice.

    Returns
    -------
    ndarray of int64, shape (batch,)
        Positions in the table; the row's own where nobody else has its emotion.
    """
    alike = np.array(numbers, np.int64)
    for place, number in enumerate(numbers):
        same = rows.label == rows.label[number]
        others = np.flatnonzero(same & (rows.actor != rows.actor[number]))
        if len(others):
            alike[place] = random.choice(others)
    return alike


def refuse_other_size(path: Path, size: int) -> None:
    """Raise unless a shard is there and as long as it was written."""
    got = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
    if got != f"{size} bytes":
        raise InputError(
            f"expected a shard of {size} bytes at {path}, got {got}; run 'make features' again"
        )


def clip_owners(index: Index) -> dict[str, int]:
    """Actor of each clip that has rows."""
    return {entry.clip: entry.actor for entry in index.clips if entry.shard is not None}


def source_hashes(index: Index, split: protocol.Split) -> set[str]:
    """Hashes of the recordings that a split trains on or chooses by."""
    dealt = protocol.deal_clips(clip_owners(index), split.clip_seed)
    return {
        source.sha256
        for entry in index.clips
        for source in entry.sources
        if dealt.get(entry.clip) in split.train + split.validation
    }
