"""Actors as people write them: lists of numbers, of several corpora too, and numbered names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from pipeline.errors import InputError

Actor = int | str
"""A number; beside actors of other corpora a corpus and a number, such as ``"crema_d:1001"``."""

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


def parse_actors_of_corpora(text: str) -> tuple[Actor, ...]:
    """Read actors of one corpus, or of several such as ``"ravdess:19-24 crema_d:1001,1003"``.

    Raises
    ------
    InputError
        If it is neither, or only a part of it names a corpus.
    """
    if ":" not in text:
        return parse_actors(text)
    actors: list[Actor] = []
    for word in text.split():
        corpus, colon, numbers = word.partition(":")
        if not (corpus and colon):
            raise InputError(
                f"expected actors such as ravdess:19-24 crema_d:1001,1003, got {text!r}; write "
                "each corpus as its name, a colon and its actors without spaces"
            )
        actors += [actor_name(corpus, number) for number in parse_actors(numbers)]
    return tuple(dict.fromkeys(actors))


def actor_name(corpus: str, number: int) -> str:
    """Name an actor beside those of other corpora."""
    return f"{corpus}:{number}"


def split_name(actor: Actor) -> tuple[str, int]:
    """Corpus and number of an actor; of one without a corpus that is empty."""
    corpus, _, number = str(actor).rpartition(":")
    return corpus, int(number)


def in_order(actors: Iterable[Actor]) -> list[Actor]:
    """Sort actors by corpus and number, each once."""
    return sorted(set(actors), key=split_name)


def format_actors(actors: Sequence[Actor]) -> str:
    """Write actors as they are read: ``(1, 2, 3, 9)`` to ``"1-3,9"``.

    Those of several corpora become ``"ravdess:1-3,9 crema_d:1001"``.
    """
    numbers: dict[str, list[int]] = {}
    for corpus, number in map(split_name, actors):
        numbers.setdefault(corpus, []).append(number)
    return " ".join(
        f"{corpus}:{format_numbers(own)}" if corpus else format_numbers(own)
        for corpus, own in numbers.items()
    )


def format_numbers(numbers: Sequence[int]) -> str:
    """Write numbers as ranges."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def number_names(names: Sequence[str]) -> tuple[list[int], dict[int, str]]:
    """Return the number of each name, and each number's name unless all are numbers.

    Names that differ only in case, spaces or the encoding of accents (macOS writes file names
    decomposed) are one actor: otherwise one actor could be on both sides of a split.
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
    """Take case, the encoding of accents, and all but one space between words away."""
    return unicodedata.normalize("NFC", " ".join(actor.split()).casefold())
