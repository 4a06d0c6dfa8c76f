from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import write_rows

from pipeline.errors import InputError
from train import dataset, evaluate, model, reading, rest, robustness, table

MEAN, VARIANCE = np.zeros(40, np.float32), np.ones(40, np.float32)


@pytest.fixture(scope="module")
def two_neutral(small_spec, tmp_path_factory):
    """Actors 2 and 4 with two neutral clips of four."""
    emotions = ("neutral", "neutral", "happy", "surprised")
    clips = [(actor, emotion, "av") for actor in (2, 4) for emotion in emotions]
    return write_rows(tmp_path_factory.mktemp("cache"), small_spec, clips)


def tensors(count, seed=0):
    random = np.random.default_rng(seed)
    mfcc = random.normal(size=(count, 40, 44, 1)).astype(np.float32)
    return mfcc, random.integers(1, 256, (count, 20, 112, 112, 3), np.uint8)


def test_every_row_stands_beside_other_neutral_clips_of_its_person(two_neutral):
    rows = rest.beside(table.select_rows(two_neutral, (2, 4), variants=True), two_neutral)
    neutral, serving = rows.rest.rows, rows.rest.numbers
    assert len(rows) == 16 and serving.shape == (16, rest.CHOICES)
    assert not neutral.label.any()
    # Noise belongs to the room, which the person at rest is heard in as well.
    rooms = np.where(rows.variant == "noise", "noise", "clean")
    assert (neutral.variant[serving] == rooms[:, np.newaxis]).all()
    assert (neutral.actor[serving] == rows.actor[:, np.newaxis]).all()
    assert not (neutral.clip[serving] == rows.clip[:, np.newaxis]).any()
    # Where there is a choice, each serves as often.
    free = rows.where((rows.actor == 4) & (rows.label != 0)).rest.numbers
    for row in free:
        assert np.bincount(row)[np.unique(row)].tolist() == [rest.CHOICES / 2] * 2


def test_columns_and_pictures_of_a_person_are_dealt_in_turn():
    mfcc, frames = tensors(3)
    heard, seen = rest.deal(mfcc, frames)
    for column in range(44):
        assert np.array_equal(heard[:, column], mfcc[column % 3, :, column])
    for instant in range(20):
        assert np.array_equal(seen[instant], frames[instant % 3, instant])
    alone = rest.deal(mfcc[:1], frames[:1])
    assert np.array_equal(alone[0], mfcc[0]) and np.array_equal(alone[1], frames[0])


def test_training_draws_one_neutral_clip_and_judging_takes_all(two_neutral):
    rows = rest.beside(table.select_rows(two_neutral, (2, 4)), two_neutral)
    everyone, reader = np.arange(len(rows)), reading.RowReader(rows)
    neutral = reading.RowReader(rows.rest.rows)
    taken = reader.at_rest(everyone)
    for number, choices in enumerate(rows.rest.numbers):
        dealt = rest.deal(*neutral.read(np.unique(choices))[:2])
        assert np.array_equal(taken[0][number], dealt[0])
        assert np.array_equal(taken[1][number], dealt[1])
    drawn = [reader.at_rest(everyone, np.array([3, step]))[0] for step in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    for found in drawn:
        for row, choices in zip(found, rows.rest.numbers, strict=True):
            assert any(np.array_equal(row, one) for one in neutral.read(np.unique(choices))[0])


def test_an_actors_only_neutral_clip_is_left_out(small_cache):
    found = small_cache
    rows = rest.beside(table.select_rows(found, (2, 3)), found)
    assert len(rows) == 6 and rows.label.all()
    neutral = rows.rest.rows
    left_out = list(neutral.clip[neutral.actor == 3])
    assert len(left_out) == 1
    with pytest.raises(InputError, match="got none of actors 3; train and test without"):
        rest.beside(table.select_rows(found, (2, 3)), found, left_out)


def test_a_neutral_clip_without_a_modality_serves_no_row_that_has_it(tmp_path, small_spec):
    clips = [(1, "neutral", "av"), (1, "neutral", "a"), (1, "sad", "av"), (1, "sad", "a")]
    found = write_rows(tmp_path, small_spec, clips)
    rows = rest.beside(table.select_rows(found, (1,)), found)
    serving = {
        clip: set(rows.rest.rows.clip[numbers])
        for clip, numbers in zip(rows.clip, rows.rest.numbers, strict=True)
    }
    whole, heard = (clip.clip for clip in found.clips if clip.emotion == "neutral")
    sad = [clip.clip for clip in found.clips if clip.emotion == "sad"]
    # The only neutral clip with video has no other to be read against.
    assert serving == {heard: {whole}, sad[0]: {whole}, sad[1]: {whole, heard}}


def test_a_voice_keeps_what_departs_from_its_level_at_rest():
    """The speaker's own level of each coefficient drops out, and nothing else."""
    mfcc, frames = tensors(2)
    rest_mfcc, rest_frames = tensors(2, seed=1)
    related, _ = rest.relate(mfcc, frames, rest_mfcc, rest_frames)
    assert related == pytest.approx(mfcc - rest_mfcc.mean(axis=2, keepdims=True), abs=1e-5)
    speaker = np.random.default_rng(2).normal(size=(2, 40, 1, 1)).astype(np.float32)
    same, _ = rest.relate(mfcc + speaker, frames, rest_mfcc + speaker, rest_frames)
    assert same == pytest.approx(related, abs=1e-5) and same.dtype == np.float32


def test_columns_without_sound_stay_so_and_do_not_count():
    mfcc, frames = tensors(1)
    rest_mfcc, rest_frames = tensors(1, seed=1)
    mfcc[:, :, 30:] = rest_mfcc[:, :, 11:] = 0
    related, _ = rest.relate(mfcc, frames, rest_mfcc, rest_frames)
    assert not related[:, :, 30:].any()
    level = rest_mfcc[:, :, :11].mean(axis=2, keepdims=True)
    assert related[:, :, :30] == pytest.approx(mfcc[:, :, :30] - level, abs=1e-5)
    silent, _ = rest.relate(mfcc, frames, np.zeros_like(mfcc), rest_frames)
    assert np.array_equal(silent, mfcc)


def test_pictures_hold_what_is_shown_and_the_person_at_rest():
    mfcc, frames = tensors(1)
    _, rest_frames = tensors(1, seed=1)
    frames[:, 3:5] = 0
    _, greys = rest.relate(mfcc, frames, mfcc, rest_frames)
    luma = [0.299, 0.587, 0.114]
    assert greys.shape == frames.shape and greys.dtype == np.uint8
    assert greys[..., 0].astype(float) == pytest.approx(frames @ luma, abs=1)
    assert not greys[:, 3:5].any() and not greys[..., 2].any()
    assert greys[:, 5:, ..., 1].astype(float) == pytest.approx(rest_frames[:, 5:] @ luma, abs=1)


def test_training_judging_and_robustness_read_rows_against_the_person(two_neutral, small_spec):
    rows = rest.beside(table.select_rows(two_neutral, (2, 4)), two_neutral)
    everyone = np.arange(len(rows))
    reader = reading.RowReader(rows)
    expected = rest.relate(*reader.read(everyone)[:2], *reader.at_rest(everyone))
    given = next(iter(dataset.in_order(rows, len(rows)).as_numpy_iterator()))[0]
    assert np.array_equal(given["mfcc"], expected[0])
    assert np.array_equal(given["frames"], expected[1])
    known = reading.mfcc_statistics(rows)
    assert known.mean == pytest.approx(expected[0].mean(axis=(0, 2, 3)), abs=1e-3)

    keras.utils.set_random_seed(0)
    network = model.build_fusion_cnn(small_spec, MEAN, VARIANCE, calibrated=True)
    answers = network.predict({"mfcc": expected[0], "frames": expected[1]}, verbose=0)
    assert evaluate.predict(network, rows)["fused"] == pytest.approx(answers["fused"], abs=1e-5)
    judged = evaluate.averages(rows.label, answers["audio"].argmax(axis=1))
    measured = robustness.measure(network, rows)["conditions"]
    assert measured["untouched"]["audio"] == judged
    # Without pictures there is the voice alone, whoever the person is.
    assert measured["no picture"]["fused"] == measured["untouched"]["audio"]


def test_the_face_is_seen_as_it_departs_from_the_one_at_rest(spec):
    """A network is shown the person at rest again: nothing is left of it, whoever it is."""
    network = model.build_fusion_cnn(spec, MEAN, VARIANCE, calibrated=True)
    seen = keras.Model(network.input, network.get_layer("video_input").output)
    _, frames = tensors(2)
    frames = np.repeat(frames[:, :1], 20, axis=1)
    mfcc = np.zeros((2, 40, 44, 1), np.float32)
    still = rest.relate(mfcc, frames, mfcc, frames)
    left = seen.predict(dict(zip(("mfcc", "frames"), still, strict=True)), verbose=0)
    assert np.abs(left).max() < 1e-3
    other = rest.relate(mfcc, frames, mfcc, frames[::-1])
    left = seen.predict(dict(zip(("mfcc", "frames"), other, strict=True)), verbose=0)
    assert np.abs(left).max() > 0.1


def test_what_a_report_says_of_its_setting():
    assert rest.stamp(None, False) is None and rest.stamp("leaks", False) == "leaks"
    assert rest.stamp("leaks", True) == f"{rest.STAMP}; leaks"


def test_the_person_at_rest_is_heard_through_the_same_noise(two_neutral):
    """A made-up network keeps what it is given of each condition."""
    rows = rest.beside(table.select_rows(two_neutral, (2, 4)), two_neutral)
    given = []

    def predict(inputs):
        given.append(inputs["mfcc"])
        return dict.fromkeys(("fused", "audio", "video"), np.eye(8)[rows.label])

    robustness.measure(SimpleNamespace(predict_on_batch=predict), rows)
    heard = dict(zip(robustness.conditions(), given, strict=True))
    reader = reading.RowReader(rows)
    everyone = np.arange(len(rows))
    mfcc, frames, _ = reader.read(everyone)
    assert np.array_equal(heard["untouched"], reader.relate(everyone, mfcc, frames)[0])
    noisy = robustness.add_noise(mfcc, 0, rows.spec, np.random.default_rng(1))
    in_silence = rest.relate(noisy, frames, *reader.at_rest(everyone))[0]
    # The noise lifts a clip's level by itself, and by nothing against a person in the same noise.
    shift = [
        np.abs(change[:, 0].mean(axis=1)).mean() for change in (heard["noise at 0 dB"], in_silence)
    ]
    assert shift[0] < shift[1] / 4
