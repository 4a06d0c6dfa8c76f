"""What an emotion does to a voice and to a face, and how far actors and takes stray from it.

Two tables of targets, one function that performs a take of either. The two channels stray towards
different neighbours, so that each leaves doubts which the other settles.

The voice's columns follow the acoustic profiles reviewed by Juslin & Laukka (2003); the face's are
action units of the Facial Action Coding System (Ekman & Friesen 1978) in the prototypes of EMFACS.
The amounts are our own and chosen for a task of moderate difficulty, not measured on people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.spec import EMOTIONS

STRENGTHS = {1: 0.8, 2: 1.1}
STRENGTH_SPREAD = 0.15
WEAK_PROBABILITY, WEAK_STRENGTH = 0.12, 0.45
MIXED_PROBABILITY, MIXED_SHARE = 0.25, (0.25, 0.65)
HABIT_SPREADS, TAKE_SPREADS = 0.5, 1.0


class Manner(NamedTuple):
    """How something is said, as differences from plain speech."""

    pitch_semitones: float
    accent_semitones: float
    slope_semitones: float
    loudness_db: float
    tempo_percent: float
    brightness_octaves: float
    breath_db: float
    tremor_semitones: float
    jitter_percent: float
    smile_percent: float


MANNERS = {
    "neutral": Manner(0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    "calm": Manner(-1.0, -0.8, 0.3, -2.2, -8, -0.3, 4, 0, 0, 3),
    "happy": Manner(4.5, 2.8, 1.5, 5.0, 8, 0.9, -2, 0, 0, 8),
    "sad": Manner(-0.4, -1.2, -1.5, -5.0, -14, -0.8, 6, 0.35, 0.5, -3),
    "angry": Manner(3.8, 2.2, -2.0, 8.5, 3, 1.35, -3, 0.05, 1.2, -1),
    "fearful": Manner(6.5, -0.8, 1.0, 2.0, 14, 0.1, 6, 0.8, 0.8, -1),
    "disgust": Manner(-1.5, 1.5, -3.0, 1.5, -16, 0.4, 1, 0.1, 1.4, -5),
    "surprised": Manner(7.5, 4.2, 6.0, 3.0, -2, 0.2, 5, 0, 0.1, 2),
}
MANNER_SPREAD = Manner(1.0, 0.7, 1.05, 1.6, 4.4, 0.2, 1.5, 0.1, 0.25, 1.6)
VOICE_NEIGHBOURS = {
    "neutral": "calm",
    "calm": "sad",
    "happy": "angry",
    "sad": "calm",
    "angry": "happy",
    "fearful": "sad",
    "disgust": "neutral",
    "surprised": "happy",
}


class ActionUnits(NamedTuple):
    """How far each group of facial muscles is drawn in, 0 ... 1."""

    inner_brow_raise: float
    outer_brow_raise: float
    brow_lower: float
    upper_lid_raise: float
    lid_tighten: float
    cheek_raise: float
    nose_wrinkle: float
    upper_lip_raise: float
    lip_corner_pull: float
    lip_corner_depress: float
    lip_stretch: float
    lip_press: float
    chin_raise: float
    jaw_open: float


# Columns: brows (in, out, low), lids (up, tight), cheek, nose, lips (up, pull, depress, stretch,
# press), chin, jaw.
EXPRESSIONS = {
    "neutral": ActionUnits(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "calm": ActionUnits(0.05, 0.05, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0, 0.28, 0.0, 0.0, 0.1, 0.0, 0.0),
    "happy": ActionUnits(0.1, 0.15, 0.0, 0.1, 0.2, 0.6, 0.0, 0.2, 0.85, 0.0, 0.1, 0.0, 0.0, 0.3),
    "sad": ActionUnits(0.65, 0.0, 0.25, 0.0, 0.1, 0.1, 0.0, 0.0, 0.0, 0.6, 0.1, 0.1, 0.45, 0.0),
    "angry": ActionUnits(0.0, 0.1, 0.85, 0.35, 0.55, 0.1, 0.25, 0.1, 0.0, 0.15, 0.1, 0.5, 0.2, 0.1),
    "fearful": ActionUnits(0.7, 0.45, 0.35, 0.7, 0.1, 0.0, 0.0, 0.1, 0.0, 0.1, 0.6, 0.0, 0.0, 0.3),
    "disgust": ActionUnits(0.0, 0.0, 0.5, 0.0, 0.4, 0.3, 0.8, 0.65, 0.0, 0.35, 0.0, 0.0, 0.2, 0.1),
    "surprised": ActionUnits(
        0.7, 0.8, 0.0, 0.75, 0.0, 0.0, 0.0, 0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.55
    ),
}
EXPRESSION_SPREAD = ActionUnits(*[0.19] * len(ActionUnits._fields))
FACE_NEIGHBOURS = {
    "neutral": "calm",
    "calm": "neutral",
    "happy": "surprised",
    "sad": "fearful",
    "angry": "disgust",
    "fearful": "surprised",
    "disgust": "angry",
    "surprised": "fearful",
}


def draw_habits(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Return an actor's own way with each emotion, in spreads, (emotions, columns)."""
    return HABIT_SPREADS * rng.standard_normal((len(EMOTIONS), columns))


def perform_voice(
    emotion: str,
    intensity: int,
    expressiveness: float,
    habits: np.ndarray,
    rng: np.random.Generator,
) -> Manner:
    """Return one take's manner of speaking; see `_perform`."""
    return Manner(
        *_perform(
            (MANNERS, VOICE_NEIGHBOURS, MANNER_SPREAD),
            emotion,
            expressiveness * STRENGTHS[intensity],
            habits,
            rng,
        )
    )


def perform_face(
    emotion: str,
    intensity: int,
    expressiveness: float,
    habits: np.ndarray,
    rng: np.random.Generator,
) -> ActionUnits:
    """Return one take's expression at its apex, each unit in [0, 1]; see `_perform`."""
    units = _perform(
        (EXPRESSIONS, FACE_NEIGHBOURS, EXPRESSION_SPREAD),
        emotion,
        expressiveness * STRENGTHS[intensity],
        habits,
        rng,
    )
    return ActionUnits(*np.clip(units, 0.0, 1.0))


def _perform(
    channel: tuple[Mapping[str, tuple], Mapping[str, str], tuple],
    emotion: str,
    strength: float,
    habits: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return a target, made stronger or weaker, perhaps mixed with its neighbour, and noisy."""
    targets, neighbours, spread = channel
    strength *= np.exp(STRENGTH_SPREAD * rng.standard_normal())
    if rng.random() < WEAK_PROBABILITY:
        strength *= WEAK_STRENGTH
    share = rng.uniform(*MIXED_SHARE) if rng.random() < MIXED_PROBABILITY else 0.0
    target = np.asarray(targets[emotion]), np.asarray(targets[neighbours[emotion]])
    mixed = (1.0 - share) * target[0] + share * target[1]
    stray = habits[EMOTIONS.index(emotion)] + TAKE_SPREADS * rng.standard_normal(len(mixed))
    return strength * mixed + np.asarray(spread) * stray
