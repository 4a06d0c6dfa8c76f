"""Splits into training, validation and test actors.

The one split by clip, ``random``, is there to measure what it leaks.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.corpora.actors import Actor, format_actors
from pipeline.errors import InputError

TEST_PART = 4
"""One actor in this many is tested on by default, the last ones by number."""

VALIDATION_PART = 6
"""One of this many of the other actors validates by default, the last ones by number."""

Folds = tuple[tuple[tuple[int, ...], tuple[int, ...] | None], ...]

PROTOCOLS: dict[str, Folds] = {
    "luna5": (
        ((2, 5, 14, 15, 16), (3, 6)),
        ((3, 6, 7, 13, 18), (10, 11)),
        ((10, 11, 12, 19, 20), (8, 17)),
        ((8, 17, 21, 23, 24), (1, 14)),
        ((1, 4, 9, 22), (2, 5)),
    ),
    "sixfold": tuple((tuple(range(first, first + 4)), None) for first in range(1, 25, 4)),
    "chumachenko": (((5, 10, 16, 19), (11, 13, 18, 22)),),
    "emobox": tuple(
        (test, None)
        for test in (
            (1, 11, 20, 21),
            (4, 10, 12, 14),
            (8, 9, 19, 23),
            (3, 5, 7, 24),
            (2, 15, 16, 18),
            (6, 13, 17, 22),
        )
    ),
}
"""Test and validation actors of each fold, of RAVDESS' 24; None takes the default validation.

``luna5`` is the protocol of Luna-Jiménez et al. 2022, ``chumachenko`` that of Chumachenko,
Iosifidis & Gabbouj 2022, ``emobox`` that of Ma et al. 2024."""

CONTIGUOUS, LEAVE_ONE_OUT, RANDOM = "contiguous", "loso", "random"

PUBLISHED_ACTORS = tuple(range(1, 25))
"""Of RAVDESS, which every published protocol divides."""

RANDOM_FOLDS = 6
"""Folds of the leaking protocol, as many as ``sixfold`` has, so that both train on as much."""

LEAKING = "clips split at random, every actor on both sides: not comparable"
"""Stamp of every report of the leaking protocol."""


@dataclass(frozen=True)
class Split:
    """Actors of each side; no actor is on two.

    Parameters
    ----------
    train, validation, test
        Sorted actor numbers; with several corpora names such as ``"crema_d:1001"``.
    clip_seed
        None in every split by actor. A number deals the clips out among the actors at random before
        they are divided, see :func:`deal_clips`: each side is as large as before, and leaks.
    """

    train: tuple[Actor, ...]
    validation: tuple[Actor, ...]
    test: tuple[Actor, ...]
    clip_seed: int | None = None

    @property
    def stamp(self) -> str | None:
        """What every report of the split has to say; None where there is nothing to say."""
        return None if self.clip_seed is None else LEAKING


def deal_clips(owners: Mapping[str, Actor], clip_seed: int | None) -> dict[str, Actor]:
    """Give every clip an actor: its own, or with a seed one at random.

    ``owners`` names the actor of each clip; all of them get as many clips as before.
    """
    if clip_seed is None:
        return dict(owners)
    clips = sorted(owners)
    dealt = np.random.default_rng(clip_seed).permutation([owners[clip] for clip in clips])
    return dict(zip(clips, dealt.tolist(), strict=True))


def split_actors(
    present: Sequence[int],
    test: Sequence[int] | None = None,
    validation: Sequence[int] | None = None,
) -> Split:
    """Divide the actors of a cache into train, validation and test.

    Parameters
    ----------
    present
        Actors that have rows.
    test
        By default the last quarter by number.
    validation
        By default the last sixth of the others.

    Raises
    ------
    InputError
        If a named actor is not there, is on two sides, or nobody is left to train on.
    """
    actors = sorted(present)
    if len(actors) < 3:
        raise InputError(
            f"expected at least 3 actors (train, validation, test), got {actors}; "
            "add clips of other people"
        )
    chosen_test = sorted(test or actors[-max(1, len(actors) // TEST_PART) :])
    others = [actor for actor in actors if actor not in chosen_test]
    chosen_validation = sorted(validation or others[-max(1, len(others) // VALIDATION_PART) :])
    for side, named in (("test", chosen_test), ("validation", chosen_validation)):
        if absent := sorted(set(named) - set(actors)):
            raise InputError(
                f"expected {side} actors out of {format_actors(actors)}, got "
                f"{format_actors(absent)}; name actors of the cache"
            )
    if shared := sorted(set(chosen_test) & set(chosen_validation)):
        raise InputError(
            f"expected test and validation actors to differ, got "
            f"{format_actors(shared)} in both; remove them from one"
        )
    train = [actor for actor in others if actor not in chosen_validation]
    if not train:
        raise InputError(
            "expected actors left to train on, got none; name fewer test or validation actors"
        )
    return Split(tuple(train), tuple(chosen_validation), tuple(chosen_test))


def folds(name: str, present: Sequence[int], present_only: bool = False) -> list[Split]:
    """List the splits of a named protocol; validation actors come from the training side.

    Parameters
    ----------
    name
        One of :data:`PROTOCOLS`; ``"contiguous:K"``, the present actors in order cut into K
        groups; ``"loso"``, one actor at a time; or ``"random"``, the leaking one, whose folds are
        as large as those of ``"contiguous:6"``.
    present
        Actors that have rows.
    present_only
        Whether a protocol may be cut down to them.

    Raises
    ------
    InputError
        If there is no such protocol, or actors of it are missing and may not be.
    """
    actors = sorted(present)
    kind, _, number = name.partition(":")
    if name == LEAVE_ONE_OUT:
        return [split_actors(actors, (actor,)) for actor in actors]
    if name == RANDOM:
        by_actor = folds(f"{CONTIGUOUS}:{min(RANDOM_FOLDS, len(actors))}", actors)
        return [replace(split, clip_seed=0) for split in by_actor]
    if kind == CONTIGUOUS:
        if not (number.isascii() and number.isdigit() and 2 <= int(number) <= len(actors)):
            raise InputError(
                f"expected {CONTIGUOUS}:K with K from 2 to {len(actors)}, got {name!r}; "
                "K is the number of groups"
            )
        groups = int(number)
        edges = [round(group * len(actors) / groups) for group in range(groups + 1)]
        cuts = itertools.pairwise(edges)
        return [split_actors(actors, tuple(actors[first:last])) for first, last in cuts]
    if name not in PROTOCOLS:
        known = ", ".join([*PROTOCOLS, f"{CONTIGUOUS}:K", LEAVE_ONE_OUT, RANDOM])
        raise InputError(f"expected a protocol out of {known}, got {name!r}; choose one")
    if (missing := sorted(set(PUBLISHED_ACTORS) - set(actors))) and not present_only:
        raise InputError(
            f"expected actors {format_actors(PUBLISHED_ACTORS)} for {name}, got a cache without "
            f"{format_actors(missing)}; add them or accept the others with --present-only"
        )
    splits = []
    for test, validation in PROTOCOLS[name]:
        kept_test = tuple(actor for actor in test if actor in actors)
        kept_validation = tuple(actor for actor in validation or () if actor in actors)
        if kept_test:
            splits.append(split_actors(actors, kept_test, kept_validation or None))
    return splits


def stamp(name: str, splits: Sequence[Split]) -> str | None:
    """Say what the report of these folds of a protocol is stamped with; None if as published."""
    if any(split.stamp for split in splits):
        return LEAKING
    used = {actor for one in splits for actor in (*one.train, *one.validation, *one.test)}
    if name in PROTOCOLS and used != set(PUBLISHED_ACTORS):
        return f"{name} on present actors only: not comparable"
    return None
