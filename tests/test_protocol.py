"""Splits by actor, the protocols of papers, and the split by clip that leaks."""

import pytest

from pipeline.errors import InputError
from train.data import rows
from train.studies import protocol


def test_protocols_test_every_ravdess_actor_once():
    everyone = range(1, 25)
    for name in ("luna5", "sixfold", "emobox", "contiguous:3", "contiguous:7", "loso"):
        splits = protocol.folds(name, everyone)
        tested = [actor for split in splits for actor in split.test]
        assert sorted(tested) == list(everyone)
        for split in splits:
            sides = [*split.train, *split.validation, *split.test]
            assert sorted(sides) == list(everyone)


def test_protocols_as_published():
    (only,) = protocol.folds("chumachenko", range(1, 25))
    assert (only.test, only.validation) == ((5, 10, 16, 19), (11, 13, 18, 22))
    luna = protocol.folds("luna5", range(1, 25))
    assert [split.validation for split in luna] == [(3, 6), (10, 11), (8, 17), (1, 14), (2, 5)]
    assert luna[0].test == (2, 5, 14, 15, 16)


def test_contiguous_cuts_the_present_actors_in_order():
    splits = protocol.folds("contiguous:3", [1, 2, 3, 7, 8, 9, 20, 21, 22])
    assert [split.test for split in splits] == [(1, 2, 3), (7, 8, 9), (20, 21, 22)]


def test_missing_actors_are_named_or_left_out():
    with pytest.raises(InputError, match="without 19-24"):
        protocol.folds("sixfold", range(1, 19))
    splits = protocol.folds("sixfold", range(1, 19), present_only=True)
    assert [split.test for split in splits][-1] == (17, 18) and len(splits) == 5
    for wrong in ("fivefold", "contiguous:1", "contiguous:x", "contiguous:99"):
        with pytest.raises(InputError, match="expected"):
            protocol.folds(wrong, range(1, 19))


def test_the_default_split_takes_the_last_actors_by_number():
    split = protocol.split_actors(range(1, 25))
    assert split.test == (19, 20, 21, 22, 23, 24) and split.validation == (16, 17, 18)
    for present, test, validation in (
        ((1, 2), None, None),
        (range(1, 5), (9,), None),
        (range(1, 5), (1, 2), (2,)),
        (range(1, 5), (1, 2), (3, 4)),
    ):
        with pytest.raises(InputError, match="expected"):
            protocol.split_actors(present, test, validation)


def test_stamps():
    # One that tests few actors trains on all others: they have to be there as well.
    with pytest.raises(InputError, match="got a cache without 3-4,6-9"):
        protocol.folds("chumachenko", [1, 2, 5, 10, 16, 19])
    few = protocol.folds("chumachenko", [1, 2, 5, 10, 16, 19], present_only=True)
    more = protocol.folds("sixfold", range(1, 31))
    assert "present actors only" in protocol.stamp("chumachenko", few)
    assert "present actors only" in protocol.stamp("sixfold", more)
    cut = protocol.folds("sixfold", range(1, 19), present_only=True)
    assert "not comparable" in protocol.stamp("sixfold", cut)
    assert protocol.stamp("sixfold", protocol.folds("sixfold", range(1, 25))) is None
    assert protocol.stamp("random", protocol.folds("random", range(1, 25))) == protocol.LEAKING


def test_random_deals_clips_not_actors(small_cache):
    by_actor = protocol.folds("contiguous:4", small_cache.actors)
    leaking = protocol.folds("random", small_cache.actors)
    assert [split.stamp for split in by_actor] == [None] * 4
    tested = []
    for fair, split in zip(by_actor, leaking, strict=True):
        assert split.stamp == protocol.LEAKING
        sides = [
            rows.select_rows(small_cache, actors, True, clip_seed=split.clip_seed)
            for actors in (split.train, split.validation, split.test)
        ]
        clips = [set(side.clip) for side in sides]
        assert not clips[0] & clips[1] and not (clips[0] | clips[1]) & clips[2]
        sizes = [
            len(rows.select_rows(small_cache, actors, True))
            for actors in (fair.train, fair.validation, fair.test)
        ]
        assert [len(side) for side in sides] == sizes
        tested += sorted(clips[2])
    assert sorted(tested) == sorted(entry.clip for entry in small_cache.clips)
    train, test = (
        rows.select_rows(small_cache, actors, clip_seed=0)
        for actors in (leaking[0].train, leaking[0].test)
    )
    assert set(train.actor) & set(test.actor)


def test_rows_of_dealt_clips_keep_their_own_actor(small_cache):
    found = rows.select_rows(small_cache, (1, 2), clip_seed=0)
    assert [int(clip[-2:]) for clip in found.clip] == found.actor.tolist()
    assert len(set(found.actor)) > 2 and len(found) == 8


@pytest.mark.parametrize("name", ["contiguous:4", "random"])
def test_seen_recordings_are_those_of_the_rows(small_cache, name):
    split = protocol.folds(name, small_cache.actors)[1]
    sides = [
        rows.select_rows(small_cache, actors, clip_seed=split.clip_seed)
        for actors in (split.train, split.validation)
    ]
    clips = {clip for side in sides for clip in side.clip}
    expected = {
        source.sha256
        for entry in small_cache.clips
        if entry.clip in clips
        for source in entry.sources
    }
    assert rows.source_hashes(small_cache, split) == expected
