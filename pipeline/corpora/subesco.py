"""SUBESCO: ten women and ten men, ten Bangla sentences, seven emotions, five takes; audio alone.

Source: Sultana et al. 2021, "SUST Bangla Emotional Speech Corpus (SUBESCO)", PLoS ONE 16(4):
e0250173.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from pipeline.corpora.corpus import Archive, Corpus, Recording, Zenodo, in_turn

LABELS = {
    "ANGRY": "angry",
    "DISGUST": "disgust",
    "FEAR": "fearful",
    "HAPPY": "happy",
    "NEUTRAL": "neutral",
    "SAD": "sad",
    "SURPRISE": "surprised",
}
# One file is published as F_02_MONIKA_S_2_SURPRISE_3].wav.
NAME_PATTERN = re.compile(
    r"([FM]_(?:0[1-9]|10))_([A-Z]+)_S_(10|[1-9])"
    r"_(ANGRY|DISGUST|FEAR|HAPPY|NEUTRAL|SAD|SURPRISE)_([1-5])\]?",
    re.ASCII,
)


def parse(path: PurePath) -> Recording:
    """Read a name such as ``F_02_MONIKA_S_1_NEUTRAL_5.wav``."""
    match = NAME_PATTERN.fullmatch(path.stem)
    if not match:
        raise ValueError("expected a name such as F_02_MONIKA_S_1_NEUTRAL_5")
    return Recording(path.stem.removesuffix("]"), match[1], match[4])


def archive(name: str) -> Archive | None:
    """Say what an archive of the record holds."""
    return Archive(is_audio=True, kept=1.3) if name.lower().endswith(".zip") else None


CORPUS = Corpus(
    name="subesco",
    title="SUBESCO",
    parse=parse,
    labels=LABELS,
    speakers=in_turn("{letter}_{pair:02d}", 10),
    clips=7000,
    licence="CC BY 4.0",
    citation="Sultana, Rahman, Selim & Iqbal 2021, PLoS ONE 16(4): e0250173, "
    "doi:10.1371/journal.pone.0250173",
    how_to_get="zenodo.org/records/4526477",
    source=Zenodo(4526477, archive),
)
