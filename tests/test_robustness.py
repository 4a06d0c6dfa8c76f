import json
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
from scipy import signal

from pipeline.features import mfcc
from pipeline.spec import FeatureSpec
from train import reading, robustness, table

SPEC = FeatureSpec()


def vowels(seed=0):
    """Noise through moving resonances: a voice's spectrum and rhythm without its harmonics."""
    random = np.random.default_rng(seed)
    parts = []
    for number in range(8):
        samples = SPEC.window_samples // 8 + 1
        part = random.standard_normal(samples)
        for hertz in (500 + 60 * number, 1500 - 90 * number, 2500):
            radius, angle = 0.97, 2 * np.pi * hertz / SPEC.sample_rate_hz
            part = signal.lfilter([1], [1, -2 * radius * np.cos(angle), radius**2], part)
        parts.append(part * np.hanning(samples) / np.abs(part).max())
    return 0.3 * np.concatenate(parts)[: SPEC.window_samples].astype(np.float32)


@pytest.mark.parametrize(
    ("spec", "bands"), [(SPEC, {"fmax": 8000, "htk": True}), (FeatureSpec.as_published(), {})]
)
def test_mel_filters_are_those_of_librosa(spec, bands):
    theirs = librosa.filters.mel(sr=spec.sample_rate_hz, n_fft=spec.fft_samples, **bands)
    assert robustness.mel_filters(spec) == pytest.approx(theirs, abs=1e-7)


def test_white_noise_has_the_mel_spectrum_of_real_white_noise():
    random = np.random.default_rng(0)
    made = np.mean([robustness.white_noise_power(SPEC, random) for _ in range(20)], axis=(0, 2))
    theirs = librosa.feature.melspectrogram(
        y=random.standard_normal(20 * SPEC.sample_rate_hz).astype(np.float32),
        sr=SPEC.sample_rate_hz,
        fmax=8000,
        htk=True,
    ).mean(axis=1)
    assert made == pytest.approx(theirs, rel=0.25)
    assert made.mean() == pytest.approx(theirs.mean(), rel=0.02)


@pytest.mark.parametrize("snr_db", [20, 10, 0])
def test_noise_added_to_the_mfcc_is_noise_added_to_the_waveform(snr_db):
    voice, random = vowels(), np.random.default_rng(1)
    level = np.sqrt(np.mean(voice**2) / 10 ** (snr_db / 10))

    def heard():
        noise = level * random.standard_normal(len(voice))
        return mfcc.mfcc((voice + noise).astype(np.float32), SPEC)[..., 0]

    def distance(first, second):
        return np.sqrt(np.mean((first - second) ** 2))

    clean, real = mfcc.mfcc(voice, SPEC), heard()
    made = robustness.add_noise(clean[np.newaxis], snr_db, SPEC, random)[0, ..., 0]
    # Nearly as alike as two noises of the same level are; the clean image is far from both.
    assert distance(made, real) < 1.8 * distance(heard(), real)
    assert distance(made, real) < 0.25 * distance(clean[..., 0], real)
    assert np.corrcoef(made[1:].ravel(), real[1:].ravel())[0, 1] > 0.85
    # The first coefficient is the level: a decibel is sqrt(128) of it.
    assert abs(made[0].mean() - real[0].mean()) < 2.0 * np.sqrt(robustness.MEL_BANDS)


def test_columns_without_sound_get_no_noise():
    random = np.random.default_rng(0)
    images = np.stack([mfcc.mfcc(vowels(), SPEC), np.zeros(SPEC.mfcc_shape, np.float32)])
    images[0, :, 30:] = 0
    spoilt = robustness.add_noise(images, 10, SPEC, random)
    assert not spoilt[0, :, 30:].any() and not spoilt[1].any()
    assert spoilt[0, :, :30].any(axis=(0, 2)).all()
    assert spoilt.shape == images.shape and spoilt.dtype == np.float32


def test_half_of_the_pictures_are_black():
    frames = np.full((6, 20, 4, 4, 3), 9, np.uint8)
    spoilt = robustness.blacken_half(frames, np.random.default_rng(0))
    black = (spoilt == 0).all(axis=(2, 3, 4))
    assert (black.sum(axis=1) == 10).all() and (spoilt[~black] == 9).all()
    assert (frames == 9).all() and len({tuple(row) for row in black}) > 1


def test_the_table_shows_which_head_is_left(small_cache, tmp_path):
    """A made-up network: each head is right while its own input is whole."""
    rows = table.select_rows(small_cache, (3, 4))
    heard, seen, label = reading.RowReader(rows).read(np.arange(len(rows)))

    def predict(inputs):
        deaf, blind = (
            np.array(
                [given.tobytes() != known.tobytes() for given, known in zip(*both, strict=True)]
            )
            for both in ((inputs["mfcc"], heard), (inputs["frames"], seen))
        )
        wrong = (label + 1) % 8
        answers = {
            "audio": np.where(deaf, wrong, label),
            "video": np.where(blind, wrong, label),
            "fused": np.where(deaf & blind, wrong, label),
        }
        return {head: np.eye(8)[given] for head, given in answers.items()}

    measured = robustness.measure(SimpleNamespace(predict_on_batch=predict), rows)
    right = {
        name: [heads[head]["uar"] for head in ("fused", "audio", "video")]
        for name, heads in measured["conditions"].items()
    }
    assert measured["clips"] == 8
    assert right["untouched"] == [1, 1, 1]
    assert right["no sound"] == [1, 0, 1] and right["no picture"] == [1, 1, 0]
    assert right["noise at 0 dB"] == [1, 0, 1]
    assert right["half the pictures black"] == [1, 1, 0]
    robustness.write(tmp_path, measured)
    assert json.loads((tmp_path / "robustness.json").read_text()) == measured
    text = (tmp_path / "robustness.md").read_text()
    assert "| no sound | 100.0 | 100.0 | 0.0 | 100.0 |" in text
