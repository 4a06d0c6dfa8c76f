"""Lists of actors as people write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.errors import InputError


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
