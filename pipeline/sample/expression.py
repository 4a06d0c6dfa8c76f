"""How a take's expression, its blinks and the head's movement run in time."""

from __future__ import annotations

import numpy as np

from pipeline.sample.acting import ActionUnits
from pipeline.sample.face import Pose

BLINK_SECONDS = 0.09
SPEECH_JAW = 0.5


def course(
    times_seconds: np.ndarray, start_seconds: float, end_seconds: float, rng: np.random.Generator
) -> np.ndarray:
    """Return how much of the expression shows, (times,) in [0, 1]: onset, apex, offset.

    It comes shortly before speech starts and fades after speech ends.
    """
    onset = start_seconds + rng.uniform(-0.45, -0.15)
    offset = end_seconds + rng.uniform(-0.1, 0.2)
    rising = _smooth((times_seconds - onset) / rng.uniform(0.3, 0.55))
    falling = 1.0 - rng.uniform(0.5, 0.9) * _smooth((times_seconds - offset) / 0.5)
    wave = 1.0 - 0.08 * (1 + np.sin(2 * np.pi * (rng.uniform(0.4, 0.9) * times_seconds)))
    return rising * falling * wave


def _smooth(position: np.ndarray) -> np.ndarray:
    position = np.clip(position, 0.0, 1.0)
    return position**2 * (3.0 - 2.0 * position)


def moving_units(
    apex: ActionUnits, shown: np.ndarray, loudness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return the action units of every frame, (times, units) in [0, 1].

    Parameters
    ----------
    apex
        The take's full expression.
    shown
        How much of it shows, (times,); see `course`.
    loudness
        The voice's loudness, (times,) in [0, 1], which moves the jaw and works the lips.
    rng
        The take's generator.
    """
    units = shown[:, np.newaxis] * np.asarray(apex)
    units += 0.02 * _drift(len(shown), units.shape[1], rng)
    talk = np.convolve(loudness, (0.25, 0.5, 0.25), mode="same") ** 0.8
    fields = ActionUnits._fields
    jaw, stretch, press = (fields.index(name) for name in ("jaw_open", "lip_stretch", "lip_press"))
    units[:, jaw] = 0.7 * units[:, jaw] + SPEECH_JAW * talk
    units[:, stretch] += 0.15 * talk * np.abs(_drift(len(shown), 1, rng)[:, 0])
    units[:, press] *= 1.0 - 0.8 * talk
    return np.clip(units, 0.0, 1.0)


def _drift(count: int, columns: int, rng: np.random.Generator) -> np.ndarray:
    """Return slow noise of about unit size, (count, columns): a knot every 15 frames."""
    knots = rng.standard_normal((count // 15 + 3, columns))
    position = np.arange(count) / 15
    whole = position.astype(int)
    part = _smooth(position - whole)[:, np.newaxis]
    return (1 - part) * knots[whole] + part * knots[whole + 1]


def blinks(times_seconds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return how far the eyes are shut, (times,) in [0, 1]."""
    shut = np.zeros(len(times_seconds))
    moment = rng.uniform(0.1, 2.0)
    while moment < times_seconds[-1]:
        shut = np.maximum(shut, 1.2 - np.abs(times_seconds - moment) / BLINK_SECONDS)
        moment += rng.uniform(1.2, 3.5)
    return np.clip(shut, 0.0, 1.0)


def poses(loudness: np.ndarray, tilt_degrees: float, rng: np.random.Generator) -> list[Pose]:
    """Return where the head is in every frame: it drifts, and nods a little with the voice."""
    drift = _drift(len(loudness), 4, rng)
    nod = np.convolve(loudness, np.full(9, 1 / 9), mode="same")
    offset = rng.normal(0, (6.0, 3.0, 1.2, 0.025))
    offset[2] += tilt_degrees
    offset[3] = np.clip(offset[3], -0.05, 0.05)
    tracks = offset + drift * (3.0, 1.8, 1.1, 0.008)
    return [
        Pose(x, y + 3.0 * down, roll, 1.0 + size)
        for (x, y, roll, size), down in zip(tracks, nod, strict=True)
    ]


def gazes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return where the eyes look, (count,), -1 (left) ... 1 (right), mostly ahead."""
    return np.clip(0.35 * _drift(count, 1, rng)[:, 0], -1.0, 1.0)
