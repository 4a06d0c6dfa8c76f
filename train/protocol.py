"""Who is trained on, who chooses, who is tested: splits by actor, never by clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import InputError

TEST_PART = 4
"""One actor in this many is tested on by default, the last ones by number."""

VALIDATION_PART = 6
"""One of this many of the other actors validates by default, the last ones by number."""


@dataclass(frozen=True)
class Split:
    """Actors of each side; no actor is on two.

    Parameters
    ----------
    train, validation, test
        Sorted actor numbers.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]


def parse_actors(text: str) -> tuple[int, ...]:
    """Read a list of actors such as ``"1-4,9"``.

    Raises
    ------
    InputError
        If it is not numbers and ranges joined by commas.
    """
    actors: set[int] = set()
    for part in filter(None, re.split(r"[,\s]+", text)):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + 10_000:
            raise InputError(
                f"expected actors such as 1-4,9, got {text!r}; join numbers and ranges by commas"
            )
        actors.update(range(first, last + 1))
    if not actors:
        raise InputError("expected actors such as 1-4,9, got none; name at least one")
    return tuple(sorted(actors))


def format_actors(actors: Sequence[int]) -> str:
    """Write actors as :func:`parse_actors` reads them: ``(1, 2, 3, 9)`` to ``"1-3,9"``."""
    runs: list[list[int]] = []
    for actor in sorted(actors):
        if runs and actor == runs[-1][-1] + 1:
            runs[-1].append(actor)
        else:
            runs.append([actor])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def split_actors(
    present: Sequence[int],
    test: Sequence[int] | None = None,
    validation: Sequence[int] | None = None,
) -> Split:
    """Divide the actors of a cache.

    Parameters
    ----------
    present
        Actors that have rows.
    test
        Who is tested on; by default the last quarter by number.
    validation
        Who chooses the epoch; by default the last sixth of the others.

    Returns
    -------
    Split

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
