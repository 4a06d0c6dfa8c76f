"""Words for emotions: synonyms of the eight names, and a user's own words."""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

from pipeline.errors import InputError
from pipeline.spec import EMOTIONS

SYNONYMS = {
    "happiness": "happy",
    "joy": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgusted": "disgust",
    "surprise": "surprised",
}
HEADERS = ("emotion", "ours")
"""Second cell of the first line of a map of labels where that line is a header."""


def known_words() -> dict[str, str]:
    """Return every word that names an emotion without further help, and that emotion."""
    return {**{name: name for name in EMOTIONS}, **SYNONYMS}


def normalised(word: str) -> str:
    """Take case, spaces and the way in which accents are encoded away."""
    return unicodedata.normalize("NFC", "".join(word.split()).casefold())


def read_labels(path: Path) -> dict[str, str]:
    """Read a map of labels: two columns, a user's word and the emotion it means.

    Parameters
    ----------
    path
        UTF-8 comma-separated text; a header line is optional.

    Returns
    -------
    dict of str to str
        Normalised word to emotion, together with :func:`known_words`; the user's words win.

    Raises
    ------
    InputError
        If the file cannot be read, or a line is not a word and one of our emotions, or gives a
        word another meaning than a line before.
    """
    words = known_words()
    given: dict[str, str] = {}
    for line, row in read_rows(path):
        where = f"{path} line {line}"
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 or not all(cells):
            raise InputError(
                f"{where}: expected two columns, your word and one of {', '.join(EMOTIONS)}, got "
                f"{','.join(cells)!r}; correct the line"
            )
        if not given and normalised(cells[1]) in HEADERS:
            continue
        word, emotion = normalised(cells[0]), words.get(normalised(cells[1]))
        if emotion is None:
            raise InputError(
                f"{where}: expected an emotion out of {', '.join(EMOTIONS)}, got {cells[1]!r}; "
                "correct the second column"
            )
        if given.setdefault(word, emotion) != emotion:
            raise InputError(
                f"{where}: expected one meaning of {cells[0]!r}, got {emotion} after "
                f"{given[word]}; remove one of the lines"
            )
    return {**words, **given}


def read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the lines of a CSV file that are not blank, each with its number.

    Raises
    ------
    InputError
        If it is not UTF-8 comma-separated text, or cannot be opened.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            return [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"expected UTF-8 comma-separated text in {path}, got: {error}; save it as CSV UTF-8"
        ) from error
    except OSError as error:
        raise InputError(
            f"expected a readable file at {path}, got: {error.strerror}; check the path"
        ) from error
