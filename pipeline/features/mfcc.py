"""Waveform to MFCC image. Pure functions on arrays."""

from __future__ import annotations

import functools

import librosa
import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from pipeline.spec import FeatureSpec

LOUDNESS_BLOCK_FRAMES = 4096
"""Frames whose loudness is computed at once: a minute and a half by default. Changes no number."""


@functools.lru_cache(maxsize=1)
def blas_threads() -> threadpoolctl.ThreadpoolController:
    """Return the handle on the thread counts of the loaded linear algebra libraries."""
    return threadpoolctl.ThreadpoolController()


def is_silent(waveform: NDArray[np.float32], spec: FeatureSpec) -> bool:
    """Whether a waveform, shape (samples,), never rises above ``spec.silence_peak``."""
    if waveform.size == 0:
        return True
    # The absolute values of a long recording would be another one.
    return float(np.maximum(waveform.max(), -waveform.min())) < spec.silence_peak


def voice_span(waveform: NDArray[np.float32], spec: FeatureSpec) -> tuple[int, int]:
    """Find the first and last audio that is near the loudest.

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
    if is_silent(waveform, spec):
        return 0, len(waveform)
    # As librosa.effects.trim, whose import brings scikit-learn and 26 MB into every worker.
    level_db = librosa.amplitude_to_db(loudness(waveform, spec), ref=np.max, top_db=None)
    loud = np.flatnonzero(level_db > -spec.voice_threshold_db)
    if loud.size == 0:  # samples so large that their squares are not finite
        return 0, len(waveform)
    start, end = (int(frame) * spec.loudness_hop_samples for frame in (loud[0], loud[-1] + 1))
    return start, min(end, len(waveform))


def loudness(waveform: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    """Root mean square of each frame of a waveform, shape (1 + samples // hop,).

    ``librosa.feature.rms`` of it, in blocks: librosa lays out every frame at once, four times
    the waveform.
    """
    frame, hop = spec.loudness_frame_samples, spec.loudness_hop_samples
    half = frame // 2
    parts = []
    for first in range(0, 1 + len(waveform) // hop, LOUDNESS_BLOCK_FRAMES):
        start = first * hop - half
        end = start + (LOUDNESS_BLOCK_FRAMES - 1) * hop + frame
        missing = max(0, -start), min(half, max(0, end - len(waveform)))
        part = np.pad(waveform[max(0, start) : end], missing)
        parts.append(
            librosa.feature.rms(y=part, frame_length=frame, hop_length=hop, center=False)[0]
        )
    return np.concatenate(parts)


def window_start(waveform: NDArray[np.float32], spec: FeatureSpec, clip_samples: int = 0) -> int:
    """Choose the first sample of a clip's window.

    A voice longer than the window is covered from its onset; a shorter one lies in the middle of
    the window, as far as the clip's ends allow. Of a silent clip the middle is taken.

    Parameters
    ----------
    waveform
        Shape (samples,), at ``spec.sample_rate_hz``; empty for a clip without audio.
    spec
        Gives the window's length and placement.
    clip_samples
        Length of the clip where its video is longer than a silent or missing waveform.

    Returns
    -------
    int
    """
    if spec.window_placement == "start":
        return 0
    if is_silent(waveform, spec):
        return max(0, max(len(waveform), clip_samples) - spec.window_samples) // 2
    start, end = voice_span(waveform, spec)
    spare = max(0, spec.window_samples - (end - start))
    latest = max(0, len(waveform) - spec.window_samples)
    return min(max(0, start - spare // 2), latest)


def cut(waveform: NDArray[np.float32], start: int, samples: int) -> NDArray[np.float32]:
    """Cut a stretch out of a waveform; what lies outside of it is left away, not padded."""
    return waveform[max(0, start) : max(0, start + samples)]


def mfcc(waveform: NDArray[np.float32], spec: FeatureSpec) -> NDArray[np.float32]:
    """Compute the MFCC image of a window.

    Parameters
    ----------
    waveform
        Shape (samples,), at ``spec.sample_rate_hz``, nominally in [-1, 1].
    spec
        Gives coefficients, columns, hop, analysis frame and mel bands.

    Returns
    -------
    ndarray of float32, shape (mfcc_count, mfcc_columns, 1)
        ``librosa.feature.mfcc`` of it. Columns past the window are dropped, missing ones
        are zero.
    """
    image = np.zeros(spec.mfcc_shape, np.float32)
    if waveform.size == 0:
        return image
    # A frame longer than the waveform is legal (librosa pads around it) but warned about.
    padded = np.pad(waveform, (0, max(0, spec.fft_samples - len(waveform))))
    bands = mel_filters(spec.sample_rate_hz, spec.fft_samples, spec.fmax_hz, spec.mel_scale)
    # BLAS sums in another order on another number of threads; workers have one, inference many.
    with blas_threads().limit(limits=1, user_api="blas"):
        spectrum = librosa.stft(padded, n_fft=spec.fft_samples, hop_length=spec.hop_samples)
        # librosa.feature.melspectrogram makes its filters anew each time, half of its work.
        mel = np.einsum("ft,mf->mt", np.abs(spectrum) ** 2.0, bands, optimize=True)
        coefficients = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=spec.mfcc_count)
    covered = min(spec.mfcc_columns, 1 + len(waveform) // spec.hop_samples)
    image[:, :covered, 0] = coefficients[:, :covered]
    return image


@functools.lru_cache(maxsize=4)
def mel_filters(
    sample_rate_hz: int, fft_samples: int, fmax_hz: float, scale: str
) -> NDArray[np.float32]:
    """Make librosa's triangular mel bands, shape (bands, 1 + fft_samples // 2)."""
    return librosa.filters.mel(
        sr=sample_rate_hz, n_fft=fft_samples, fmax=fmax_hz, htk=scale == "htk"
    )
