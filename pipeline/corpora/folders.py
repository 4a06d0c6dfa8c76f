"""Any recordings that are sorted into a folder for each emotion; the user says who speaks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from pipeline.corpora import emotions
from pipeline.corpora.corpus import Corpus, Recording
from pipeline.errors import InputError

NAME = "folders"


def corpus(words: Mapping[str, str], speaker: str | None) -> Corpus:
    """Describe folders that are named after emotions.

    Parameters
    ----------
    words
        Normalised name of a folder to emotion, see :mod:`pipeline.corpora.emotions`.
    speaker
        Regular expression, searched in the path below the raw folder; its first group is the
        speaker. None only tells whether the folders are named so.

    Raises
    ------
    InputError
        If it is no regular expression with a group.
    """
    rule = compile_rule(speaker) if speaker is not None else None

    def parse(path: PurePath) -> Recording:
        folders = map(emotions.normalised, reversed(path.parts[:-1]))
        word = next((folder for folder in folders if folder in words), None)
        if word is None:
            raise ValueError("expected a folder named after an emotion")
        match = rule.search(path.as_posix()) if rule else None
        if rule and not (match and match[1]):
            raise ValueError(f"expected a speaker by the rule {speaker!r}, got none")
        return Recording(path.with_suffix("").as_posix(), match and match[1], word)

    return Corpus(
        name=NAME,
        title="a folder for each emotion",
        parse=parse,
        labels=words,
        speakers={},
        clips=0,
        licence="as the recordings have it",
        citation="",
        how_to_get="your own recordings",
    )


def compile_rule(speaker: str) -> re.Pattern[str]:
    """Compile the user's rule for the speaker."""
    try:
        rule = re.compile(speaker)
    except re.error as error:
        raise InputError(
            f"expected a regular expression for --speaker, got {speaker!r} ({error}); correct it"
        ) from error
    if not rule.groups:
        raise InputError(
            f"expected a group in the regular expression for --speaker, got {speaker!r}; put the "
            "speaker in parentheses, such as '/([a-z]+)_'"
        )
    return rule
