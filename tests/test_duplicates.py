"""A recording under two names never reaches training."""

import dataclasses

import numpy as np
import pytest
from conftest import write_rows

from pipeline.errors import InputError
from train import duplicates, reading, table

EMOTIONS = ("neutral", "happy", "angry", "surprised")


def clip(found, emotion, actor):
    return next(
        entry.clip for entry in found.clips if (entry.emotion, entry.actor) == (emotion, actor)
    )


@pytest.fixture(scope="module")
def copied(tmp_path_factory, small_spec):
    """Four actors, four emotions; four recordings are filed under a second name."""
    clips = [(actor, emotion, "av") for actor in (1, 2, 3, 4) for emotion in EMOTIONS]
    made = {}

    def with_mfcc(given, of):
        rows = [
            row._replace(mfcc=of(row) if callable(of) else other.mfcc)
            for row, other in zip(given.rows, given.rows if callable(of) else of.rows, strict=True)
        ]
        return dataclasses.replace(given, rows=tuple(rows))

    def change(number, given):
        actor, emotion, _ = clips[number]
        made[actor, emotion] = given
        if (actor, emotion) == (4, "neutral"):  # the same file under a test actor's name
            return dataclasses.replace(given, sources=made[1, "neutral"].sources)
        if (actor, emotion) == (3, "happy"):  # the same audio in another file
            return with_mfcc(given, made[2, "happy"])
        if (actor, emotion) == (2, "surprised"):  # of one actor: no leak
            return dataclasses.replace(given, sources=made[2, "angry"].sources)
        if (actor, emotion) in ((1, "angry"), (2, "neutral")):  # silence
            return with_mfcc(given, lambda row: np.full_like(row.mfcc, -300))
        if (actor, emotion) in ((1, "happy"), (4, "happy")):  # frames alone
            silent = with_mfcc(given, lambda row: np.zeros_like(row.mfcc))
            return dataclasses.replace(silent, has_audio=False)
        return given

    return write_rows(tmp_path_factory.mktemp("copied"), small_spec, clips, 2, change)


def test_copies_across_actors_are_found(copied):
    groups = duplicates.across_actors(copied)
    assert [[entry.clip for entry in group] for group in groups] == [
        [clip(copied, "neutral", 1), clip(copied, "neutral", 4)],
        [clip(copied, "happy", 2), clip(copied, "happy", 3)],
    ]
    said = duplicates.line(groups)
    assert said.startswith("left out of training and validation: 4 clips") and "\n" not in said
    first, second = (clip(copied, "neutral", actor) for actor in (1, 4))
    assert f"{first} (actor 1) = {second} (actor 4)" in said
    assert duplicates.line(groups * 3).endswith("and 3 more")


def test_every_copy_is_left_out_clean_and_augmented(copied):
    copies = duplicates.left_out(duplicates.across_actors(copied))
    every = table.select_rows(copied, (1, 2, 3), variants=True)
    kept = table.select_rows(copied, (1, 2, 3), variants=True, left_out=copies)
    assert set(every.clip) - set(kept.clip) == copies - {clip(copied, "neutral", 4)}
    assert len(every) - len(kept) == 6
    with pytest.raises(InputError, match="only clips that are left out"):
        table.select_rows(copied, (1,), left_out=set(every.clip))


class StoppedHere(Exception):
    pass


def test_training_never_sees_them_and_the_test_keeps_its_own(copied, tmp_path, monkeypatch):
    from train.protocol import Split

    from train import fit
    from train.settings import Settings

    taken = []
    select = table.select_rows

    def watched(*words, **named):
        taken.append(set(select(*words, **named).clip))
        return select(*words, **named)

    def stop(rows):
        raise StoppedHere

    monkeypatch.setattr(table, "select_rows", watched)
    monkeypatch.setattr(reading, "mfcc_statistics", stop)
    with pytest.raises(StoppedHere):
        fit.fit(copied, tmp_path, Split((1, 2), (3,), (4,)), Settings(), progress=False)
    training, clean, validation, all_but_test, test = taken
    assert training == clean
    assert all_but_test == training | validation
    assert not all_but_test & duplicates.left_out(duplicates.across_actors(copied))
    assert clip(copied, "surprised", 2) in training and clip(copied, "neutral", 4) in test


def test_a_corpus_without_copies_loses_nothing(small_cache):
    assert duplicates.across_actors(small_cache) == []
