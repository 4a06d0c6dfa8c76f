"""Every layer against what it computes, written in NumPy."""

import keras
import librosa
import numpy as np
import pytest
from scipy import special

from train.evaluation import distance
from train.models import layers

SIDE, CELL = 16, 4
DOWN, ACROSS = np.mgrid[:SIDE, :SIDE].astype(np.float32)
SLOPES = {"across": ACROSS, "falling": ACROSS + DOWN, "down": DOWN, "rising": DOWN - ACROSS}


@pytest.fixture
def random():
    return np.random.default_rng(0)


def edges_of(*images):
    """Edges in the cells of images, shape (images, SIDE / CELL, SIDE / CELL, 4)."""
    clip = np.stack(images).astype(np.float32)[np.newaxis, ..., np.newaxis]
    return np.asarray(layers.OrientedGradients(CELL)(clip))[0]


def test_grey_is_the_mean_of_four_pixels_and_three_channels(random):
    frames = random.integers(0, 256, (2, 3, 6, 8, 3), dtype=np.uint8)
    grey = np.asarray(layers.GreyDownscale()(frames))
    blocks = frames.reshape(2, 3, 3, 2, 4, 2, 3).astype(np.float64)
    assert grey.shape == (2, 3, 3, 4, 1)
    assert grey[..., 0] == pytest.approx(blocks.mean(axis=(3, 5, 6)) / 255, abs=1e-6)
    white = np.asarray(layers.GreyDownscale()(np.full((1, 1, 4, 4, 3), 255, np.uint8)))
    assert white == pytest.approx(np.ones((1, 1, 2, 2, 1)), abs=1e-6)


def test_an_odd_side_drops_its_last_row_and_column(random):
    frames = random.integers(0, 256, (1, 2, 7, 9, 3), dtype=np.uint8)
    cut = layers.GreyDownscale()(frames[:, :, :6, :8])
    assert np.array_equal(layers.GreyDownscale()(frames), cut)


def test_the_nearest_frame_replaces_a_missing_one(random):
    clips = random.random((3, 6, 2, 2, 1)).astype(np.float32)
    clips[0, [0, 1, 4]] = 0
    clips[1] = 0
    filled = np.asarray(layers.FillMissingFrames()(clips))
    # Frame 4 is as near to 3 as to 5: the earlier.
    assert (filled[0] == clips[0, [2, 2, 2, 3, 3, 5]]).all()
    assert (filled[1] == 0).all()
    assert (filled[2] == clips[2]).all()


def test_a_clip_is_standardised_as_a_whole(random):
    clips = random.normal(3, 2, (2, 4, 5, 5, 1)).astype(np.float32)
    given = np.asarray(layers.ClipStandardization(epsilon=1e-3)(clips))
    for clip, standardised in zip(clips.astype(np.float64), given, strict=True):
        expected = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-3)
        assert standardised == pytest.approx(expected, abs=1e-5)
    flat = np.asarray(layers.ClipStandardization()(np.full((1, 4, 5, 5, 1), 0.5, np.float32)))
    assert not flat.any()


@pytest.mark.parametrize("number", range(4))
def test_a_slope_counts_for_its_own_direction(number):
    inner = edges_of(SLOPES[list(SLOPES)[number]])[0, 1:-1, 1:-1]
    wanted = np.zeros(inner.shape)
    # From one pixel to the next but one; both ways at once on a diagonal.
    wanted[..., number] = np.log1p((np.hypot(2, 2) if number % 2 else 2) / 0.02)
    assert inner == pytest.approx(wanted, abs=1e-4)


def test_neither_constant_light_nor_the_sign_of_an_edge_matters(random):
    image = random.normal(size=(SIDE, SIDE))
    plain, lit, negative, black = edges_of(image, image + 3, -image, 0 * image)
    assert plain == pytest.approx(lit, abs=1e-3)
    assert (plain == negative).all()
    assert plain.max() > 0.1
    assert (black == 0).all()


def test_a_turned_image_has_its_edges_turned(random):
    image = random.normal(size=(SIDE, SIDE))
    plain, turned = edges_of(image, np.rot90(image))
    back = np.rot90(turned, -1)[..., [2, 3, 0, 1]]
    assert back == pytest.approx(plain, abs=1e-3)


def test_edges_of_a_frame_do_not_depend_on_the_frames_beside_it(random):
    images = random.normal(size=(3, SIDE, SIDE))
    together = edges_of(*images)
    for image, edges in zip(images, together, strict=True):
        assert edges_of(image)[0] == pytest.approx(edges, abs=1e-6)


def test_level_stays_and_change_is_the_difference_from_the_mean_over_time(random):
    x = random.normal(size=(2, 6, 3, 4)).astype(np.float32)
    both = np.asarray(layers.LevelAndChange(2.0)(x))
    assert np.array_equal(both[..., :4], x)
    change = 2 * (x - x.mean(axis=1, keepdims=True))
    assert both[..., 4:] == pytest.approx(change, abs=1e-5)
    reference = random.normal(size=(2, 3, 4)).astype(np.float32)
    compared = np.asarray(layers.LevelAndChange(2.0)(x, reference))
    assert compared[..., :4] == pytest.approx(2 * (x - reference[:, np.newaxis]), abs=1e-5)
    assert np.array_equal(compared[..., 4:], both[..., 4:])


def test_columns_without_audio_do_not_count_in_their_mean(random):
    mfcc = random.normal(size=(3, 5, 7, 1)).astype(np.float32)
    mfcc[1, :, 4:] = 0
    mfcc[2] = 0
    mean = np.asarray(layers.ColumnMean()(mfcc))
    assert mean[0] == pytest.approx(mfcc[0].mean(axis=(1, 2)), abs=1e-6)
    assert mean[1] == pytest.approx(mfcc[1, :, :4].mean(axis=(1, 2)), abs=1e-6)
    assert not mean[2].any()


def test_mel_bands_are_means_of_those_that_librosa_makes_of_coefficients(random):
    mfcc = random.normal(0, 10, (40, 44)).astype(np.float32)
    mel = librosa.feature.inverse.mfcc_to_mel(mfcc, n_mels=layers.MEL_BANDS)
    wanted = 10 * np.log10(mel).reshape(32, 4, 44).mean(axis=1)
    columns = mfcc.T[np.newaxis, :, np.newaxis]
    given = np.asarray(layers.MelBands([0.0] * 40, [1.0] * 40)(columns))[0, :, 0]
    # Standardised, each band is scaled; of another mean, shifted by it.
    scale = given[0] / wanted[:, 0]
    assert given == pytest.approx(wanted.T * scale, abs=1e-3) and (scale > 0).all()
    shifted = layers.MelBands(mfcc[:, 0].tolist(), [1.0] * 40)(columns)
    assert np.asarray(shifted)[0, :, 0] == pytest.approx(given - given[0], abs=1e-3)


def test_mel_bands_are_standardised(random):
    mean = random.normal(-20, 50, 40)
    deviation = random.uniform(1, 60, 40)
    drawn = random.normal(mean, deviation, (500, 44, 1, 40)).astype(np.float32)
    bands = np.asarray(layers.MelBands(mean.tolist(), np.square(deviation).tolist())(drawn))
    assert bands.shape == (500, 44, 1, 32)
    assert bands.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(32), abs=0.04)
    assert bands.std(axis=(0, 1, 2)) == pytest.approx(np.ones(32), abs=0.04)


def test_what_is_all_zero_is_not_there():
    mfcc = np.zeros((3, 4, 5, 1), np.float32)
    mfcc[1, 2, 3] = -1e-3
    mfcc[2] = 7
    assert np.asarray(layers.Presence()(mfcc)).tolist() == [[0], [1], [1]]
    frames = np.zeros((3, 2, 6, 6, 3), np.uint8)
    frames[1, 1] = 1
    frames[2] = 200
    assert np.asarray(layers.Presence()(frames)).tolist() == [[0], [1], [1]]


def test_logits_are_adjusted_in_training_only(random):
    logits = random.normal(size=(4, 3)).astype(np.float32)
    layer = layers.LogitAdjustment([0.5, 0.3, 0.2])
    assert np.array_equal(layer(logits), logits)
    assert np.array_equal(layer(logits, training=False), logits)
    adjusted = np.asarray(layer(logits, training=True))
    assert adjusted == pytest.approx(logits + np.log([0.5, 0.3, 0.2]), abs=1e-6)


def test_a_temperature_divides_and_is_not_trained(random):
    logits = random.normal(size=(4, 8)).astype(np.float32)
    layer = layers.Temperature()
    assert np.array_equal(layer(logits), logits)
    layer.temperature.assign(2.5)
    assert np.asarray(layer(logits)) == pytest.approx(logits / 2.5, rel=1e-6)
    assert not layer.trainable_variables


# Pool of the branches' logits


def pool(trained, random, present=(1, 1), apart=(0, 0)):
    """What a pool makes of two branches; also their logits and the correction."""
    logits = random.normal(size=(2, 4, 8)).astype(np.float32)
    correction = random.normal(size=(4, 8)).astype(np.float32)
    there, distances = (
        [np.full((4, 1), value, np.float32) for value in pair] for pair in (present, apart)
    )
    layer = layers.LogLinearPool(trained)
    return np.asarray(layer(list(logits), there, distances, correction)), logits, correction


def test_a_pool_multiplies_the_probabilities_of_its_branches(random):
    pooled, logits, correction = pool([True, True], random)
    assert pooled == pytest.approx(logits[0] + logits[1] + correction, abs=1e-5)
    product = special.softmax(logits, axis=-1).prod(axis=0)
    product /= product.sum(axis=-1, keepdims=True)
    assert special.softmax(pooled - correction, axis=-1) == pytest.approx(product, abs=1e-5)


@pytest.mark.parametrize("left", [0, 1])
def test_a_missing_or_untrained_branch_and_its_correction_weigh_nothing(random, left):
    there = tuple(int(number == left) for number in range(2))
    pooled, logits, _ = pool([True, True], random, present=there)
    assert np.array_equal(pooled, logits[left])
    pooled, logits, _ = pool([bool(value) for value in there], random)
    assert np.array_equal(pooled, logits[left])


def test_without_any_branch_all_logits_are_zero(random):
    assert not pool([True, True], random, present=(0, 0))[0].any()


def test_a_branch_beyond_its_distances_weighs_less(random):
    pooled, logits, correction = pool([True, True], random, apart=(0.9, 1.0))
    assert pooled == pytest.approx(logits[0] + logits[1] + correction, abs=1e-5)
    pooled, logits, correction = pool([True, True], random, apart=(2.0, 0.5))
    expected = logits[0] / 256 + logits[1] + correction / 256
    assert pooled == pytest.approx(expected, abs=1e-5)


def test_distances_are_those_that_were_fitted(random):
    label = np.repeat(np.arange(4), 30)
    embedding = random.normal(size=(120, 6)) @ random.normal(size=(6, 6)) + 3 * label[:, None]
    embedding = embedding.astype(np.float32)
    layer = layers.MahalanobisDistance()
    assert not np.asarray(layer(embedding)).any()
    whitening, means = distance.fit_gaussians(embedding, label)
    layer.whitening.assign(whitening)
    layer.means.assign(means)
    given = np.asarray(layer(embedding))
    assert given.shape == (120, 1) and not layer.trainable_variables
    expected = distance.nearest_mean(embedding, whitening, means)
    assert given[:, 0] == pytest.approx(expected, rel=1e-3)


def test_a_limit_does_not_follow_the_oddest_person(random):
    distances = np.exp(random.normal(1.0, 0.2, 20_000))
    limit = distance.usual_limit(distances)
    assert np.mean(distances < limit) == pytest.approx(0.99, abs=3e-3)
    odd = np.concatenate([distances, np.full(600, 40.0)])
    assert distance.usual_limit(odd) == pytest.approx(limit, rel=0.05)
    assert 0 < distance.usual_limit(np.zeros(5)) < 1e-6


# All of them

EXAMPLES = {
    "GreyDownscale": ({}, (2, 4, 4, 3)),
    "FillMissingFrames": ({}, (2, 4, 4, 1)),
    "ClipStandardization": ({"epsilon": 0.1}, (2, 4, 4, 1)),
    "OrientedGradients": ({"cell": 2, "faint": 0.1}, (2, 8, 8, 1)),
    "LevelAndChange": ({"gain": 3.0}, (2, 4)),
    "MelBands": ({"mean": [1.0] * 40, "variance": [2.0] * 40, "bands": 16}, (4, 1, 40)),
    "ColumnMean": ({}, (3, 4, 1)),
    "Presence": ({}, (3, 4, 1)),
    "LogitAdjustment": ({"prior": [0.2] * 5}, (5,)),
    "Temperature": ({}, (5,)),
    "MahalanobisDistance": ({"classes": 2}, (5,)),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_layer_comes_back_from_its_description(name, random):
    options, shape = EXAMPLES[name]
    x = random.normal(1, 1, (2, *shape)).astype(np.float32)
    layer = getattr(layers, name)(**options)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer) and again.get_config() == layer.get_config()
    assert layer.get_config().items() >= options.items()
    assert np.array_equal(layer(x), again(x))


def test_a_pool_comes_back_from_its_description():
    layer = layers.LogLinearPool([True, False], name="pool")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config() and again.trained == [True, False]


def test_folding_makes_samples_of_frames_and_back(random):
    x = random.normal(size=(2, 3, 4, 5)).astype(np.float32)
    folded = layers.folded(x)
    assert np.array_equal(folded, x.reshape(6, 4, 5))
    assert np.array_equal(layers.unfolded(folded, 3), x)
