"""A clean window to a named variant of it, sound and pictures kept in step. Pure functions."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.features.faces import Box
from pipeline.spec import CLEAN, NOISE, FeatureSpec

PITCH_SEMITONES = (0.5, 2.5)
"""Size of a pitch shift, up or down: audible, and within one speaker's range."""

STRETCH_RATES = (0.8, 1.25)
"""Speed-up by which a stretched variant is heard and seen."""

NOISE_SNR_DB = (8.0, 25.0)
"""Level of the voice above the added white noise."""

CONTRASTS = (0.75, 1.3)
BRIGHTNESS_SHIFT = 30.0
"""Largest brightness change, in grey levels of 255."""

CROP_SHIFT = 0.06
"""Largest shift of the crop, as a part of the face's side."""

CROP_ZOOMS = (0.92, 1.1)


@dataclass(frozen=True)
class Change:
    """What a variant does to a window; the defaults do nothing.

    Parameters
    ----------
    pitch_semitones
        Pitch shift of the sound.
    stretch_rate
        Times faster: the window covers this many times its length of the clip.
    noise_snr_db
        Level of the sound over added white noise; None adds none.
    flip
        Whether pictures are mirrored.
    contrast, brightness
        Factor around mid-grey, and shift in grey levels.
    shift_x, shift_y, zoom
        Move and resize the crop, in parts of the face's side.
    """

    pitch_semitones: float = 0.0
    stretch_rate: float = 1.0
    noise_snr_db: float | None = None
    flip: bool = False
    contrast: float = 1.0
    brightness: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    zoom: float = 1.0


def generator(clip_id: str, variant: str, spec: FeatureSpec) -> np.random.Generator:
    """Return the random generator of one variant of one clip: the same wherever it is made."""
    identity = f"{clip_id}\n{variant}\n{spec.digest}"
    return np.random.default_rng(list(hashlib.sha256(identity.encode()).digest()))


def draw_change(variant: str, random: np.random.Generator) -> Change:
    """Draw what a variant does.

    Parameters
    ----------
    variant
        ``"clean"``, or a kind (pitch, stretch, noise) with an optional number behind it.
    random
        Source of every choice.

    Returns
    -------
    Change
        Its kind's change of the sound; every kind but clean also changes the pictures.
    """
    if variant == CLEAN:
        return Change()
    kind = variant.partition("-")[0]
    sound: dict[str, float] = {}
    if kind == "pitch":
        sound["pitch_semitones"] = random.choice([-1, 1]) * random.uniform(*PITCH_SEMITONES)
    elif kind == "stretch":
        sound["stretch_rate"] = random.uniform(*STRETCH_RATES)
    elif kind == NOISE:
        sound["noise_snr_db"] = random.uniform(*NOISE_SNR_DB)
    else:
        raise ValueError(f"expected a variant of kind pitch, stretch or noise, got {variant!r}")
    return Change(
        **sound,
        flip=bool(random.random() < 0.5),
        contrast=random.uniform(*CONTRASTS),
        brightness=random.uniform(-BRIGHTNESS_SHIFT, BRIGHTNESS_SHIFT),
        shift_x=random.uniform(-CROP_SHIFT, CROP_SHIFT),
        shift_y=random.uniform(-CROP_SHIFT, CROP_SHIFT),
        zoom=random.uniform(*CROP_ZOOMS),
    )


def change_sound(
    sound: NDArray[np.float32], change: Change, random: np.random.Generator, sample_rate_hz: int
) -> NDArray[np.float32]:
    """Apply a change to a window's sound.

    Parameters
    ----------
    sound
        Shape (samples,): already ``stretch_rate`` times as long as the window.
    change
        What to do.
    random
        Source of the noise.
    sample_rate_hz
        Rate of the sound.

    Returns
    -------
    ndarray of float32, shape (about samples / stretch_rate,)
    """
    if change.pitch_semitones:
        sound = pitch_shift(sound, change.pitch_semitones, sample_rate_hz)
    if change.stretch_rate != 1.0:
        sound = time_stretch(sound, change.stretch_rate)
    if change.noise_snr_db is not None:
        # An exact sum: NumPy's differs in its last bits from version to version.
        power = math.fsum(np.square(sound, dtype=np.float64)) / len(sound)
        level = math.sqrt(power) * 10 ** (-change.noise_snr_db / 20)
        sound = sound + level * random.standard_normal(len(sound), dtype=np.float32)
    return sound.astype(np.float32, copy=False)


def time_stretch(sound: NDArray[np.float32], rate: float) -> NDArray[np.float32]:
    """Play a sound ``rate`` times as fast at the same pitch.

    Notes
    -----
    ``librosa.effects.time_stretch`` gives the same samples, but its import brings scikit-learn and
    26 MB into every worker.
    """
    stretched = librosa.phase_vocoder(librosa.stft(sound), rate=rate)
    return librosa.istft(stretched, dtype=sound.dtype, length=round(len(sound) / rate))


def pitch_shift(
    sound: NDArray[np.float32], semitones: float, sample_rate_hz: int
) -> NDArray[np.float32]:
    """Raise a sound by some semitones at the same speed, as ``librosa.effects.pitch_shift``."""
    rate = 2.0 ** (-semitones / 12)
    shifted = librosa.resample(
        time_stretch(sound, rate), orig_sr=sample_rate_hz / rate, target_sr=sample_rate_hz
    )
    return librosa.util.fix_length(shifted, size=len(sound))


def change_box(box: Box, change: Change) -> Box:
    """Move and resize a box, in parts of its own size."""
    width, height = box.width * change.zoom, box.height * change.zoom
    return Box(
        box.x + box.width * change.shift_x + (box.width - width) / 2,
        box.y + box.height * change.shift_y + (box.height - height) / 2,
        width,
        height,
    )


def change_frames(frames: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """Mirror a frame tensor, shape (count, size, size, 3), and change its light.

    Frames without a picture stay black.
    """
    if change.flip:
        frames = frames[:, :, ::-1]
    if (change.contrast, change.brightness) == (1.0, 0.0):
        return np.ascontiguousarray(frames)
    levels = (np.arange(256) - 127.5) * change.contrast + 127.5 + change.brightness
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    shown = frames.any(axis=(1, 2, 3), keepdims=True)
    return np.where(shown, table[frames], 0).astype(np.uint8)
