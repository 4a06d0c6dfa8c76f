"""Splits of several corpora: each is divided by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter

from pipeline.corpora.actors import Actor, actor_name, split_name
from pipeline.errors import InputError
from train.studies.protocol import CONTIGUOUS, Split, folds, split_actors


def split_corpora(
    present: Mapping[str, Sequence[int]],
    test: Sequence[Actor] | None = None,
    validation: Sequence[Actor] | None = None,
) -> Split:
    """Divide the actors of several corpora, each by :func:`train.studies.protocol.split_actors`.

    Parameters
    ----------
    present
        Actors that have rows, by corpus.
    test, validation
        With the names of their corpora; one that is not named has the default.

    Raises
    ------
    InputError
        If a corpus cannot be divided so, or a name is none of theirs.
    """
    tested, validating = (
        numbers_by_corpus(side or (), list(present)) for side in (test, validation)
    )
    splits = {}
    for corpus, actors in present.items():
        try:
            splits[corpus] = split_actors(actors, tested[corpus], validating[corpus])
        except InputError as error:
            raise InputError(f"{corpus}: {error}") from None
    return joined(splits)


def numbers_by_corpus(
    actors: Sequence[Actor], corpora: Sequence[str]
) -> dict[str, tuple[int, ...] | None]:
    """Divide actors by their corpora; None for a corpus that is not named.

    Raises
    ------
    InputError
        If an actor is of none of them.
    """
    numbers: dict[str, list[int]] = {corpus: [] for corpus in corpora}
    for actor in actors:
        corpus, number = split_name(actor)
        if corpus not in numbers:
            raise InputError(
                f"expected actors of {', '.join(corpora)}, got {actor}; write them as "
                f"{corpora[0]}:1-4"
            )
        numbers[corpus].append(number)
    return {corpus: tuple(own) or None for corpus, own in numbers.items()}


def joined(splits: Mapping[str, Split]) -> Split:
    """Join the splits of several corpora."""
    train, validation, test = (
        tuple(actor_name(corpus, actor) for corpus, own in splits.items() for actor in side(own))
        for side in (attrgetter("train"), attrgetter("validation"), attrgetter("test"))
    )
    return Split(train, validation, test)


def folds_of_corpora(name: str, present: Mapping[str, Sequence[int]]) -> list[Split]:
    """List the splits of ``"contiguous:K"``, which cuts each corpus into K groups.

    Raises
    ------
    InputError
        If it is another protocol, or a corpus has fewer actors than groups.
    """
    if not name.startswith(f"{CONTIGUOUS}:"):
        raise InputError(
            f"expected {CONTIGUOUS}:K with several corpora, got {name!r}; choose it, or name one "
            "cache"
        )
    by_corpus = {corpus: folds(name, actors) for corpus, actors in present.items()}
    return [
        joined(dict(zip(by_corpus, splits, strict=True)))
        for splits in zip(*by_corpus.values(), strict=True)
    ]
