"""CREMA-D: 91 actors, 12 sentences, six emotions.

Source: Cao et al. 2014, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset", IEEE
Transactions on Affective Computing 5(4), 377-390; the damaged files are those of its README.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from pipeline.corpora.corpus import Corpus, GitLfs, Recording

ACTORS = range(1001, 1092)
LABELS = {
    "ANG": "angry",
    "DIS": "disgust",
    "FEA": "fearful",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}
# One level is written X in repackaged copies: 1040_ITH_SAD_X.
NAME_PATTERN = re.compile(
    r"(1\d{3})_(DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)"
    r"_(ANG|DIS|FEA|HAP|NEU|SAD)_(LO|MD|HI|XX?)",
    re.ASCII,
)


def parse(path: PurePath) -> Recording:
    """Read a name such as ``1001_DFA_ANG_XX.wav``: actor, sentence, emotion, level."""
    match = NAME_PATTERN.fullmatch(path.stem)
    if not match or int(match[1]) not in ACTORS:
        raise ValueError("expected a name such as 1001_DFA_ANG_XX, with an actor 1001-1091")
    actor, sentence, emotion, level = match.groups()
    take = f"{actor}_{sentence}_{emotion}_{level if len(level) == 2 else 'XX'}"
    return Recording(take, actor, emotion, rank=int(path.suffix.lower() == ".mp3"))


CORPUS = Corpus(
    name="crema_d",
    title="CREMA-D",
    parse=parse,
    labels=LABELS,
    speakers={str(actor): actor for actor in ACTORS},
    clips=7442,
    licence="Open Database License 1.0 (contents: Database Contents License 1.0)",
    citation="Cao, Cooper, Keutmann, Gur, Nenkova & Verma 2014, IEEE Transactions on Affective "
    "Computing 5(4), 377-390, doi:10.1109/TAFFC.2014.2336244",
    how_to_get="github.com/CheyneyComputerScience/CREMA-D, with git-lfs; its authors ask users to "
    "fill in the form that the README links to",
    damaged={
        "1064_IEO_DIS_MD.flv": "a minute of every emotion",
        "1064_TIE_SAD_XX.flv": "has no duration",
        "1076_MTI_NEU_XX.flv": "a few frames without audio",
        "1076_MTI_SAD_XX.flv": "an error picture without audio",
        "1064_IEO_DIS_MD.mp3": "a minute of every emotion",
        "1064_TIE_SAD_XX.mp3": "has no duration",
        "1076_MTI_NEU_XX.mp3": "holds no audio",
        "1076_MTI_SAD_XX.mp3": "holds no audio",
        "1076_MTI_SAD_XX.wav": "holds no audio",
    },
    source=GitLfs(
        repository="CheyneyComputerScience/CREMA-D",
        branch="master",
        folders=("AudioWAV", "VideoFlash"),
        folder_bytes=(605_899_936, 2_443_021_141),
    ),
)
