"""SAVEE: four men, 15 sentences for each of seven emotions, 30 neutral ones.

Source: Haq & Jackson 2010, "Multimodal emotion recognition", in Wang (ed.), Machine Audition.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from pipeline.corpora.corpus import Corpus, Recording

SPEAKERS = ("DC", "JE", "JK", "KL")
LABELS = {
    "a": "angry",
    "d": "disgust",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}
# The videos are numbered from 1, the wav files from 01.
NAME_PATTERN = re.compile(r"(?:(DC|JE|JK|KL)_)?(sa|su|a|d|f|h|n)(\d{1,2})", re.ASCII)


def parse(path: PurePath) -> Recording:
    """Read ``DC/a01.wav``, ``DC/a1.avi`` or ``DC_a01.wav``: speaker, emotion, sentence."""
    match = NAME_PATTERN.fullmatch(path.stem)
    speaker = match and (match[1] or path.parent.name)
    if not match or speaker not in SPEAKERS or not 1 <= int(match[3]) <= 30:
        raise ValueError("expected a name such as DC/a01, with a speaker DC, JE, JK or KL")
    return Recording(f"{speaker}/{match[2]}{int(match[3]):02d}", speaker, match[2])


CORPUS = Corpus(
    name="savee",
    title="SAVEE",
    parse=parse,
    labels=LABELS,
    speakers={speaker: number for number, speaker in enumerate(SPEAKERS, 1)},
    clips=480,
    licence="research use after registration; not to be passed on",
    citation="Haq & Jackson 2010, Multimodal Emotion Recognition, in W. Wang (ed.), Machine "
    "Audition: Principles, Algorithms and Systems, IGI Global, 398-423",
    how_to_get="register at kahlan.eps.surrey.ac.uk/savee",
)
