"""The speaker reference: means over other clips of the same speaker, by hand."""

import keras
import numpy as np
import pytest
from conftest import write_rows

from pipeline.errors import InputError
from train.data import reader, rows, speaker
from train.models import video


@pytest.fixture(scope="module")
def found(small_spec, tmp_path_factory):
    """Actors 2 and 4 with two neutral clips of four."""
    emotions = ("neutral", "neutral", "happy", "surprised")
    clips = [(actor, emotion, "av") for actor in (2, 4) for emotion in emotions]
    return write_rows(tmp_path_factory.mktemp("cache"), small_spec, clips)


def own_means(clean):
    """Mean MFCC column and mean edges of each clean row."""
    batch = reader.RowReader(clean).read(np.arange(len(clean)))
    frames = keras.Input(clean.spec.frames_shape, dtype="uint8")
    edges = keras.Model(frames, video.edges(frames)).predict(batch["frames"], verbose=0)
    return {
        "mfcc_reference": batch["mfcc"].mean(axis=(2, 3)),
        "frames_reference": edges.mean(axis=1),
    }


def with_reference(table, found, kind):
    return speaker.with_reference(table, speaker.references(found, kind))


def references(table, name):
    return table.reference.tensors[name][table.reference.place]


@pytest.mark.parametrize("kind", ["recording", "neutral"])
def test_each_row_has_the_mean_over_other_clips_of_its_speaker(found, kind):
    clean = rows.select_rows(found, (2, 4))
    table = with_reference(rows.select_rows(found, (2, 4), True), found, kind)
    assert len(table) == 16
    for name, means in own_means(clean).items():
        given = references(table, name)
        assert given.dtype == np.float32 and given.shape[1:] == means.shape[1:]
        for number in range(len(table)):
            others = (clean.actor == table.actor[number]) & (clean.clip != table.clip[number])
            if kind == "neutral":
                others &= clean.label == 0
            assert others.sum() == (3 if kind == "recording" else 1 + (table.label[number] > 0))
            expected = means[others].mean(axis=0)
            assert given[number] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_without_a_reference_nothing_changes(found):
    table = rows.select_rows(found, (2,))
    assert with_reference(table, found, "none") is table


def test_an_actors_references_are_made_of_that_actor_alone(found):
    """References of an actor hold nothing of another one."""
    alone = found.without({clip.clip for clip in found.clips if clip.actor == 4})
    both = with_reference(rows.select_rows(found, (2, 4)), found, "recording")
    one = with_reference(rows.select_rows(alone, (2,)), alone, "recording")
    for name in one.reference.tensors:
        assert len(one.reference.tensors[name]) == 4
        expected = references(both.where(both.actor == 2), name)
        assert references(one, name) == pytest.approx(expected, abs=1e-5)


def test_an_actors_only_neutral_clip_is_left_out(small_cache):
    table = with_reference(rows.select_rows(small_cache, (2, 3)), small_cache, "neutral")
    assert len(table) == 6 and table.label.all()
    every = with_reference(rows.select_rows(small_cache, (2, 3)), small_cache, "recording")
    assert len(every) == 8


def test_a_speaker_without_another_clip_is_refused_where_nobody_is_left(small_spec, tmp_path):
    alone = write_rows(tmp_path, small_spec, [(7, "neutral", "av"), (9, "sad", "av")])
    for kind in ("recording", "neutral"):
        with pytest.raises(InputError, match=r"other clips of actors 7,9 .*, got none; use --sp"):
            with_reference(rows.select_rows(alone, (7, 9)), alone, kind)


def test_a_clip_without_a_modality_does_not_count_in_its_mean(small_spec, tmp_path):
    clips = [(1, "sad", "av"), (1, "sad", "a"), (1, "happy", "v"), (1, "happy", "av")]
    made = write_rows(tmp_path, small_spec, clips)
    clean = rows.select_rows(made, (1,))
    table = with_reference(clean, made, "recording")
    having = {"mfcc_reference": clean.has_audio, "frames_reference": clean.has_video}
    for name, means in own_means(clean).items():
        for number, given in enumerate(references(table, name)):
            others = having[name] & (np.arange(4) != number)
            assert given == pytest.approx(means[others].mean(axis=0), rel=1e-4, abs=1e-4)


def test_columns_that_are_padded_do_not_count(small_spec, tmp_path):
    clips = [(1, "sad", "av"), (1, "happy", "av")]

    def pad(number, clip):
        for row in clip.rows:
            row.mfcc[:, 30:] = 0
        return clip

    made = write_rows(tmp_path, small_spec, clips, change=pad)
    clean = rows.select_rows(made, (1,))
    mfcc = reader.RowReader(clean).read(np.arange(2), ("mfcc",))["mfcc"]
    given = references(with_reference(clean, made, "recording"), "mfcc_reference")
    assert given[0] == pytest.approx(mfcc[1, :, :30].mean(axis=(1, 2)), rel=1e-4, abs=1e-4)


def test_references_follow_their_rows(found):
    table = with_reference(rows.select_rows(found, (2, 4)), found, "recording")
    taken = table.take(np.array([5, 1, 5]))
    for name in table.reference.tensors:
        assert np.array_equal(references(taken, name), references(table, name)[[5, 1, 5]])


def test_a_result_with_a_reference_is_stamped():
    assert speaker.stamp(None, "none") is None
    assert speaker.stamp("leaks", "none") == "leaks"
    assert speaker.stamp(None, "neutral") == speaker.STAMPS["neutral"]
    assert "not actor-independent" in speaker.STAMPS["neutral"]
    assert "transductive" in speaker.stamp(None, "recording")
    assert speaker.stamp("leaks", "recording") == f"{speaker.STAMPS['recording']}; leaks"


def test_copies_are_in_nobodys_mean(found):
    """A clip that is left out of training has a reference, and is in no other clip's."""
    copy = next(clip.clip for clip in found.clips if clip.actor == 2)
    known = speaker.references(found, "recording", {copy})
    table = speaker.with_reference(rows.select_rows(found, (2,)), known)
    means = own_means(rows.select_rows(found, (2,)))["mfcc_reference"]
    for number, given in enumerate(references(table, "mfcc_reference")):
        others = (table.clip != table.clip[number]) & (table.clip != copy)
        assert given == pytest.approx(means[others].mean(axis=0), rel=1e-4, abs=1e-4)


def test_who_has_no_other_clip_is_named(small_spec, tmp_path):
    clips = [(2, "neutral", "av"), (2, "happy", "av"), (4, "happy", "av"), (4, "sad", "av")]
    found = write_rows(tmp_path, small_spec, clips)
    asked = rows.select_rows(found, (2, 4))
    kept = with_reference(asked, found, "neutral")
    assert speaker.left_out(asked, asked) == []
    (said,) = speaker.left_out(asked, kept)
    # The neutral clip itself has no other neutral one.
    assert said == "3 clips of actors 2,4: no other clip to compare them with"
