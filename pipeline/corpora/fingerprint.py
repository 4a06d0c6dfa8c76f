"""Fingerprints of audio: what two copies of a recording share, whatever their encoding and level.

Each frame is a word of 32 bits: whether the energy falls from a band to the next, and faster than
in the frame before. The same recording encoded anew, shifted or re-levelled flips few of the bits;
another recording, even of the same sentence by the same speaker, flips about half.

Notes
-----
After Haitsma & Kalker 2002, "A highly robust audio fingerprinting system", with frames of 0.26 s
instead of 0.37 s and bands up to 3 kHz instead of 2 kHz: voice is shorter than music.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 8000
FRAME_SAMPLES, HOP_SAMPLES = 2048, 128
BANDS_HZ = (300.0, 3000.0)
BITS = 32

MOST_SECONDS = 120.0
"""Audio after this is not fingerprinted, so that a long recording costs no more than this."""

QUIET_DB = 30.0
"""A frame this far below the loudest one is noise, whose bits differ from copy to copy."""

QUIET = 0
"""The word of a quiet frame."""

HOP_SECONDS = HOP_SAMPLES / RATE_HZ


def fingerprint(waveform: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Fingerprint a waveform at ``RATE_HZ``, shape (samples,).

    Returns
    -------
    ndarray of uint32, shape (frames,)
        A word each ``HOP_SECONDS``; ``QUIET`` where there is nothing to compare. Empty if the
        waveform is shorter than two frames.
    """
    if len(waveform) < FRAME_SAMPLES + HOP_SAMPLES:
        return np.zeros(0, np.uint32)
    window = np.hanning(FRAME_SAMPLES).astype(np.float32)
    edges = np.geomspace(*BANDS_HZ, BITS + 2) * FRAME_SAMPLES / RATE_HZ
    frames = np.lib.stride_tricks.sliding_window_view(waveform, FRAME_SAMPLES)[::HOP_SAMPLES]
    energy = np.concatenate(
        [band_energy(part * window, np.rint(edges).astype(int)) for part in in_parts(frames)]
    )
    slope = energy[:, :-1] - energy[:, 1:]
    bits = np.packbits(slope[1:] > slope[:-1], axis=1)
    words = bits.view(">u4").ravel().astype(np.uint32)
    loudness = energy[1:].sum(axis=1)
    words[loudness <= loudness.max() * 10 ** (-QUIET_DB / 10)] = QUIET
    return words


def in_parts(frames: NDArray[np.float32], size: int = 512) -> Iterable[NDArray[np.float32]]:
    """Cut an array into parts: the spectra of a long recording are not held all at once."""
    return (frames[first : first + size] for first in range(0, len(frames), size))


def band_energy(frames: NDArray[np.float32], edges: NDArray[np.int64]) -> NDArray[np.float32]:
    """Energy of windowed frames (frames, samples) in bands between bins, (frames, bands)."""
    power = np.square(np.abs(np.fft.rfft(frames, axis=1))).astype(np.float32)
    # The last part of reduceat has no end.
    return np.add.reduceat(power, edges, axis=1)[:, : len(edges) - 1]


def to_text(words: NDArray[np.uint32]) -> str:
    """Write a fingerprint as text, for JSON."""
    return base64.b64encode(words.astype("<u4").tobytes()).decode()


def from_text(text: str) -> NDArray[np.uint32]:
    """Read what :func:`to_text` wrote."""
    return np.frombuffer(base64.b64decode(text), "<u4").astype(np.uint32)
