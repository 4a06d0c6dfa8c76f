"""RAVDESS: how its files are named and what it consists of.

Source: Livingstone & Russo 2018, "The Ryerson Audio-Visual Database of Emotional Speech and Song
(RAVDESS)", PLoS ONE 13(5): e0196391.
"""

from __future__ import annotations

import itertools
import re
from typing import NamedTuple

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

    @property
    def emotion_name(self) -> str:
        """One of :data:`pipeline.spec.EMOTIONS`, which are in the order of this field."""
        return EMOTIONS[int(self.emotion) - 1]


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
