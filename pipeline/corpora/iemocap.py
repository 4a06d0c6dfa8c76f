"""IEMOCAP: five sessions of a woman and a man in dialogue, cut into utterances.

Source: Busso et al. 2008, "IEMOCAP: interactive emotional dyadic motion capture database",
Language Resources and Evaluation 42(4), 335-359.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from pipeline.corpora.corpus import Corpus, Entry, Recording, in_turn
from pipeline.errors import InputError

LABELS = {
    "ang": "angry",
    "dis": "disgust",
    # The usual merger of published results: excited counts as happy.
    "exc": "happy",
    "fea": "fearful",
    "hap": "happy",
    "neu": "neutral",
    "sad": "sad",
    "sur": "surprised",
}
NAME_PATTERN = re.compile(
    r"Ses0([1-5])[FM]_(?:impro|script)\d\d(?:_\d)?[a-z]?_([FM])\d{3}", re.ASCII
)
LINE_PATTERN = re.compile(r"\[[^\]]*\]\t(Ses0\w+)\t([a-z]{3})\t", re.ASCII)


def parse(path: PurePath) -> Recording:
    """Read a name such as ``Ses01F_impro04_M000.wav``.

    The first letter says who wore markers, the last one who speaks: this is the man of session 1.
    """
    match = NAME_PATTERN.fullmatch(path.stem)
    if not match:
        raise ValueError("expected an utterance such as Ses01F_impro04_F000")
    return Recording(path.stem, match[1] + match[2], None)


def read_tables(files: Sequence[Path]) -> dict[str, Entry]:
    """Read the label of each utterance from the files directly in ``EmoEvaluation``."""
    entries = {}
    for file in files:
        if file.parent.name == "EmoEvaluation" and file.suffix.lower() == ".txt":
            try:
                lines = file.read_text(encoding="latin-1").splitlines()
            except OSError as error:
                raise InputError(
                    f"expected a readable file at {file}, got: {error.strerror}; check it"
                ) from error
            for match in filter(None, map(LINE_PATTERN.match, lines)):
                entries[match[1]] = Entry(None, match[2])
    return entries


CORPUS = Corpus(
    name="iemocap",
    title="IEMOCAP",
    parse=parse,
    labels=LABELS,
    speakers=in_turn("{pair}{letter}", 5),
    clips=10_039,
    licence="research use after a signed agreement; not to be passed on",
    citation="Busso et al. 2008, Language Resources and Evaluation 42(4), 335-359, "
    "doi:10.1007/s10579-008-9076-6",
    how_to_get="ask for it at sail.usc.edu/iemocap",
    left_out={"fru": "frustrated", "oth": "other", "xxx": "no agreement"},
    read_tables=read_tables,
    tables_are="Session*/dialog/EmoEvaluation/*.txt",
)
