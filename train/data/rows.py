"""The table of cached rows: actor, emotion, modalities, and where each one is stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import format as shard_format
from pipeline.cache.facts import ClipEntry
from pipeline.cache.index import Index
from pipeline.corpora.actors import Actor
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec
from train.data import corpora
from train.data.corpora import CorpusOfRows
from train.heads import INPUTS
from train.studies import protocol


@dataclass(frozen=True)
class SpeakerReference:
    """What the speaker of each row is like, see :mod:`train.data.speaker`.

    Parameters
    ----------
    tensors
        ``mfcc_reference`` (clips, mfcc_count) and ``frames_reference`` (clips, height, width, 4),
        float32.
    place
        For each row of a table its place in these, shape (rows,).
    """

    tensors: dict[str, NDArray[np.float32]]
    place: NDArray[np.int64]

    def take(self, numbers: NDArray[np.int64]) -> SpeakerReference:
        """Return the references of the rows of some numbers."""
        return dataclasses.replace(self, place=self.place[numbers])


@dataclass(frozen=True)
class Rows:
    """A table of cached rows: where each one is stored and what it is.

    Parameters
    ----------
    spec
        Shapes of the tensors.
    shards
        Files that hold the rows.
    offsets
        Bytes before the MFCCs and before the frames of each file.
    shard, row
        Place of each row: number in ``shards`` and position in the file.
    label, actor
        Index of its emotion, and its actor: a number, with several corpora a name.
    clip, variant
        Its clip and augmentation.
    face_found
        Whether a face was found in its window.
    has_audio, has_video
        Which modalities its clip has; the tensor of a missing one is zero.
    identity, checksum
        CRC-32 of what each row is, and of the whole row, see
        :func:`pipeline.cache.format.row_checksum`.
    reference
        Speaker reference of each row; None without one.
    corpora
        Corpus of each row; None where there is one corpus.
    """

    spec: FeatureSpec
    shards: tuple[Path, ...]
    offsets: tuple[tuple[int, int], ...]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    actor: NDArray[np.int64] | NDArray[np.str_]
    clip: NDArray[np.str_]
    variant: NDArray[np.str_]
    face_found: NDArray[np.bool_]
    has_audio: NDArray[np.bool_]
    has_video: NDArray[np.bool_]
    identity: NDArray[np.int64]
    checksum: NDArray[np.int64]
    reference: SpeakerReference | None = None
    corpora: CorpusOfRows | None = None

    def __len__(self) -> int:
        return len(self.row)

    def having(self, head: str) -> NDArray[np.bool_]:
        """Which rows a head answers for, shape (rows,): those with its modality; fused, all."""
        if head not in INPUTS:
            return np.ones(len(self), bool)
        return self.has_audio if INPUTS[head] == "mfcc" else self.has_video

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """Return the rows where ``chosen``, shape (rows,), is true."""
        return self.take(np.flatnonzero(chosen))

    def take(self, numbers: NDArray[np.int64]) -> Rows:
        """Return the rows of some numbers, in their order; one may come several times."""
        columns = (
            column.name
            for column in dataclasses.fields(self)
            if column.name not in ("spec", "shards", "offsets", "reference", "corpora")
        )
        taken = {name: getattr(self, name)[numbers] for name in columns}
        reference = self.reference and self.reference.take(numbers)
        own = self.corpora and self.corpora.take(numbers)
        return dataclasses.replace(self, **taken, reference=reference, corpora=own)


def select_rows(
    index: Index,
    actors: Sequence[Actor],
    variants: bool = False,
    left_out: Collection[str] = (),
    clip_seed: int | None = None,
) -> Rows:
    """List the rows of some actors; no shard is opened.

    Sorted by actor, clip, and the order of the spec's variants: how clips are grouped into shards
    changes nothing.

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
        See :class:`train.studies.protocol.Split`. With a number, whose clips are meant is random.

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
    dealt, chosen = protocol.deal_clips(clip_owners(index), clip_seed), set(actors)
    wanted = [
        clip for clip in index.clips if dealt[clip.clip] in chosen and clip.clip not in left_out
    ]
    if not wanted:
        raise InputError(
            f"expected rows of actors {sorted(actors)} in {index.folder}, got only clips that are "
            "left out; remove the copies of recordings from the raw folder"
        )
    number = {file: place for place, file in enumerate(sorted({clip.shard for clip in wanted}))}
    shards = [index.shard_facts[file] for file in number]
    for shard in shards:
        refuse_other_size(index.folder / shard.file, shard.bytes)
    columns = [
        (
            number[clip.shard],
            clip.row + place,
            clip.label,
            clip.actor,
            clip.clip,
            name,
            clip.face_found,
            clip.has_audio,
            clip.has_video,
            shard_format.row_identity(corpora.as_written(index, clip), name),
            checksum,
        )
        for clip in wanted
        for place, (name, checksum) in enumerate(zip(names, clip.checksums, strict=False))
    ]
    arrays: list[Any] = [np.array(column) for column in zip(*columns, strict=True)]
    rows = Rows(
        index.spec,
        tuple(index.folder / shard.file for shard in shards),
        tuple((shard.mfcc_offset, shard.frames_offset) for shard in shards),
        *arrays,
    )
    return dataclasses.replace(
        rows, corpora=corpus_of(index, [clip for clip in wanted for _ in names])
    )


def corpus_of(index: Index, entries: Sequence[ClipEntry]) -> CorpusOfRows | None:
    """Say which corpus each entry is of; None where there is one corpus."""
    if not isinstance(index, corpora.JoinedIndex):
        return None
    place = {name: number for number, name in enumerate(index.parts)}
    return CorpusOfRows(
        tuple(index.parts),
        np.array([corpora.emotions_of(part) for part in index.parts.values()]),
        np.array([place[entry.clip.partition(":")[0]] for entry in entries], np.int64),
    )


def refuse_other_size(path: Path, size: int) -> None:
    """Raise unless a shard is there and as long as it was written."""
    got = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
    if got != f"{size} bytes":
        raise InputError(
            f"expected a shard of {size} bytes at {path}, got {got}; run 'make features' again"
        )


def clip_owners(index: Index) -> dict[str, Actor]:
    """Actor of each clip that has rows."""
    return {entry.clip: entry.actor for entry in index.clips}


def source_hashes(index: Index, split: protocol.Split) -> set[str]:
    """Hashes of the recordings that a split trains on or chooses by."""
    dealt = protocol.deal_clips(clip_owners(index), split.clip_seed)
    actors = {*split.train, *split.validation}
    return {
        source.sha256
        for entry in index.clips
        for source in entry.sources
        if dealt[entry.clip] in actors
    }
