"""MELD: utterances of the series Friends, with video; not acted for a corpus.

Source: Poria et al. 2019, "MELD: A Multimodal Multi-Party Dataset for Emotion Recognition in
Conversations", ACL 2019.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.corpora import emotions
from pipeline.corpora.corpus import Corpus, Entry, Recording
from pipeline.errors import InputError

SPLITS = ("train", "dev", "test")
LABELS = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "joy": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprise": "surprised",
}
NAME_PATTERN = re.compile(r"(dia\d{1,5}_utt\d{1,5})", re.ASCII)
SEVERAL_PATTERN = re.compile(r"\band\b|/|^(all|both|the guys|her-friends)$", re.IGNORECASE)
SAME_ACTOR = {"ursula": "Phoebe", "dr. drake remoray": "Joey"}
"""Roles that are played by the actor of another role."""


def split_of(name: str) -> str | None:
    """Which of the three splits a folder or table is named after: each counts its own dialogues."""
    return next((split for split in SPLITS if re.search(rf"(^|_){split}(_|$)", name)), None)


def parse(path: PurePath) -> Recording:
    """Read ``train_splits/dia0_utt0.mp4``: split, dialogue, utterance."""
    match = NAME_PATTERN.fullmatch(path.stem)
    split = next(filter(None, map(split_of, reversed(path.parts[:-1]))), None)
    if not match or not split:
        raise ValueError("expected dia0_utt0 in a folder named after train, dev or test")
    return Recording(f"{split}/{match[1]}", None, None)


def read_tables(files: Sequence[Path]) -> dict[str, Entry]:
    """Read speaker and label from ``train_sent_emo.csv`` and its like."""
    order = {f"{split}_sent_emo.csv": place for place, split in enumerate(SPLITS)}
    entries: dict[str, Entry] = {}
    found = {file.name: file for file in files if file.name in order}
    for name in sorted(found, key=order.__getitem__):
        lines = emotions.read_rows(found[name])
        header = lines[0][1] if lines else []
        columns = ("Dialogue_ID", "Utterance_ID", "Speaker", "Emotion")
        if not set(columns) <= set(header):
            raise InputError(
                f"expected the columns {', '.join(columns)} in {found[name]}, got "
                f"{','.join(header)!r}; take the file as MELD publishes it"
            )
        places = [header.index(column) for column in columns]
        for _, row in lines[1:]:
            if len(row) == len(header):
                dialogue, utterance, speaker, word = (row[place].strip() for place in places)
                take = f"{split_of(name)}/dia{dialogue}_utt{utterance}"
                entries[take] = Entry(person(speaker), word.lower())
    return entries


def person(role: str) -> str:
    """Name the actor behind a role; empty where several speak."""
    if SEVERAL_PATTERN.search(role):
        return ""
    return SAME_ACTOR.get(role.casefold(), role.rstrip("."))


CORPUS = Corpus(
    name="meld",
    title="MELD",
    parse=parse,
    labels=LABELS,
    speakers={},
    clips=13_708,
    licence="annotations GPL-3.0; the clips are those of the series, for research",
    citation="Poria, Hazarika, Majumder, Naik, Cambria & Mihalcea 2019, ACL 2019, 527-536, "
    "doi:10.18653/v1/P19-1050",
    how_to_get="MELD.Raw.tar.gz, linked from github.com/declare-lab/MELD, with the three "
    "*_sent_emo.csv files",
    read_tables=read_tables,
    tables_are="train_sent_emo.csv, dev_sent_emo.csv, test_sent_emo.csv",
)
