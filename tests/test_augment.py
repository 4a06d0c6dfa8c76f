import dataclasses

import librosa
import numpy as np
import pytest
from conftest import RATE, tone

from pipeline.features import augment
from pipeline.features.augment import Change
from pipeline.features.detectors import Box
from pipeline.spec import CLEAN, AugmentationSpec, FeatureSpec

SPEC = FeatureSpec()
RANGES = SPEC.augmentation


def peak_hertz(sound):
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * RATE / len(sound)


def test_randomness_comes_from_identity():
    def draw(*identity):
        return augment.draw_change("noise", augment.generator(*identity, SPEC), RANGES)

    assert draw("clip", "noise") == draw("clip", "noise")
    assert draw("clip", "noise") != draw("other", "noise")
    assert draw("clip", "noise") != draw("clip", "noise-2")


@pytest.mark.parametrize("amount", [-2.3, 0.7, 1.9])
def test_pitch_and_stretch_are_librosas(amount):
    sound = np.random.default_rng(0).normal(0, 0.1, 9001).astype(np.float32)
    shifted = librosa.effects.pitch_shift(sound, sr=RATE, n_steps=amount)
    assert np.array_equal(augment.pitch_shift(sound, amount, SPEC), shifted)
    stretched = librosa.effects.time_stretch(sound, rate=abs(amount))
    assert np.array_equal(augment.time_stretch(sound, abs(amount), SPEC), stretched)


def test_clean_changes_nothing():
    change = augment.draw_change(CLEAN, np.random.default_rng(0), RANGES)
    sound, box = tone(0.5), Box(10.5, 20.25, 30, 40)
    frames = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    assert np.array_equal(augment.change_waveform(sound, change, None, SPEC), sound)
    assert augment.change_square(box, change) == box
    assert np.array_equal(augment.change_frames(frames, change), frames)


def test_each_kind_changes_its_own_side_of_the_audio():
    random = np.random.default_rng(0)
    for kind, field in (
        ("pitch-2", "pitch_semitones"),
        ("stretch", "stretch_rate"),
        ("noise", "noise_snr_db"),
    ):
        change = augment.draw_change(kind, random, RANGES)
        neutral = Change()
        changed = [
            name
            for name in ("pitch_semitones", "stretch_rate", "noise_snr_db")
            if getattr(change, name) != getattr(neutral, name)
        ]
        assert changed == [field]
    with pytest.raises(ValueError, match="echo"):
        augment.draw_change("echo", random, RANGES)


def test_pitch_moves_a_tone_by_semitones():
    shifted = augment.change_waveform(tone(1.0), Change(pitch_semitones=2.0), None, SPEC)
    assert len(shifted) == RATE
    assert peak_hertz(shifted) == pytest.approx(440 * 2 ** (2 / 12), rel=0.01)


def test_stretch_shortens_and_keeps_the_pitch():
    stretched = augment.change_waveform(tone(1.0), Change(stretch_rate=1.25), None, SPEC)
    assert len(stretched) == pytest.approx(RATE / 1.25, rel=0.01)
    assert peak_hertz(stretched) == pytest.approx(440, rel=0.01)


def test_noise_has_the_stated_level():
    sound = tone(1.0)
    noisy = augment.change_waveform(
        sound, Change(noise_snr_db=10.0), np.random.default_rng(0), SPEC
    )
    ratio = np.mean(sound**2) / np.mean((noisy - sound) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.2)


def test_flip_mirrors_and_light_is_linear():
    frames = np.full((1, 2, 4, 3), 100, np.uint8)
    frames[:, :, 0] = 200
    flipped = augment.change_frames(frames, Change(flip=True))
    assert (flipped[:, :, -1] == 200).all() and (flipped[:, :, :-1] == 100).all()
    brighter = augment.change_frames(frames, Change(contrast=1.1, brightness=10.0))
    assert np.unique(brighter).tolist() == [
        round((100 - 127.5) * 1.1 + 137.5),
        round((200 - 127.5) * 1.1 + 137.5),
    ]


def test_missing_frames_stay_black():
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    frames[0] = 90
    assert not augment.change_frames(frames, Change(brightness=20.0))[1].any()


def test_box_moves_in_parts_of_its_size():
    moved = augment.change_square(Box(100, 100, 50, 50), Change(shift_x=0.1, zoom=1.2))
    assert moved == pytest.approx((100, 95, 60, 60))


def test_changes_are_drawn_from_the_ranges_of_the_spec():
    def drawn(variant, **ranges):
        narrow = dataclasses.replace(RANGES, **ranges)
        return augment.draw_change(variant, np.random.default_rng(0), narrow)

    assert abs(drawn("pitch", pitch_semitones=(3.0, 3.0)).pitch_semitones) == 3.0
    assert drawn("stretch", stretch_rates=(1.5, 1.5)).stretch_rate == 1.5
    assert drawn("noise", noise_snr_db=(-3.0, -3.0)).noise_snr_db == -3.0
    for probability in (0.0, 1.0):
        assert drawn("noise", flip_probability=probability).flip == bool(probability)
    still = drawn(
        "noise", contrasts=(1.1, 1.1), brightness_shift=0.0, crop_shift=0.0, crop_zooms=(1.0, 1.0)
    )
    light_and_crop = (still.contrast, still.brightness, still.shift_x, still.shift_y, still.zoom)
    assert light_and_crop == (1.1, 0.0, 0.0, 0.0, 1.0)


def test_the_vocoders_frame_is_of_the_spec():
    sound = np.random.default_rng(0).normal(0, 0.1, 9001).astype(np.float32)
    short = dataclasses.replace(SPEC, augmentation=AugmentationSpec(stretch_fft_samples=512))
    expected = librosa.effects.time_stretch(sound, rate=1.2, n_fft=512)
    assert np.array_equal(augment.time_stretch(sound, 1.2, short), expected)
