"""A small speech synthesiser: a glottal source, a moving vocal tract, and a manner of speaking.

The source-filter model of Fant (1960): pulses and breath pass through a cascade of formant
resonators (Klatt 1980, "Software for a cascade/parallel formant synthesizer"); hiss is
added beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

from pipeline.sample import phones
from pipeline.sample.acting import Manner

SAMPLE_RATE_HZ = 48_000
BLOCK_SAMPLES = 240
BLOCKS_PER_SECOND = SAMPLE_RATE_HZ // BLOCK_SAMPLES
UPPER_FORMANTS_HZ = (3500.0, 4500.0)
LONGEST_SPEECH_SECONDS = 2.2
BANDWIDTHS_HZ = (80.0, 100.0, 140.0, 220.0, 300.0)


@dataclass(frozen=True)
class Speaker:
    """What an actor's voice keeps from take to take."""

    base_pitch_hz: float
    tract_scale: float
    peak: float
    open_quotient: float
    tilt_hz: float
    breath_db: float
    tempo: float
    expressiveness: float


@dataclass(frozen=True)
class Utterance:
    """A recording and when speech starts and ends in it, in seconds."""

    waveform: np.ndarray
    start_seconds: float
    end_seconds: float


def draw_speaker(female: bool, rng: np.random.Generator) -> Speaker:
    """Return a random voice; female ones are higher and have a shorter vocal tract."""
    return Speaker(
        base_pitch_hz=(200 if female else 115) * 2 ** rng.normal(0, 0.14),
        tract_scale=(1.15 if female else 1.0) * rng.uniform(0.965, 1.035),
        peak=rng.uniform(0.16, 0.28),
        open_quotient=rng.uniform(0.5, 0.7),
        tilt_hz=1400 * 2 ** rng.normal(0, 0.2),
        breath_db=rng.uniform(-36, -31),
        tempo=rng.uniform(0.92, 1.1),
        expressiveness=rng.uniform(0.9, 1.2),
    )


def glottal_flow(
    pitch_hz: np.ndarray, open_quotient: float, shimmer: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the glottal flow's derivative and an open-or-shut envelope, both (samples,).

    The pulse is Klatt & Klatt's (1990) polynomial: t^2 - t^3 while the glottis is open.
    """
    phase = np.cumsum(pitch_hz / SAMPLE_RATE_HZ)
    cycle = phase.astype(np.int64)
    opened = (phase - cycle) / open_quotient
    is_open = opened < 1.0
    pulse = np.where(is_open, 2 * opened - 3 * opened**2, 0.0)
    gain = 1.0 + shimmer * rng.standard_normal(cycle[-1] + 1)
    return pulse * gain[cycle], np.where(is_open, 1.0, 0.35)


def through_tract(excitation: np.ndarray, formants_hz: np.ndarray, widen: float) -> np.ndarray:
    """Filter (samples,) by resonators that move every block, `formants_hz` (blocks, formants)."""
    decay = np.exp(-np.pi * widen * np.asarray(BANDWIDTHS_HZ) / SAMPLE_RATE_HZ)
    a1 = -2 * decay * np.cos(2 * np.pi * formants_hz / SAMPLE_RATE_HZ)
    a2 = np.broadcast_to(decay**2, a1.shape)
    zeros, ones = np.zeros_like(a1), np.ones_like(a1)
    sections = np.stack([1 + a1 + a2, zeros, zeros, ones, a1, a2], axis=-1)
    state = np.zeros((formants_hz.shape[1], 2))
    blocks = excitation.reshape(len(formants_hz), BLOCK_SAMPLES)
    output = np.empty_like(blocks)
    for index, block in enumerate(blocks):
        output[index], state = signal.sosfilt(sections[index], block, zi=state)
    return output.reshape(-1)


def _smoothed(track: np.ndarray, seconds: float) -> np.ndarray:
    window = np.hanning(max(3, round(seconds * BLOCKS_PER_SECOND)) + 2)
    window = (window / window.sum()).reshape((-1,) + (1,) * (track.ndim - 1))
    padding = [(len(window) // 2, (len(window) - 1) // 2)] + [(0, 0)] * (track.ndim - 1)
    return signal.fftconvolve(np.pad(track, padding, mode="edge"), window, "valid", axes=0)


def _per_sample(track: np.ndarray) -> np.ndarray:
    samples = np.arange(len(track) * BLOCK_SAMPLES)
    return np.interp(samples / BLOCK_SAMPLES, np.arange(len(track)), track)


def _pitch_track(
    speaker: Speaker,
    manner: Manner,
    seconds: float,
    stresses_seconds: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the pitch in Hz, (blocks,): declination, accents, tremor, drift and jitter."""
    time = np.arange(round(seconds * BLOCKS_PER_SECOND)) / BLOCKS_PER_SECOND
    progress = time / seconds
    semitones = manner.pitch_semitones - 3.0 * progress
    semitones += manner.slope_semitones * progress**2
    accent = max(0.3, 2.5 + manner.accent_semitones)
    for middle in stresses_seconds:
        height = accent * rng.uniform(0.6, 1.2)
        semitones += height * np.exp(-0.5 * ((time - middle) / 0.09) ** 2)
    tremor = max(0.0, manner.tremor_semitones)
    semitones += tremor * np.sin(2 * np.pi * (rng.uniform(5, 7.5) * time + rng.random()))
    semitones += 2.0 * _smoothed(rng.standard_normal(len(time)), 0.4)
    jitter = np.clip(0.7 + manner.jitter_percent, 0.3, 3.0) / 100
    jitter_factor = 1.0 + jitter * rng.standard_normal(len(time))
    return speaker.base_pitch_hz * 2 ** (semitones / 12) * jitter_factor


def speak(speaker: Speaker, manner: Manner, statement: str, rng: np.random.Generator) -> Utterance:
    """Say a statement, with silence around it as in a recording booth.

    Returns
    -------
    Utterance
        Its waveform is float32 (samples,), 48 kHz, 2.8 ... 3.8 s long, in [-0.9, 0.9].
    """
    tempo = speaker.tempo * np.exp(np.clip(manner.tempo_percent, -25, 25) / 100)
    pause = np.interp(manner.tempo_percent, (-20, 20), (0.14, 0.04))
    sounds, ends, stresses = phones.sequence(statement, tempo, pause, rng)
    hurry = min(1.0, LONGEST_SPEECH_SECONDS / ends[-1])
    ends, stresses = ends * hurry, stresses * hurry
    blocks = round((ends[-1] + 0.06) * BLOCKS_PER_SECOND)
    time = np.arange(blocks) / BLOCKS_PER_SECOND
    spoken = np.array(sounds)[np.minimum(np.searchsorted(ends, time), len(sounds) - 1)]
    formants = _smoothed(spoken[:, :3], 0.06) * (1 + manner.smile_percent / 100)
    upper = np.broadcast_to(UPPER_FORMANTS_HZ, (blocks, 2))
    formants = np.hstack([formants, upper]) * speaker.tract_scale
    # Each sound is voiced or hissed within a block or two; the ends fade.
    fade = np.clip(np.minimum(time, time[-1] - time) / 0.04, 0, 1)
    voice = _smoothed(spoken[:, 4], 0.025) * fade * 10 ** (-4.0 * time / time[-1] / 20)
    hiss = _smoothed(spoken[:, 5], 0.02) * fade

    pitch = _pitch_track(speaker, manner, time[-1] + 1 / BLOCKS_PER_SECOND, stresses, rng)
    open_quotient = np.clip(speaker.open_quotient - 0.08 * manner.brightness_octaves, 0.4, 0.8)
    shimmer = np.clip(0.04 + 0.04 * manner.jitter_percent, 0.01, 0.2)
    pulses, opening = glottal_flow(_per_sample(pitch), open_quotient, shimmer, rng)
    tilt_hz = np.clip(speaker.tilt_hz * 2**manner.brightness_octaves, 400, 8000)
    pulses = signal.sosfilt(signal.butter(1, tilt_hz, fs=SAMPLE_RATE_HZ, output="sos"), pulses)
    noise = rng.standard_normal(len(pulses))
    breath = 10 ** ((speaker.breath_db + manner.breath_db) / 20)
    excitation = (pulses + breath * opening * noise) * _per_sample(voice)
    speech = through_tract(excitation, formants, widen=1 + 2 * breath)
    speech /= np.abs(speech).max()
    for hiss_hz in np.unique(spoken[spoken[:, 5] > 0, 6]):
        band = signal.butter(
            2, (hiss_hz * 0.7, hiss_hz * 1.4), "bandpass", fs=SAMPLE_RATE_HZ, output="sos"
        )
        level = _smoothed(np.where(spoken[:, 6] == hiss_hz, 1.0, 0.0), 0.02) * hiss
        speech += 0.5 * signal.sosfilt(band, noise) * _per_sample(level)
    peak = np.clip(speaker.peak * 10 ** (manner.loudness_db / 20), 0.05, 0.9)
    return _in_the_booth(speech * (peak / np.abs(speech).max()), rng)


def _in_the_booth(speech: np.ndarray, rng: np.random.Generator) -> Utterance:
    """Put silence around speech: a very faint rumble, never digital zero."""
    speech_seconds = len(speech) / SAMPLE_RATE_HZ
    lead_seconds = rng.uniform(0.75, 1.05)
    tail_seconds = np.clip(rng.uniform(0.4, 0.8), 2.85 - lead_seconds - speech_seconds, None)
    tail_seconds = min(tail_seconds, max(0.4, 3.8 - lead_seconds - speech_seconds))
    lead, tail = (round(seconds * SAMPLE_RATE_HZ) for seconds in (lead_seconds, tail_seconds))
    room = rng.standard_normal(lead + len(speech) + tail)
    waveform = 1e-4 * signal.lfilter([1.0], [1.0, -0.9], room)
    waveform[lead : lead + len(speech)] += speech
    waveform = np.clip(waveform, -0.9, 0.9).astype(np.float32)
    return Utterance(waveform, lead / SAMPLE_RATE_HZ, (lead + len(speech)) / SAMPLE_RATE_HZ)


def loudness(waveform: np.ndarray, times_seconds: np.ndarray) -> np.ndarray:
    """Return how loud (samples,) is at each time, 0 ... 1 of its own loudest moment, (times,)."""
    length = SAMPLE_RATE_HZ // 25
    energy = np.cumsum(np.concatenate([[0.0], waveform.astype(np.float64) ** 2]))
    centre = np.round(np.asarray(times_seconds) * SAMPLE_RATE_HZ).astype(int)
    first = np.clip(centre - length // 2, 0, len(waveform))
    last = np.clip(centre + length // 2, 0, len(waveform))
    level = np.sqrt(np.maximum(energy[last] - energy[first], 0.0) / length)
    return level / max(level.max(), 1e-9)
