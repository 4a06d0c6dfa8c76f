"""``clips.csv``: a user's own recordings, one line a clip."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.corpora import actors, emotions
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.corpora.sources import printable
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS

CSV_NAME = "clips.csv"
CSV_COLUMNS = ("video", "audio", "emotion", "actor")


class Row(NamedTuple):
    """One line of the table, an absent cell being an empty one, and where it is, for messages."""

    where: str
    video: str
    audio: str
    emotion: str
    actor: str


def read_table(table: Path, labels: Path | None = None) -> Catalogue:
    """Read ``clips.csv``; its paths are relative to its folder.

    Parameters
    ----------
    table
        Columns ``emotion``, ``actor`` and ``video`` or ``audio`` or both, in any order.
    labels
        Map of further words for emotions, see :func:`pipeline.corpora.emotions.read_labels`.

    Returns
    -------
    Catalogue
        Actors keep their numbers if all are numbers from 1; else they are numbered in the order of
        their first lines, and ``actor_names`` gives the names.

    Raises
    ------
    InputError
        If a column is missing, or a line names no file, an unknown emotion, no actor, a clip
        twice, or a file that is missing or outside the folder. The message says which line.
    """
    words = emotions.known_words() if labels is None else emotions.read_labels(labels)
    rows = read_columns(table)
    numbers, actor_names = number_actors(rows)
    catalogue = Catalogue(table.parent, actor_names=actor_names)
    taken: set[str] = set()
    for row, actor in zip(rows, numbers, strict=True):
        clip = clip_of(row, actor, table.parent, words)
        if clip.id in taken:
            what = "each video" if clip.video else "each audio file without a video"
            raise InputError(
                f"{row.where}: expected {what} once, got {printable(clip.id)} again; "
                "remove one of the lines"
            )
        taken.add(clip.id)
        catalogue.clips.append(clip)
    catalogue.clips.sort(key=lambda clip: (clip.actor, clip.id))
    return catalogue


def read_columns(table: Path) -> list[Row]:
    """Read the cells of the four columns, stripped; other columns are ignored."""
    lines = emotions.read_rows(table)
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    if not {"emotion", "actor"} <= set(header) or not {"video", "audio"} & set(header):
        raise InputError(
            f"expected the columns {','.join(CSV_COLUMNS)} in {table} (video or audio may be left "
            f"out), got {','.join(header)!r}; add a header line, separated by commas"
        )
    return [row_of(f"{table} line {line}", header, cells) for line, cells in lines[1:]]


def row_of(where: str, header: Sequence[str], cells: Sequence[str]) -> Row:
    """Pick the cells of the four columns; a line may be shorter than the header, not longer."""
    if surplus := ",".join(cells[len(header) :]).strip(", \t"):
        raise InputError(
            f"{where}: expected {len(header)} cells, as many as in the header, got {surplus!r} "
            "beyond them; put a cell that holds a comma in double quotes"
        )
    found = dict(zip(header, map(str.strip, cells), strict=False))
    return Row(where, *(found.get(name, "") for name in CSV_COLUMNS))


def number_actors(rows: Sequence[Row]) -> tuple[list[int], dict[int, str]]:
    """Return the number of each row's actor, and each number's name unless all are numbers."""
    for row in rows:
        if not row.actor:
            raise InputError(
                f"{row.where}: expected an actor, got an empty field; give a number or a name"
            )
    return actors.number_names([row.actor for row in rows])


def clip_of(row: Row, actor: int, root: Path, words: dict[str, str]) -> Clip:
    """Make a clip of one row."""
    emotion = words.get(emotions.normalised(row.emotion))
    if emotion is None:
        raise InputError(
            f"{row.where}: expected an emotion out of {', '.join(EMOTIONS)}, got "
            f"{row.emotion!r}; rename it, say what it means in a file for --labels, or leave the "
            "line out"
        )
    if not (row.video or row.audio):
        raise InputError(
            f"{row.where}: expected a video or an audio file, got neither; name one of them"
        )
    video = file_inside(root, row.video, row.where) if row.video else None
    audio = file_inside(root, row.audio, row.where) if row.audio else None
    return Clip(
        id=str(video or audio),
        actor=actor,
        emotion=emotion,
        video=root / video if video else None,
        audio=root / audio if audio else None,
    )


def file_inside(root: Path, name: str, where: str) -> str:
    """Return the path, relative to the raw folder and without ``..``, of a file in the table.

    Links inside the folder are followed, as everywhere in it: they were made on purpose.

    Raises
    ------
    InputError
        If it is not a file, or outside of the folder.
    """
    place = os.path.normpath(name.replace("\0", ""))
    if place.startswith("..") or os.path.isabs(place):
        place = os.path.relpath(os.path.join(root, place), root)
    if place.split("/", 1)[0] == "..":
        # Either may be named by way of a link.
        real = os.path.realpath(os.path.join(root, place))
        place = os.path.relpath(real, os.path.realpath(root))
    reason = "it is no file"
    if place.split("/", 1)[0] == "..":
        reason = "it is outside"
    elif "\0" not in name:
        try:
            if stat.S_ISREG(os.stat(os.path.join(root, place)).st_mode):
                return place
        except OSError as error:  # such as a name that is too long
            reason = str(error.strerror)
    raise InputError(
        f"{where}: expected a file inside {root}, got {name!r} ({reason}); "
        "put it there or correct the path"
    )
