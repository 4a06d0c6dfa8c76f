"""Caches of several corpora as one: whose actors are whose, and which emotions each corpus has."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.facts import ClipEntry
from pipeline.cache.index import Index
from pipeline.corpora.actors import Actor, actor_name, format_actors
from pipeline.corpora.corpus import title_of
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train.data import corpus_names
from train.studies import corpora_splits, protocol
from train.studies.protocol import Split


@dataclass(frozen=True)
class JoinedIndex(Index):
    """Caches of several corpora, of one spec, read as one.

    In its entries actors and clips have the names of their corpora before their own
    (``"crema_d:1001"``), and files their whole paths.

    Parameters
    ----------
    parts
        Each cache by the name of its corpus.
    """

    parts: Mapping[str, Index] = field(default_factory=dict)

    @functools.cached_property
    def written(self) -> dict[str, ClipEntry]:
        """Entries as their shards have them, by the clips' ids here."""
        return {
            f"{name}:{entry.clip}": entry
            for name, part in self.parts.items()
            for entry in part.clips
        }


@dataclass(frozen=True)
class CorpusOfRows:
    """Which corpus each row of a table is of.

    Parameters
    ----------
    names
        Of the corpora.
    emotions
        Which of them has which emotion, bool (corpora, 8).
    number
        Place of each row's corpus in these, shape (rows,).
    """

    names: tuple[str, ...]
    emotions: NDArray[np.bool_]
    number: NDArray[np.int64]

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which emotions the corpus of each row has, shape (rows, 8)."""
        return self.emotions[self.number]

    def take(self, numbers: NDArray[np.int64]) -> CorpusOfRows:
        """Return the corpora of the rows of some numbers."""
        return dataclasses.replace(self, number=self.number[numbers])


def join(caches: Sequence[Index]) -> Index:
    """Read several caches as one; a single one is returned as it is.

    Raises
    ------
    InputError
        If they differ in their spec, or two hold the same.
    """
    if len(caches) == 1:
        return caches[0]
    for other in caches[1:]:
        if other.spec.digest != caches[0].spec.digest:
            raise InputError(
                f"expected caches of one spec, got {caches[0].spec.digest} in {caches[0].folder} "
                f"and {other.spec.digest} in {other.folder}; extract both with the same recipe and "
                "variants"
            )
    refuse_same(caches)
    parts = dict(zip(corpus_names.names_of(caches), caches, strict=True))
    return JoinedIndex(
        folder=caches[0].folder,
        spec=caches[0].spec,
        root=", ".join(cache.root for cache in caches),
        shards=tuple(
            dataclasses.replace(shard, file=str(cache.folder.resolve() / shard.file))
            for cache in caches
            for shard in cache.shards
        ),
        entries=tuple(
            renamed(name, cache, entry) for name, cache in parts.items() for entry in cache.entries
        ),
        parts=parts,
    )


def refuse_same(caches: Sequence[Index]) -> None:
    """Raise if two caches are one, or of one raw folder, or hold the same rows."""
    for number, cache in enumerate(caches):
        for other in caches[:number]:
            if (
                cache.folder.resolve() == other.folder.resolve()
                or cache.fingerprint == other.fingerprint
                or (cache.root and Path(cache.root).resolve() == Path(other.root).resolve())
            ):
                raise InputError(
                    f"expected caches of different corpora, got the same one in {other.folder} "
                    f"and {cache.folder}; name each corpus once"
                )


def renamed(name: str, cache: Index, entry: ClipEntry) -> ClipEntry:
    """Return an entry of a part as a joined index has it."""
    root = Path(cache.root).absolute()
    sources = (
        dataclasses.replace(source, path=(root / source.path).as_posix())
        for source in entry.sources
    )
    # An entry of a shard has a number; here the corpus is named with it.
    actor: Any = actor_name(name, entry.actor)
    return dataclasses.replace(
        entry,
        clip=f"{name}:{entry.clip}",
        actor=actor,
        shard=str(cache.folder.resolve() / entry.shard),
        sources=tuple(sources),
    )


def as_written(index: Index, entry: ClipEntry) -> ClipEntry:
    """Return an entry as its shard has it, which checksums are made of."""
    return index.written[entry.clip] if isinstance(index, JoinedIndex) else entry


def parts_of(index: Index) -> dict[str, Index]:
    """Return the cache of each corpus by its name."""
    if isinstance(index, JoinedIndex):
        return dict(index.parts)
    return {corpus_names.names_of([index])[0]: index}


def split(
    index: Index, test: Sequence[Actor] | None = None, validation: Sequence[Actor] | None = None
) -> Split:
    """Divide the actors of a cache, or of each part of a joined one.

    See :func:`train.studies.protocol.split_actors` and
    :func:`train.studies.corpora_splits.split_corpora`.
    """
    if isinstance(index, JoinedIndex):
        return corpora_splits.split_corpora(actors_of(index), test, validation)
    sides = cast(tuple[Sequence[int] | None, Sequence[int] | None], (test, validation))
    return protocol.split_actors(index.actors, *sides)


def folds(index: Index, name: str, present_only: bool = False) -> list[Split]:
    """List the splits of a protocol, see :func:`train.studies.protocol.folds`."""
    if isinstance(index, JoinedIndex):
        return corpora_splits.folds_of_corpora(name, actors_of(index))
    return protocol.folds(name, index.actors, present_only)


def actors_of(index: Index) -> dict[str, list[int]]:
    """Return the actors of each corpus, by their own numbers."""
    return {name: part.actors for name, part in parts_of(index).items()}


def emotions_of(cache: Index) -> NDArray[np.bool_]:
    """Which emotions a cache has a clip of, shape (8,)."""
    present = {entry.emotion for entry in cache.clips}
    return np.array([name in present for name in EMOTIONS])


def title(index: Index) -> str:
    """Say in words what the clips are."""
    if isinstance(index, JoinedIndex):
        return " and ".join(map(corpus_names.title_in_words, index.parts.values()))
    return title_of(Path(index.root))


def lines(index: Index) -> list[str]:
    """Say of each of several corpora in a line what it brings; nothing of a single one."""
    said = []
    for name, part in index.parts.items() if isinstance(index, JoinedIndex) else ():
        absent = [EMOTIONS[label] for label in np.flatnonzero(~emotions_of(part))]
        line = f"{name}: {len(part.clips)} clips of actors {format_actors(part.actors)}"
        said.append(line + (f", without {', '.join(absent)}" if absent else ""))
    return said


def describe(index: Index, split: Split, clips: Sequence[str]) -> list[dict]:
    """List what is learned from, for ``model.json``.

    Parameters
    ----------
    index
        A finished cache, or a joined one.
    split
        Actors of each side.
    clips
        Ids of the clips that are trained on or validate.

    Returns
    -------
    list of dict
        Of each corpus ``name``, ``title``, ``licence`` (None where it is not known), ``spec``
        (digest) and ``cache`` (fingerprint), ``emotions``, number of ``clips``, and ``actors`` of
        each side by their own numbers.
    """
    listed = []
    for name, part in parts_of(index).items():
        joined = isinstance(index, JoinedIndex)
        prefix = f"{name}:" if joined else ""
        listed.append(
            {
                "name": name,
                "title": corpus_names.title_in_words(part) if joined else title(part),
                "licence": corpus_names.licence_of(part),
                "spec": part.spec.digest,
                "cache": part.fingerprint,
                "emotions": [EMOTIONS[label] for label in np.flatnonzero(emotions_of(part))],
                "clips": sum(clip.startswith(prefix) for clip in clips),
                "actors": {
                    side: [
                        actor
                        for actor in part.actors
                        if (f"{prefix}{actor}" if joined else actor) in getattr(split, side)
                    ]
                    for side in ("train", "validation", "test")
                },
            }
        )
    return listed
