"""What MFCCs say of the spectrum: the mel bands behind them, and those of another vocal tract."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

MEL_BANDS = 128
"""Of :func:`librosa.feature.mfcc`, whose discrete cosine transform the coefficients are."""

READ_BANDS = 32
"""As many as 40 coefficients still tell apart, nearly; a power of two can be halved and halved."""

TRACT = 0.12
"""Largest change of the logarithm of the vocal tract's length."""

TRACTS = 25
"""Lengths to draw from: neighbours differ by 1 %, which nobody hears."""


def cosines(mfcc_count: int) -> NDArray[np.float64]:
    """Return the spectrum in dB that each coefficient stands for, shape (mfcc_count, MEL_BANDS).

    Rows are orthonormal: coefficients times this are mel bands, as smooth as they leave them, and
    bands times its transpose are coefficients.
    """
    return fft.idct(np.eye(mfcc_count, MEL_BANDS), axis=1, norm="ortho")


def band_map(mfcc_count: int) -> NDArray[np.float64]:
    """Return the matrix from coefficients to mel bands in dB, shape (mfcc_count, READ_BANDS).

    Each is the mean of neighbouring ones of ``MEL_BANDS``.
    """
    return cosines(mfcc_count).reshape(mfcc_count, READ_BANDS, -1).mean(axis=2)


def band_centres_hz(sample_rate_hz: int) -> NDArray[np.float64]:
    """Return the middle of each of ``MEL_BANDS``, which reach up to half of the sample rate.

    Notes
    -----
    The scale is librosa's default, that of Slaney 1998, "Auditory Toolbox": even steps up to
    1,000 Hz, even ratios above. (librosa itself has no place in the trainer.)
    """
    knee_hz, knee_mel, mel_a_ratio = 1000.0, 15.0, 27 / np.log(6.4)
    highest = knee_mel + mel_a_ratio * np.log(sample_rate_hz / 2 / knee_hz)
    mel = np.linspace(0.0, highest, MEL_BANDS + 2)[1:-1]
    above = knee_hz * np.exp((mel - knee_mel) / mel_a_ratio)
    return np.where(mel < knee_mel, mel * knee_hz / knee_mel, above)


def tract_maps(mfcc_count: int, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return matrices from the MFCCs of a voice to those of longer and shorter vocal tracts.

    Parameters
    ----------
    mfcc_count
        Coefficients.
    sample_rate_hz
        Of the sound they were computed from; mel bands reach up to half of it.

    Returns
    -------
    ndarray of float32, shape (TRACTS, mfcc_count, mfcc_count)
        To be multiplied by a row of coefficients from the left. The first raises resonances by
        ``exp(TRACT)``, the last lowers them by as much.

    Notes
    -----
    Vocal tract length perturbation of Jaitly & Hinton 2013, "Vocal tract length perturbation (VTLP)
    improves speech recognition", of cached coefficients instead of the filters: a tract that is
    shorter by a factor has the same resonances at frequencies that much higher. The highest bands
    repeat the last one.
    """
    heard = cosines(mfcc_count)
    hz = band_centres_hz(sample_rate_hz)
    lengths = np.exp(np.linspace(-TRACT, TRACT, TRACTS))
    warped = [[np.interp(hz * length, hz, cosine) for cosine in heard] for length in lengths]
    return (np.array(warped) @ heard.T).astype(np.float32)
