"""The sounds of speech and the two statements, as times and formant targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FINAL_LENGTHENING = 1.5
STRESS_LENGTHENING = 1.3


class Phone(NamedTuple):
    """A speech sound: where its formants are, and how much voice and hiss it has (0 ... 1)."""

    f1_hz: float
    f2_hz: float
    f3_hz: float
    seconds: float
    voice: float
    hiss: float = 0.0
    hiss_hz: float = 5000.0


PHONES = {
    "a": Phone(730, 1150, 2450, 0.095, 1.0),
    "e": Phone(530, 1800, 2480, 0.085, 0.95),
    "i": Phone(290, 2250, 2950, 0.080, 0.85),
    "o": Phone(550, 880, 2400, 0.095, 0.95),
    "u": Phone(320, 900, 2250, 0.085, 0.8),
    "@": Phone(500, 1450, 2500, 0.050, 0.8),
    "w": Phone(300, 700, 2200, 0.050, 0.5),
    "r": Phone(420, 1250, 1650, 0.055, 0.55),
    "l": Phone(360, 1150, 2650, 0.055, 0.55),
    "m": Phone(270, 1050, 2250, 0.065, 0.35),
    "n": Phone(270, 1650, 2600, 0.060, 0.35),
    "b": Phone(220, 900, 2300, 0.060, 0.10, 0.02, 1500),
    "d": Phone(220, 1700, 2600, 0.050, 0.10, 0.10, 4000),
    "g": Phone(220, 1900, 2300, 0.055, 0.10, 0.08, 2200),
    "t": Phone(350, 1750, 2650, 0.065, 0.0, 0.22, 4500),
    "k": Phone(350, 1850, 2300, 0.070, 0.0, 0.20, 2500),
    "s": Phone(350, 1700, 2600, 0.095, 0.0, 0.30, 6500),
    "z": Phone(280, 1700, 2600, 0.070, 0.30, 0.14, 6000),
}
# One letter a phone; ' stresses the vowel after it, a space may become a pause.
STATEMENTS = ("d'an iz m'eikin br'ed b@ n'un", "g'usen @r w'okin in t@ r'oum")


def sequence(
    statement: str, tempo: float, pause_seconds: float, rng: np.random.Generator
) -> tuple[list[Phone], np.ndarray, np.ndarray]:
    """Read a statement aloud on paper.

    Returns
    -------
    phones, ends_seconds, stresses_seconds
        The sounds, when each of them ends (counted from the first), and the middles of the
        stressed vowels.
    """
    phones: list[Phone] = []
    durations: list[float] = []
    stressed: list[int] = []
    stress = False
    for letter in statement:
        if letter == "'":
            stress = True
        elif letter == " ":
            if rng.random() < 0.5:
                # A rest keeps the tongue where it is and only stops the voice.
                phones.append(phones[-1]._replace(voice=0.0, hiss=0.0))
                durations.append(pause_seconds * rng.uniform(0.4, 1.2))
        else:
            phone = PHONES[letter]
            longer = STRESS_LENGTHENING if stress and phone.voice > 0.7 else 1.0
            if longer > 1.0:
                stressed.append(len(phones))
                stress = False
            phones.append(phone)
            durations.append(phone.seconds * longer * rng.normal(1.0, 0.08) / tempo)
    durations[-2] *= FINAL_LENGTHENING
    durations[-1] *= FINAL_LENGTHENING
    ends = np.cumsum(durations)
    middles = ends[stressed] - np.asarray(durations)[stressed] / 2
    return phones, ends, middles
