"""RAVDESS: how its files are named and what it consists of.

Source: Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of Emotional Speech and Song
(RAVDESS)", PLoS ONE 13(5): e0196391.
"""

from __future__ import annotations

import functools
import itertools
import re
from pathlib import PurePath
from typing import NamedTuple

from pipeline.corpora.corpus import Archive, Corpus, Recording, WrongFolder, Zenodo
from pipeline.spec import EMOTIONS

CHANNELS = {"speech": "01", "song": "02"}
CHANNEL_ACTORS = {"speech": range(1, 25), "song": (*range(1, 18), *range(19, 25))}
CHANNEL_EMOTIONS = {"speech": 8, "song": 6}
"""Actor 18 has no songs; nobody sings disgust or surprise."""

FULL_AV, VIDEO_ONLY, AUDIO_ONLY = "01", "02", "03"
VIDEO_PREFERENCE = (FULL_AV, AUDIO_ONLY, VIDEO_ONLY)
"""Which video of a take is used: one with audio if there is one. Repackaged corpora have videos
that are named as audio."""

NAME_PATTERN = re.compile(r"\d{2}(-\d{2}){6}", re.ASCII)
TAKE_PATTERN = re.compile(r"\d{2}(-\d{2}){5}", re.ASCII)
FIELD_LIMITS = (3, 2, 8, 2, 2, 2, 24)
ACTOR_FOLDER_PATTERN = re.compile(r"actor[_ -]?(\d+)$", re.IGNORECASE | re.ASCII)
ARCHIVE_PATTERN = re.compile(
    r"(?:(Audio)_(Speech|Song)_Actors_01-24|Video_(Speech|Song)_Actor_(\d\d))\.zip", re.ASCII
)


class Name(NamedTuple):
    """The seven fields of a file name, two digits each."""

    modality: str
    channel: str
    emotion: str
    intensity: str
    statement: str
    repetition: str
    actor: str

    @property
    def take(self) -> str:
        """What the files of one take have in common: all fields but the modality."""
        return "-".join(self[1:])


def parse_name(stem: str) -> Name:
    """Split a file name without its suffix, such as ``"01-01-08-02-01-01-19"``, into its fields.

    Raises
    ------
    ValueError
        If it does not have seven two-digit fields in their ranges.
    """
    if not NAME_PATTERN.fullmatch(stem):
        raise ValueError("expected seven two-digit fields joined by hyphens")
    name = Name(*stem.split("-"))
    for field, value, limit in zip(Name._fields, name, FIELD_LIMITS, strict=True):
        if not 1 <= int(value) <= limit:
            raise ValueError(f"expected {field} 01-{limit:02d}, got {value}")
    return name


def promises_audio(stem: str) -> bool:
    """Whether a file of this name, without its suffix, should have an audio track."""
    return bool(NAME_PATTERN.fullmatch(stem)) and not stem.startswith(f"{VIDEO_ONLY}-")


def parse(path: PurePath) -> Recording:
    """Read a path whose file is named by RAVDESS' rule; its folders may name the actor too."""
    name = parse_name(path.stem)
    actor = folders_actor(path.parts[:-1])
    if actor not in (None, int(name.actor)):
        raise WrongFolder(f"named actor {name.actor} but in a folder of actor {actor:02d}")
    part = next(part for part, code in CHANNELS.items() if code == name.channel)
    rank = VIDEO_PREFERENCE.index(name.modality)
    return Recording(name.take, name.actor, name.emotion, part, rank)


@functools.lru_cache
def folders_actor(folders: tuple[str, ...]) -> int | None:
    """Actor that the innermost of these folders is named after, None without one."""
    return next(
        (actor for folder in reversed(folders) if (actor := folder_actor(folder)) is not None), None
    )


def archive(name: str) -> Archive | None:
    """Say what an archive of the record holds; None for a file that is not needed.

    A video archive holds every take twice, with audio and silent.
    """
    match = ARCHIVE_PATTERN.fullmatch(name)
    if not match:
        return None
    audio, audio_part, video_part, actor = match.groups()
    if audio:
        return Archive(is_audio=True, part=audio_part.lower(), kept=2.6)
    return Archive(is_audio=False, part=video_part.lower(), actor=int(actor), kept=0.55)


def folder_actor(folder: str) -> int | None:
    """Actor that a folder such as ``Video_Speech_Actor_05`` is named after, None without one."""
    match = ACTOR_FOLDER_PATTERN.search(folder)
    return int(match.group(1)) if match else None


def published_takes(channel: str) -> dict[int, list[str]]:
    """List every take of a channel by actor: 60 spoken ones each, 44 sung ones.

    Neutral has one intensity, every other emotion two.
    """
    code = CHANNELS[channel]
    return {
        actor: [
            f"{code}-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
            for emotion in range(1, CHANNEL_EMOTIONS[channel] + 1)
            for intensity, statement, repetition in itertools.product((1, 2), repeat=3)
            if not (emotion == 1 and intensity == 2)
        ]
        for actor in CHANNEL_ACTORS[channel]
    }


CORPUS = Corpus(
    name="ravdess",
    title="RAVDESS",
    parse=parse,
    # The codes are in the order of our emotions.
    labels={f"{number:02d}": emotion for number, emotion in enumerate(EMOTIONS, 1)},
    speakers={f"{actor:02d}": actor for actor in range(1, 25)},
    clips=2452,
    licence="CC BY-NC-SA 4.0",
    citation="Livingstone & Russo 2018, The Ryerson Audio-Visual Database of Emotional Speech and "
    "Song (RAVDESS), PLoS ONE 13(5): e0196391, doi:10.1371/journal.pone.0196391",
    how_to_get="zenodo.org/records/1188976",
    parts=tuple(CHANNELS),
    source=Zenodo(1188976, archive),
)
