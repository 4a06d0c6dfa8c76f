"""Mel bands out of MFCCs, and voices with other vocal tracts."""

import keras
import librosa
import numpy as np
import pytest
import tensorflow as tf
from scipy import fft

from pipeline.spec import FeatureSpec
from train import audio_branch, cepstrum, voices

SPEC = FeatureSpec()
HZ = librosa.mel_frequencies(130, fmin=0, fmax=SPEC.fmax_hz, htk=True)[1:-1]


def coefficients(peak_hz):
    """Spectra in dB with one resonance each, as MFCCs, shape (peaks, 40)."""
    # In mels of Slaney, where a resonance that is moved keeps its width.
    peak_mel = librosa.hz_to_mel(peak_hz)[:, np.newaxis]
    spectra = 30 * np.exp(-np.square((librosa.hz_to_mel(HZ) - peak_mel) / 3))
    return fft.dct(spectra, axis=1, norm="ortho")[:, :40]


def peaks(mfcc):
    """Where the resonances are, in Hz."""
    return HZ[fft.idct(mfcc, n=128, axis=1, norm="ortho").argmax(axis=1)]


def test_bands_are_the_means_of_those_that_librosa_makes_of_coefficients():
    mfcc = np.random.default_rng(0).normal(0, 10, (40, 44))
    mel = librosa.feature.inverse.mfcc_to_mel(mfcc, n_mels=128)
    bands = 10 * np.log10(mel).reshape(32, 4, 44).mean(axis=1)
    assert mfcc.T @ cepstrum.band_map(40) == pytest.approx(bands.T, abs=1e-4)


@pytest.mark.parametrize("fmax_hz", [4000.0, 11025.0, 24000.0])
@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_band_edges_are_librosas(scale, fmax_hz):
    expected = librosa.mel_frequencies(130, fmin=0, fmax=fmax_hz, htk=scale == "htk")
    found = cepstrum.band_edges_hz(FeatureSpec(mel_scale=scale, fmax_hz=fmax_hz))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_network_reads_standardised_bands():
    random = np.random.default_rng(1)
    mean = random.normal(-20, 50, 40).astype(np.float32)
    deviation = random.uniform(1, 60, 40).astype(np.float32)
    columns = keras.Input((44, 1, 40))
    bands = keras.Model(columns, audio_branch.mel_bands(columns, mean, np.square(deviation)))
    drawn = random.normal(mean, deviation, (500, 44, 1, 40)).astype(np.float32)
    read = np.asarray(bands(drawn))
    assert read.shape == (500, 44, 1, 32)
    assert read.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(32), abs=0.02)
    assert read.std(axis=(0, 1, 2)) == pytest.approx(np.ones(32), abs=0.02)
    assert not bands.trainable_variables


def test_a_longer_tract_lowers_every_resonance():
    maps = cepstrum.tract_maps(SPEC)
    before = np.array([400, 900, 1500, 2500, 4000])
    lengths = np.exp(np.linspace(-cepstrum.TRACT, cepstrum.TRACT, cepstrum.TRACTS))
    for length, matrix in zip(lengths, maps, strict=True):
        after = peaks(coefficients(before) @ matrix)
        assert after == pytest.approx(before / length, rel=0.04)
    assert maps[cepstrum.TRACTS // 2] == pytest.approx(np.eye(40), abs=1e-4)


def test_each_clip_of_a_batch_has_one_tract():
    maps = cepstrum.tract_maps(SPEC)
    mfcc = np.random.default_rng(2).normal(0, 10, (64, 40, 44, 1)).astype(np.float32)
    changed = voices.change_tract(tf.constant(mfcc), maps, tf.constant([3, 4], tf.int64)).numpy()[
        ..., 0
    ]
    every = np.einsum("nct,lck->lnkt", mfcc[..., 0], maps)
    distance = np.abs(every - changed).max(axis=(2, 3))
    assert distance.min(axis=0).max() < 1e-3
    assert len(set(distance.argmin(axis=0))) > 15
