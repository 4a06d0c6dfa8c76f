"""A clean window to a named variant of it, audio and frames kept in step. Pure functions."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import cv2
import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.features.detectors import Box
from pipeline.spec import CLEAN, NOISE, AugmentationSpec, FeatureSpec


@dataclass(frozen=True)
class Change:
    """What a variant does to a window; the defaults do nothing.

    Parameters
    ----------
    pitch_semitones
        Pitch shift of the audio.
    stretch_rate
        Times faster: the window covers this many times its length of the clip.
    noise_snr_db
        Level of the audio over added white noise; None adds none.
    flip
        Whether frames are mirrored.
    contrast, brightness
        Factor around mid-grey, and shift in grey levels.
    shift_x, shift_y, zoom
        Move and resize the crop, in parts of its side.
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


def draw_change(variant: str, random: np.random.Generator, ranges: AugmentationSpec) -> Change:
    """Draw what a variant does.

    Parameters
    ----------
    variant
        ``"clean"``, or a kind (pitch, stretch, noise) with an optional number behind it.
    random
        Source of every choice.
    ranges
        What is drawn from.

    Returns
    -------
    Change
        Its kind's change of the audio; every kind but clean also changes the frames.
    """
    if variant == CLEAN:
        return Change()
    kind = variant.partition("-")[0]
    audio: dict[str, float] = {}
    if kind == "pitch":
        audio["pitch_semitones"] = random.choice([-1, 1]) * random.uniform(*ranges.pitch_semitones)
    elif kind == "stretch":
        audio["stretch_rate"] = random.uniform(*ranges.stretch_rates)
    elif kind == NOISE:
        audio["noise_snr_db"] = random.uniform(*ranges.noise_snr_db)
    else:
        raise ValueError(f"expected a variant of kind pitch, stretch or noise, got {variant!r}")
    return Change(
        **audio,
        flip=bool(random.random() < ranges.flip_probability),
        contrast=random.uniform(*ranges.contrasts),
        brightness=random.uniform(-ranges.brightness_shift, ranges.brightness_shift),
        shift_x=random.uniform(-ranges.crop_shift, ranges.crop_shift),
        shift_y=random.uniform(-ranges.crop_shift, ranges.crop_shift),
        zoom=random.uniform(*ranges.crop_zooms),
    )


def change_waveform(
    waveform: NDArray[np.float32], change: Change, random: np.random.Generator, spec: FeatureSpec
) -> NDArray[np.float32]:
    """Apply a change to a window's waveform.

    Parameters
    ----------
    waveform
        Shape (samples,): already ``stretch_rate`` times as long as the window. An empty one, of a
        window behind the end of the audio, stays empty.
    change
        What to do.
    random
        Source of the noise.
    spec
        Gives the sample rate and the resampler.

    Returns
    -------
    ndarray of float32, shape (about samples / stretch_rate,)
    """
    if waveform.size == 0:
        return waveform
    if change.pitch_semitones:
        waveform = pitch_shift(waveform, change.pitch_semitones, spec)
    if change.stretch_rate != 1.0:
        waveform = time_stretch(waveform, change.stretch_rate, spec)
    if change.noise_snr_db is not None and waveform.size:
        # An exact sum: NumPy's differs in its last bits from version to version.
        power = math.fsum(np.square(waveform, dtype=np.float64)) / len(waveform)
        level = math.sqrt(power) * 10 ** (-change.noise_snr_db / 20)
        waveform = waveform + level * random.standard_normal(len(waveform), dtype=np.float32)
    return waveform.astype(np.float32, copy=False)


def time_stretch(
    waveform: NDArray[np.float32], rate: float, spec: FeatureSpec
) -> NDArray[np.float32]:
    """Play a waveform ``rate`` times as fast at the same pitch.

    Notes
    -----
    ``librosa.effects.time_stretch`` gives the same samples, but its import brings scikit-learn and
    26 MB into every worker.
    """
    # A frame longer than the waveform is legal (librosa pads around it) but warned about.
    fft_samples = spec.augmentation.stretch_fft_samples
    padded = np.pad(waveform, (0, max(0, fft_samples - len(waveform))))
    stretched = librosa.phase_vocoder(librosa.stft(padded, n_fft=fft_samples), rate=rate)
    return librosa.istft(stretched, dtype=waveform.dtype, length=round(len(waveform) / rate))


def pitch_shift(
    waveform: NDArray[np.float32], semitones: float, spec: FeatureSpec
) -> NDArray[np.float32]:
    """Raise a waveform by some semitones at the same speed, as ``librosa.effects.pitch_shift``."""
    rate = 2.0 ** (-semitones / 12)
    shifted = librosa.resample(
        time_stretch(waveform, rate, spec),
        orig_sr=spec.sample_rate_hz / rate,
        target_sr=spec.sample_rate_hz,
        res_type=spec.resampler,
    )
    return librosa.util.fix_length(shifted, size=len(waveform))


def change_square(box: Box, change: Change) -> Box:
    """Move and resize the square that is cut out, in parts of its own size."""
    width, height = box.width * change.zoom, box.height * change.zoom
    return Box(
        box.x + box.width * change.shift_x + (box.width - width) / 2,
        box.y + box.height * change.shift_y + (box.height - height) / 2,
        width,
        height,
    )


def change_frames(frames: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """Mirror a frame tensor, shape (count, size, size, 3), and change its light.

    Missing frames, which are black, stay so.
    """
    if change.flip:
        frames = frames[:, :, ::-1]
    frames = np.ascontiguousarray(frames)
    if (change.contrast, change.brightness) == (1.0, 0.0):
        return frames
    levels = (np.arange(256) - 127.5) * change.contrast + 127.5 + change.brightness
    table = np.clip(np.round(levels), 0, 255).astype(np.uint8)
    changed = np.zeros_like(frames)
    for place, frame in zip(changed, frames, strict=True):
        if frame.any():
            cv2.LUT(frame, table, dst=place)
    return changed
