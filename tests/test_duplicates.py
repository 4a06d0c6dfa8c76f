"""A recording under two names never reaches training."""

import dataclasses

import numpy as np
import pytest
from conftest import write_rows
from small_training import SETTINGS, train

from pipeline.errors import InputError
from train.data import duplicates, rows
from train.loop import stage

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
        changed = [
            row._replace(mfcc=of(row) if callable(of) else other.mfcc)
            for row, other in zip(given.rows, given.rows if callable(of) else of.rows, strict=True)
        ]
        return dataclasses.replace(given, rows=tuple(changed))

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
    every = rows.select_rows(copied, (1, 2, 3), variants=True)
    kept = rows.select_rows(copied, (1, 2, 3), variants=True, left_out=copies)
    assert set(every.clip) - set(kept.clip) == copies - {clip(copied, "neutral", 4)}
    assert len(every) - len(kept) == 6
    with pytest.raises(InputError, match="only clips that are left out"):
        rows.select_rows(copied, (1,), left_out=set(every.clip))


def test_training_never_reads_them_and_the_test_keeps_its_own(copied, tmp_path, monkeypatch):
    given, learn = {}, stage.train

    def noted(trainer, name, training, table, validation, epochs):
        given[name] = set(table.clip), set(validation.clip) if validation else set()
        learn(trainer, name, training, table, validation, epochs)

    monkeypatch.setattr(stage, "train", noted)
    epochs = {"audio_epochs": 1, "video_epochs": 1, "fusion_epochs": 1, "refit_epochs": 1}
    judged = train(copied, tmp_path, dataclasses.replace(SETTINGS, **epochs))
    copies = duplicates.left_out(duplicates.across_actors(copied))
    assert len(given) == 6 and not any((a | b) & copies for a, b in given.values())
    training, validation = given["video"]
    assert clip(copied, "surprised", 2) in training
    assert {name[-2:] for name in training} == {"01", "02"}
    assert {name[-2:] for name in validation} == {"03"}
    assert given["refit-video"][0] == training | validation
    # The test counts all clips of its actors.
    assert judged["clips"] == 4


def test_a_corpus_without_copies_loses_nothing(small_cache):
    assert duplicates.across_actors(small_cache) == []
