"""What MFCCs say of the spectrum: the mel bands behind them, and those of another vocal tract."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from pipeline.spec import FeatureSpec

MEL_BANDS = 128
"""Of :func:`librosa.feature.mfcc`, whose discrete cosine transform the coefficients are."""

HTK_KNEE_HZ = 700.0
"""Where HTK's mel scale has turned from even steps to even ratios by half."""

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


def band_edges_hz(spec: FeatureSpec) -> NDArray[np.float64]:
    """Return where mel bands begin, shape (MEL_BANDS + 2,), in Hz.

    A band reaches from one edge to the next but one; the edge between is its middle.

    Notes
    -----
    Even steps of the mel scale of the Hidden Markov Model Toolkit, Young et al. 2006, "The HTK
    book", or of that of Slaney 1998, "Auditory Toolbox": even steps up to 1,000 Hz, even ratios
    above. (librosa itself has no place in the trainer.)
    """
    steps = np.linspace(0.0, 1.0, MEL_BANDS + 2)
    if spec.mel_scale == "htk":
        return HTK_KNEE_HZ * np.expm1(steps * np.log1p(spec.fmax_hz / HTK_KNEE_HZ))
    knee_hz, knee_mel, mel_a_ratio = 1000.0, 15.0, 27 / np.log(6.4)
    mel = steps * (knee_mel + mel_a_ratio * np.log(spec.fmax_hz / knee_hz))
    above = knee_hz * np.exp((mel - knee_mel) / mel_a_ratio)
    return np.where(mel < knee_mel, mel * knee_hz / knee_mel, above)


def tract_maps(spec: FeatureSpec) -> NDArray[np.float32]:
    """Return matrices from the MFCCs of a voice to those of longer and shorter vocal tracts.

    Parameters
    ----------
    spec
        How the MFCCs were made.

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
    heard = cosines(spec.mfcc_count)
    hz = band_edges_hz(spec)[1:-1]
    lengths = np.exp(np.linspace(-TRACT, TRACT, TRACTS))
    warped = [[np.interp(hz * length, hz, cosine) for cosine in heard] for length in lengths]
    return (np.array(warped) @ heard.T).astype(np.float32)
