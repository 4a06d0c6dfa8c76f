"""What is known of a corpus: how its files are named, who speaks, what its labels mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple

from pipeline.spec import EMOTIONS


class Recording(NamedTuple):
    """What the name of a file says.

    Parameters
    ----------
    take
        What the files of one clip have in common; the clip's id.
    speaker
        As the corpus writes it; None where its tables say who speaks.
    word
        The corpus' own word for the emotion; None where its tables give it.
    part
        Which part of the corpus it belongs to, such as ``"speech"``; empty without parts.
    rank
        Of several videos, or several audio files, of a take the one of the lowest rank is used.
    """

    take: str
    speaker: str | None
    word: str | None
    part: str = ""
    rank: int = 0


class Entry(NamedTuple):
    """What a corpus' tables say of a take; None leaves the name's word."""

    speaker: str | None
    word: str


class WrongFolder(ValueError):
    """Name and folder of a file disagree about the speaker."""


@dataclass(frozen=True)
class Archive:
    """What an archive of a corpus holds.

    Parameters
    ----------
    is_audio
        Whether it holds audio files, not videos.
    part
        Which part of the corpus; empty without parts.
    actor
        Number of its only actor; None for one that holds all of them.
    kept
        Bytes that are kept of it, as a multiple of its size.
    """

    is_audio: bool
    part: str = ""
    actor: int | None = None
    kept: float = 1.0


@dataclass(frozen=True)
class Zenodo:
    """A record whose archives hold a corpus.

    Parameters
    ----------
    record
        Its number.
    archive
        What the archive of a name holds; None for a file that is not needed.
    """

    record: int
    archive: Callable[[str], Archive | None]


@dataclass(frozen=True)
class GitLfs:
    """A repository whose large files are a corpus.

    Parameters
    ----------
    repository, branch
        Owner and name on GitHub, and the branch.
    folders
        Folder with audio, folder with videos.
    folder_bytes
        Size of each, all files together.
    """

    repository: str
    branch: str
    folders: tuple[str, str]
    folder_bytes: tuple[int, int]


@dataclass(frozen=True)
class Corpus:
    """Facts about a corpus.

    Parameters
    ----------
    name, title
        Word for ``--corpus``, and what people call it.
    parse
        Reads a path below the raw folder; raises ``ValueError`` with the reason where the file is
        no clip of this corpus, :class:`WrongFolder` where it is refused.
    labels
        Emotion out of :data:`pipeline.spec.EMOTIONS` of each of its words.
    speakers
        Number of each speaker, from 1; empty where its tables, or the user, say who speaks. Those
        are numbered in the order in which they occur.
    clips
        How many it consists of as published; 0 where that is not known.
    licence, citation, how_to_get
        What a user has to know.
    parts
        Names of its parts, for ``--channel``.
    left_out
        Meaning of the words that are none of our emotions.
    damaged
        Reason for each file name that its authors call damaged.
    read_tables
        Reads the labels from its ``.csv`` and ``.txt`` files: take to entry.
    tables_are
        What these files are called, for messages.
    source
        Where ``make data`` fetches it; None for a corpus that needs a registration.
    """

    name: str
    title: str
    parse: Callable[[PurePath], Recording]
    labels: Mapping[str, str]
    speakers: Mapping[str, int]
    clips: int
    licence: str
    citation: str
    how_to_get: str
    parts: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    damaged: Mapping[str, str] = field(default_factory=dict)
    read_tables: Callable[[Sequence[Path]], dict[str, Entry]] | None = None
    tables_are: str = ""
    source: Zenodo | GitLfs | None = None

    @property
    def absent(self) -> tuple[str, ...]:
        """Emotions that none of its words means."""
        return tuple(name for name in EMOTIONS if name not in self.labels.values())


def in_turn(name: str, pairs: int) -> dict[str, int]:
    """Give women (F) and men (M) their numbers in turn: splits by number have both on both sides.

    The name is a format with the fields ``letter`` and ``pair``.
    """
    return {
        name.format(letter=letter, pair=pair): 2 * pair - (letter == "F")
        for pair in range(1, pairs + 1)
        for letter in "FM"
    }


TITLE_NAME = "corpus.txt"
"""File in a raw folder whose first line says in words what its clips are."""


def title_of(root: Path) -> str:
    """Say in words what a raw folder holds: its ``corpus.txt``, else its name."""
    try:
        lines = (root / TITLE_NAME).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    return lines[0].strip() if lines else root.name
