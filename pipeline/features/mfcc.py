"""Waveform to MFCC image. Pure functions on arrays."""

from __future__ import annotations

import functools

import librosa
import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from pipeline.spec import FeatureSpec

SILENCE_PEAK = 1e-4
"""A waveform that never exceeds this (-80 dBFS) carries no voice."""

LOUDNESS_FRAME, LOUDNESS_HOP = 2048, 512
"""Samples of a frame whose loudness is one number, and from frame to frame, as librosa trims."""

FRAMES_AT_ONCE = 4096
""":func:`loudness` of a minute and a half."""


@functools.lru_cache(maxsize=1)
def blas_threads() -> threadpoolctl.ThreadpoolController:
    """Return the handle on the thread counts of the loaded linear algebra libraries."""
    return threadpoolctl.ThreadpoolController()


def is_silent(waveform: NDArray[np.float32]) -> bool:
    """Whether a waveform, shape (samples,), never rises above ``SILENCE_PEAK``."""
    if waveform.size == 0:
        return True
    # The absolute values of a long recording would be another one.
    return float(np.maximum(waveform.max(), -waveform.min())) < SILENCE_PEAK


def voice_span(waveform: NDArray[np.float32], spec: FeatureSpec) -> tuple[int, int]:
    """Find the first and last sound that is near the loudest.

    Parameters
    ----------
    waveform
        Shape (samples,), at ``spec.sample_rate_hz``.
    spec
        Gives the threshold below the loudest frame, in dB.

    Returns
    -------
    start, end : int
        Samples; the whole waveform if it is silent.
    """
    if is_silent(waveform):
        return 0, len(waveform)
    # As librosa.effects.trim, whose import brings scikit-learn and 26 MB into every worker.
    level_db = librosa.amplitude_to_db(loudness(waveform), ref=np.max, top_db=None)
    loud = np.flatnonzero(level_db > -spec.voice_threshold_db)
    if loud.size == 0:  # samples so large that their squares are not finite
        return 0, len(waveform)
    start, end = librosa.frames_to_samples([loud[0], loud[-1] + 1])
    return int(start), min(int(end), len(waveform))


def loudness(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square of each frame of a waveform, shape (1 + samples // LOUDNESS_HOP,).

    ``librosa.feature.rms`` of it, in stretches: librosa lays out every frame at once, four times
    the waveform.
    """
    half = LOUDNESS_FRAME // 2
    parts = []
    for first in range(0, 1 + len(waveform) // LOUDNESS_HOP, FRAMES_AT_ONCE):
        start = first * LOUDNESS_HOP - half
        end = start + (FRAMES_AT_ONCE - 1) * LOUDNESS_HOP + LOUDNESS_FRAME
        missing = max(0, -start), min(half, max(0, end - len(waveform)))
        part = np.pad(waveform[max(0, start) : end], missing)
        parts.append(
            librosa.feature.rms(
                y=part, frame_length=LOUDNESS_FRAME, hop_length=LOUDNESS_HOP, center=False
            )[0]
        )
    return np.concatenate(parts)


def window_start(waveform: NDArray[np.float32], spec: FeatureSpec) -> int:
    """Choose the first sample of the window that is heard and seen.

    A voice longer than the window is heard from its onset; a shorter one lies in the middle of the
    window, as far as the clip's ends allow.

    Parameters
    ----------
    waveform
        Shape (samples,), at ``spec.sample_rate_hz``.
    spec
        Gives the window's length and placement.

    Returns
    -------
    int
        Sample in [0, max(0, samples - window_samples)].
    """
    if spec.window_placement == "start":
        return 0
    start, end = voice_span(waveform, spec)
    spare = max(0, spec.window_samples - (end - start))
    latest = max(0, len(waveform) - spec.window_samples)
    return min(max(0, start - spare // 2), latest)


def cut(waveform: NDArray[np.float32], start: int, samples: int) -> NDArray[np.float32]:
    """Cut a stretch out of a waveform; what lies outside of it is left away, not padded."""
    return waveform[max(0, start) : max(0, start + samples)]


def mfcc(sound: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    """Compute the MFCC image of a window's sound.

    Parameters
    ----------
    sound
        Shape (samples,), at ``spec.sample_rate_hz``, nominally in [-1, 1].
    spec
        Gives coefficients, columns, hop, analysis frame and mel bands.

    Returns
    -------
    ndarray of float32, shape (mfcc_count, mfcc_columns, 1)
        ``librosa.feature.mfcc`` of the sound. Columns past the window are dropped, missing ones
        are zero.
    """
    image = np.zeros(spec.mfcc_shape, np.float32)
    if sound.size == 0:
        return image
    # A frame longer than the sound is legal (librosa pads around it) but warned about.
    padded = np.pad(sound, (0, max(0, spec.fft_samples - len(sound))))
    # BLAS sums in another order on another number of threads; workers have one, inference many.
    with blas_threads().limit(limits=1, user_api="blas"):
        coefficients = librosa.feature.mfcc(
            y=padded,
            sr=spec.sample_rate_hz,
            n_mfcc=spec.mfcc_count,
            n_fft=spec.fft_samples,
            hop_length=spec.hop_samples,
            fmax=spec.fmax_hz,
            htk=spec.mel_scale == "htk",
        )
    heard = min(spec.mfcc_columns, 1 + len(sound) // spec.hop_samples)
    image[:, :heard, 0] = coefficients[:, :heard]
    return image
