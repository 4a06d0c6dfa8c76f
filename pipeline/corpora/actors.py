"""Actors as people write them: lists of numbers, and names that are numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import InputError

NUMBER_PATTERN = re.compile(r"0*[1-9]\d{0,8}", re.ASCII)


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


def number_names(names: Sequence[str]) -> tuple[list[int], dict[int, str]]:
    """Return the number of each name, and each number's name unless all are numbers.

    Names that differ only in case or spaces are one actor: otherwise a slip of the keyboard would
    put one actor on both sides of a split.
    """
    if all(NUMBER_PATTERN.fullmatch(name) for name in names):
        return [int(name) for name in names], {}
    numbers: dict[str, int] = {}
    first: dict[int, str] = {}
    for name in names:
        number = numbers.setdefault(same_name(name), len(numbers) + 1)
        first.setdefault(number, name)
    return [numbers[same_name(name)] for name in names], first


def same_name(actor: str) -> str:
    """Take the case of a name away, and all but one space between its words."""
    return " ".join(actor.split()).casefold()
