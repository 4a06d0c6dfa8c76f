"""Augmentation as layers: nothing outside of training, and known changes in it."""

import keras
import librosa
import numpy as np
import pytest
from scipy import fft

from pipeline.spec import FeatureSpec
from train.models import augmentation

SPEC = FeatureSpec()
HTK = SPEC.mel_scale == "htk"
HZ = librosa.mel_frequencies(130, fmin=0, fmax=SPEC.fmax_hz, htk=HTK)[1:-1]


def mfcc_layers():
    return [
        augmentation.SpeakerPerturbation([1.0] * 40, name="speaker"),
        augmentation.VocalTractPerturbation(SPEC.fmax_hz, HTK, name="vocal_tract"),
    ]


def clips_of(count, side=16, time=3, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(0.1, 1, (count, time, side, side, 1)).astype(np.float32)


def changed(layer, x):
    return np.asarray(layer(x, training=True))


class Fixed(augmentation.RandomView):
    """A view whose draws are all one end of their range."""

    def __init__(self, end, **options):
        super().__init__(**options)
        self.end = end

    def uniform(self, shape, low, high):
        return keras.ops.full(shape, (low, high)[self.end])


STILL = {"degrees": 0.0, "shift": 0.0, "zoom": 0.0, "mirror": False}


def test_outside_of_training_nothing_changes():
    clips = clips_of(4)
    mfcc = np.random.default_rng(1).normal(size=(4, 40, 44, 1)).astype(np.float32)
    for layer, x in [(augmentation.RandomView(), clips), *((one, mfcc) for one in mfcc_layers())]:
        assert np.array_equal(layer(x), x) and np.array_equal(layer(x, training=False), x)
        assert np.abs(changed(layer, x) - x).max() > 1e-3


def test_a_view_without_any_range_is_the_identity_in_training():
    clips = clips_of(4)
    assert changed(augmentation.RandomView(**STILL), clips) == pytest.approx(clips, abs=1e-6)


@pytest.mark.parametrize("end", [0, 1])
def test_a_known_shift_shifts_and_repeats_the_edge(end):
    clips = clips_of(2)
    given = changed(Fixed(end, **STILL | {"shift": 2 / 16}), clips)
    # The view moves by two pixels right and down, or left and up: the face the other way.
    places = np.clip(np.arange(16) + (2 if end else -2), 0, 15)
    assert given == pytest.approx(clips[:, :, places][:, :, :, places], abs=1e-5)


def test_a_known_turn_turns_and_a_mirrored_clip_is_mirrored():
    clips = clips_of(2)
    quarter = changed(Fixed(1, **STILL | {"degrees": 90.0}), clips)
    turns = [np.rot90(clips, times, axes=(2, 3)) for times in (1, 3)]
    assert min(np.abs(quarter - turn).max() for turn in turns) < 1e-4
    mirrored = changed(Fixed(0, **STILL | {"mirror": True}), clips)
    assert mirrored == pytest.approx(clips[:, :, :, ::-1], abs=1e-5)


def test_a_known_zoom_scales_about_the_middle():
    """A ramp that is seen from twice as far rises twice as fast, and is the same in the middle."""
    ramp = np.broadcast_to(np.arange(17, dtype=np.float32)[:, None], (1, 1, 17, 17))[..., None]
    given = changed(Fixed(1, **STILL | {"zoom": 1.0}), ramp)[0, 0, ..., 0]
    expected = np.clip(8 + 2 * (np.arange(17) - 8), 0, 16)
    assert given[:, 8] == pytest.approx(expected, abs=1e-4)


def test_all_frames_of_a_clip_are_seen_alike_and_clips_differently():
    frame = clips_of(1, time=1)
    given = changed(augmentation.RandomView(seed=0), np.repeat(np.repeat(frame, 8, 0), 5, 1))
    for clip in given:
        assert (clip == clip[:1]).all()
    assert len({clip.tobytes() for clip in given}) == 8


def test_about_half_of_the_clips_are_mirrored():
    clips = np.repeat(clips_of(1), 200, axis=0)
    given = changed(augmentation.RandomView(**STILL | {"mirror": True}, seed=0), clips)
    mirrored = np.isclose(given, clips[:, :, :, ::-1], atol=1e-5).all(axis=(1, 2, 3, 4))
    same = np.isclose(given, clips, atol=1e-5).all(axis=(1, 2, 3, 4))
    assert (mirrored ^ same).all() and 60 < mirrored.sum() < 140


def test_missing_frames_stay_black():
    clips = clips_of(40, time=6)
    missing = np.random.default_rng(2).random((40, 6)) < 0.4
    clips[missing] = 0
    given = changed(augmentation.RandomView(degrees=20, shift=0.2, zoom=0.2), clips)
    assert not given[missing].any()
    assert (given[~missing].reshape((~missing).sum(), -1).max(axis=1) > 0).all()


def test_a_perturbed_speaker_differs_by_as_much_as_speakers_do():
    deviation = np.linspace(0, 9, 40)
    layer = augmentation.SpeakerPerturbation(deviation.tolist(), level=0.7, spread=0.2, seed=0)
    mfcc = np.random.default_rng(0).normal(5, 2, (500, 40, 44, 1)).astype(np.float32)
    given, before = changed(layer, mfcc)[..., 0], mfcc[..., 0]
    moved = given.mean(axis=2) - before.mean(axis=2)
    assert moved.std(axis=0) == pytest.approx(0.7 * deviation, rel=0.15, abs=1e-5)
    ranges = np.log(given.std(axis=2) / before.std(axis=2))
    assert ranges.mean() == pytest.approx(0, abs=0.01)
    assert ranges.std() == pytest.approx(0.2, rel=0.1)
    # The course over time stays: only its level and its range are another speaker's.
    course, old = (x - x.mean(axis=2, keepdims=True) for x in (given, before))
    assert np.ptp((course / old)[0, 3]) < 1e-2


# Vocal tract


def coefficients(peak_hz):
    """Spectra in dB with one resonance each, as MFCCs, shape (peaks, 40)."""
    # In mels of Slaney, where a resonance that is moved keeps its width.
    peak_mel = librosa.hz_to_mel(peak_hz)[:, np.newaxis]
    spectra = 30 * np.exp(-np.square((librosa.hz_to_mel(HZ) - peak_mel) / 3))
    return fft.dct(spectra, axis=1, norm="ortho")[:, :40]


def peaks(mfcc):
    """Where the resonances are, in Hz."""
    return HZ[fft.idct(mfcc, n=128, axis=1, norm="ortho").argmax(axis=1)]


def test_a_longer_tract_lowers_every_resonance():
    largest = 0.12
    matrices = augmentation.vocal_tract_matrices(40, SPEC.fmax_hz, HTK, largest)
    before = np.array([400, 900, 1500, 2500, 4000])
    lengths = np.exp(np.linspace(-largest, largest, augmentation.TRACTS))
    for length, matrix in zip(lengths, matrices, strict=True):
        after = peaks(coefficients(before) @ matrix)
        assert after == pytest.approx(before / length, rel=0.04)
    assert matrices[augmentation.TRACTS // 2] == pytest.approx(np.eye(40), abs=1e-4)


def test_each_clip_of_a_batch_has_one_tract():
    mfcc = np.random.default_rng(2).normal(0, 10, (64, 40, 44, 1)).astype(np.float32)
    layer = augmentation.VocalTractPerturbation(SPEC.fmax_hz, HTK, seed=0)
    matrices = augmentation.vocal_tract_matrices(40, SPEC.fmax_hz, HTK, layer.largest)
    every = np.einsum("nct,lck->lnkt", mfcc[..., 0], matrices)
    apart = np.abs(every - changed(layer, mfcc)[..., 0]).max(axis=(2, 3))
    assert apart.min(axis=0).max() < 1e-3
    assert len(set(apart.argmin(axis=0))) > 15


# All of them


def test_a_layer_comes_back_from_its_description():
    for layer in [augmentation.RandomView(1.0, 0.1, 0.2, False), *mfcc_layers()]:
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
        assert type(again) is type(layer) and again.get_config() == layer.get_config()


def test_random_numbers_go_on_where_their_state_says():
    """The state is a variable, so that a checkpoint holds it."""
    clips = clips_of(2)
    layer = augmentation.RandomView(seed=1)
    changed(layer, clips)
    (state,) = layer.variables
    before = np.asarray(state)
    drawn = [changed(layer, clips) for _ in range(2)]
    assert not np.array_equal(*drawn)
    state.assign(before)
    assert all(np.array_equal(changed(layer, clips), one) for one in drawn)
    same = augmentation.RandomView(seed=1)
    assert not np.array_equal(changed(same, clips), drawn[0])
    assert np.array_equal(changed(same, clips), drawn[0])
