import librosa
import numpy as np
import pytest
import threadpoolctl
from conftest import RATE, tone

from pipeline.features import mfcc
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec()


PUBLISHED = FeatureSpec.as_published()
BANDS = {SPEC: {"fmax": 8000, "htk": True}, PUBLISHED: {}}


def direct_mfcc(sound, spec):
    with threadpoolctl.threadpool_limits(1):
        return librosa.feature.mfcc(
            y=sound, sr=RATE, n_mfcc=40, hop_length=spec.hop_samples, **BANDS[spec]
        )


@pytest.mark.parametrize("spec", BANDS, ids=("default", "published"))
def test_mfcc_is_librosas(spec):
    sound = np.random.default_rng(0).normal(0, 0.1, spec.window_samples).astype(np.float32)
    expected = direct_mfcc(sound, spec)
    image = mfcc.mfcc(sound, spec)
    assert image.shape == (40, 44, 1) and image.dtype == np.float32
    assert np.array_equal(image[..., 0], expected[:, :44])


@pytest.mark.parametrize("quiet_seconds", [0.0, 0.01, 0.7])
def test_the_voice_is_what_librosa_trims_to(quiet_seconds):
    quiet = np.random.default_rng(0).normal(0, 1e-3, round(quiet_seconds * RATE))
    sound = np.concatenate([quiet, tone(1.234), quiet]).astype(np.float32)
    _, expected = librosa.effects.trim(sound, top_db=SPEC.voice_threshold_db)
    assert mfcc.voice_span(sound, SPEC) == tuple(expected)


@pytest.mark.parametrize("frames", [0, 1, 4094, 4095, 4096, 4097, 8191, 8192, 9000])
def test_loudness_is_librosas(frames):
    samples = 512 * frames + 77
    sound = np.random.default_rng(frames).normal(0, 0.1, samples).astype(np.float32)
    assert np.array_equal(mfcc.loudness(sound, SPEC), librosa.feature.rms(y=sound)[0])


def test_long_audio_is_truncated():
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * SPEC.window_samples).astype(np.float32)
    expected = direct_mfcc(sound, SPEC)
    assert np.array_equal(mfcc.mfcc(sound, SPEC)[..., 0], expected[:, :44])


def test_short_audio_is_padded_with_zeros():
    sound = tone(1.0)
    heard = 1 + len(sound) // SPEC.hop_samples
    image = mfcc.mfcc(sound, SPEC)
    expected = direct_mfcc(sound, SPEC)
    assert expected.shape[1] == heard < 44
    assert np.array_equal(image[:, :heard, 0], expected)
    assert not image[:, heard:].any()


@pytest.mark.parametrize("samples", [0, 1, 500])
def test_almost_no_audio(samples, recwarn):
    image = mfcc.mfcc(np.ones(samples, np.float32), SPEC)
    assert np.isfinite(image).all()
    assert image[:, :1].any() == (samples > 0)
    assert not image[:, 1:].any() and not recwarn.list


def test_short_voice_lies_in_the_middle_of_the_window():
    voice = tone(1.0)
    sound = np.concatenate([np.zeros(RATE), voice, np.zeros(2 * RATE)]).astype(np.float32)
    start = mfcc.window_start(sound, SPEC)
    middle = (start + SPEC.window_samples / 2) / RATE
    assert middle == pytest.approx(1.5, abs=0.06)


def test_long_voice_is_heard_from_its_onset():
    sound = np.concatenate([np.zeros(RATE), tone(4.0), np.zeros(RATE)]).astype(np.float32)
    assert mfcc.window_start(sound, SPEC) / RATE == pytest.approx(1.0, abs=0.06)


def test_window_stays_inside_the_clip():
    early = np.concatenate([tone(0.5), np.zeros(3 * RATE)]).astype(np.float32)
    late = early[::-1].copy()
    assert mfcc.window_start(early, SPEC) == 0
    assert mfcc.window_start(late, SPEC) == len(late) - SPEC.window_samples
    for other in (tone(0.5), np.zeros(RATE, np.float32)):
        assert mfcc.window_start(other, SPEC) == 0
    assert mfcc.window_start(late, FeatureSpec.as_published()) == 0


def test_silence_is_told_from_a_whisper():
    assert mfcc.is_silent(np.zeros(100, np.float32), SPEC)
    assert mfcc.is_silent(np.zeros(0, np.float32), SPEC)
    assert not mfcc.is_silent(tone(0.1, level=0.001), SPEC)


def test_the_middle_of_a_silent_clip_is_taken():
    silence = np.zeros(3 * SPEC.window_samples, np.float32)
    assert mfcc.window_start(silence, SPEC) == SPEC.window_samples
    nothing = np.zeros(0, np.float32)
    assert mfcc.window_start(nothing, SPEC) == 0
    assert mfcc.window_start(nothing, SPEC, 2 * SPEC.window_samples) == SPEC.window_samples // 2
    assert mfcc.window_start(tone(9.0), SPEC, 10 * len(silence)) == 0
    assert mfcc.window_start(silence, FeatureSpec.as_published()) == 0


def test_loudness_frames_are_of_the_spec():
    sound = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    spec = FeatureSpec(loudness_frame_samples=400, loudness_hop_samples=100)
    expected = librosa.feature.rms(y=sound, frame_length=400, hop_length=100)[0]
    assert np.array_equal(mfcc.loudness(sound, spec), expected)
    assert mfcc.is_silent(sound, FeatureSpec(silence_peak=1.0))
