"""What is made and what is kept: states in, actions out, no file in sight."""

import dataclasses
import itertools
import random
from pathlib import Path

import pytest
from conftest import tally
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cache import index, plan
from pipeline.cache.facts import ClipEntry, ShardFacts
from pipeline.cache.plan import FileState, Known, WantedClip
from pipeline.corpora.sources import Source
from pipeline.spec import FeatureSpec

SPEC = FeatureSpec()

CORPORA = st.dictionaries(st.integers(1, 3), st.sets(st.integers(0, 200), max_size=60), min_size=1)
"""Numbers of clips by actor."""

SEARCH = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def want(name, actor=1, emotion="happy", files=("mp4",)):
    return WantedClip(name, actor, emotion, tuple(f"{name}.{suffix}" for suffix in files))


def wanted_of(corpus):
    return [
        want(f"{actor}-{number}", actor) for actor, numbers in corpus.items() for number in numbers
    ]


def states_of(wanted, content="a", modified_ns=1):
    return {path: FileState(9, modified_ns, content) for clip in wanted for path in clip.paths}


def carry_out(made, wanted, states, clock=0, reader="1", reasons=None):
    """The shards that a plan's actions would leave."""
    by_id = {clip.id: clip for clip in wanted}
    return [
        ShardFacts(
            file=shard.file,
            actor=shard.actor,
            rows=1,
            bytes=1,
            sha256="",
            mfcc_offset=1,
            frames_offset=1,
            clips=tuple(
                ClipEntry(
                    name,
                    shard.actor,
                    by_id[name].emotion,
                    shard.file,
                    tuple(
                        Source(
                            path, states[path].bytes, states[path].sha256, states[path].modified_ns
                        )
                        for path in by_id[name].paths
                    ),
                    reason=(reasons or {}).get(name),
                )
                for name in shard.clips
            ),
            libraries={"reader": reader},
            seconds=1.0,
            finished=f"{clock:06d}",
        )
        for shard in made.make
    ]


def cached(wanted, states=None, **options):
    """What a cache knows after one run."""
    states = states or states_of(wanted)
    return Known(carry_out(plan.plan(wanted, states, Known(), "1"), wanted, states, **options))


def fresh(wanted, known, states=None, reader="1", **rules):
    return plan.plan(wanted, states or states_of(wanted), known, reader, **rules)


# Grouping


@SEARCH
@given(CORPORA)
def test_a_shard_holds_at_most_16_clips_of_one_actor_and_every_clip_is_in_one(corpus):
    groups = list(plan.group(wanted_of(corpus)))
    for actor, clips in groups:
        assert 1 <= len(clips) <= 16 and list(clips) == sorted(clips)
        assert all(clip.startswith(f"{actor}-") for clip in clips)
    found = [clip for _, clips in groups for clip in clips]
    assert sorted(found) == sorted(clip.id for clip in wanted_of(corpus))


@SEARCH
@given(CORPORA, st.randoms(use_true_random=False))
def test_any_order_of_the_input_gives_the_same_plan(corpus, chance):
    wanted = wanted_of(corpus)
    known = cached(wanted[::2])
    expected = fresh(wanted, known)
    mixed = chance.sample(wanted, len(wanted))
    shards = chance.sample(list(known.shards), len(known.shards))
    assert fresh(mixed, Known(shards)) == expected


@SEARCH
@given(CORPORA, st.integers(1, 3))
def test_an_added_clip_changes_one_shard_or_splits_it(corpus, actor):
    wanted = wanted_of(corpus)
    more = [*wanted, want(f"{actor}-new", actor)]
    before, after = set(plan.group(wanted)), set(plan.group(more))
    assert len(before - after) <= 1 and 1 <= len(after - before) <= 2
    made = fresh(more, cached(wanted)).make
    assert {(shard.actor, shard.clips) for shard in made} == {
        group for group in after if any(clip.endswith("-new") for clip in group[1])
    }
    assert len(made) == 1


def test_hashes_that_agree_in_every_bit_end_the_splitting(monkeypatch):
    monkeypatch.setattr(plan, "id_hash", lambda _: 0)
    ((_, clips),) = plan.group([want(str(number)) for number in range(40)])
    assert len(clips) == 40


def test_names_of_shards_depend_on_their_clips_alone():
    first = fresh([want("a"), want("b")], Known()).make[0].file
    assert fresh([want("b", emotion="sad"), want("a")], Known()).make[0].file == first
    assert fresh([want("a")], Known()).make[0].file != first
    assert fresh([want("a", 2), want("b", 2)], Known()).make[0].file != first
    assert plan.split_name(plan.join_name("actor-01-ab", 3)) == ("actor-01-ab", 3)
    assert plan.split_name(plan.join_name("actor-01-ab", 0)) == ("actor-01-ab", 0)


# What is fresh


@SEARCH
@given(CORPORA, CORPORA)
def test_every_wanted_clip_is_held_or_made_and_a_second_run_makes_nothing(before, after):
    old, new = wanted_of(before), wanted_of(after)
    known = cached(old)
    first = fresh(new, known)
    made = {clip for shard in first.make for clip in shard.clips}
    assert {clip.id for clip in new} == first.held.keys() | made
    assert not first.held.keys() & first.reasons.keys()
    assert set(first.absent) == {clip.id for clip in old} - {clip.id for clip in new}
    known = Known([*known.shards, *carry_out(first, new, states_of(new), clock=1)])
    again = fresh(new, known)
    assert not again.make and not again.reasons
    assert again.held.keys() == {clip.id for clip in new}


def test_no_file_of_an_intact_shard_is_written_again():
    wanted = [want("a"), want("b")]
    known = cached(wanted)
    changed = states_of(wanted) | {"a.mp4": FileState(9, 2, "changed")}
    (made,) = fresh(wanted, known, changed).make
    assert made.clips == ("a", "b")
    assert made.file == known.shards[0].file.replace(".h5", ".1.h5")
    more = carry_out(fresh(wanted, known, changed), wanted, changed, clock=1)
    changed["b.mp4"] = FileState(9, 3, "changed too")
    (made,) = fresh(wanted, Known([*known.shards, *more]), changed).make
    assert made.file == known.shards[0].file.replace(".h5", ".2.h5")


CHANGES = {
    "size": lambda clip, state: (clip, dataclasses.replace(state, bytes=8)),
    "content": lambda clip, state: (clip, dataclasses.replace(state, sha256="b")),
    "time stamp, content not looked at": lambda clip, state: (clip, FileState(9, 2)),
    "emotion": lambda clip, state: (dataclasses.replace(clip, emotion="sad"), state),
    "actor": lambda clip, state: (dataclasses.replace(clip, actor=2), state),
    "files": lambda clip, state: (dataclasses.replace(clip, paths=("a.mp4", "a.wav")), state),
    "file name": lambda clip, state: (dataclasses.replace(clip, paths=("b.mp4",)), state),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_makes_a_clip_stale_and_says_why(change):
    wanted = [want("a")]
    clip, state = change(wanted[0], FileState(9, 1, "a"))
    found = fresh([clip], cached(wanted), dict.fromkeys(clip.paths, state))
    assert [shard.clips for shard in found.make] == [("a",)] and not found.held
    assert len(found.reasons["a"]) > 10


@pytest.mark.parametrize("state", [FileState(9, 1), FileState(9, 5, "a")], ids=["stamp", "content"])
def test_same_stamp_or_same_content_is_fresh(state):
    wanted = [want("a")]
    assert not fresh(wanted, cached(wanted), {"a.mp4": state}).make


def test_only_files_whose_stamp_moved_are_hashed():
    wanted = [want("a"), want("b"), want("c"), want("d")]
    known = cached(wanted[:3])
    states = {
        "a.mp4": FileState(9, 1),
        "b.mp4": FileState(9, 2),
        "c.mp4": FileState(8, 2),
        "d.mp4": FileState(9, 2),
    }
    assert plan.to_hash(wanted, states, known) == ["b.mp4"]
    assert plan.to_hash(wanted, states, known, everything=True) == ["a.mp4", "b.mp4"]


@pytest.mark.parametrize(
    ("rules", "again"),
    [
        ({"reader": "1"}, False),
        ({"reader": "2"}, True),
        ({"reader": "1", "retry_bad": True}, True),
    ],
)
def test_when_an_unreadable_clip_is_tried_again(rules, again):
    wanted = [want("a"), want("b")]
    known = cached(wanted, reasons={"a": "no video"})
    found = fresh(wanted, known, **rules)
    assert bool(found.make) == again == ("a" in found.reasons)
    assert "b" in found.held
    changed = states_of(wanted) | {"a.mp4": FileState(9, 2, "mended")}
    assert fresh(wanted, known, changed).make


def test_a_failure_that_may_pass_is_tried_again_by_itself():
    wanted = [want("a")]
    (shard,) = cached(wanted, reasons={"a": "killed"}).shards
    entry = dataclasses.replace(shard.clips[0], transient=True)
    known = Known([dataclasses.replace(shard, clips=(entry,))])
    assert fresh(wanted, known).reasons == {"a": "its failure may pass: killed"}


def test_clips_that_are_only_tried_again_get_a_shard_of_their_own():
    """Unless one of their neighbours is made, too, for another reason."""
    wanted = [want("a"), want("b"), want("c")]
    (shard,) = cached(wanted, reasons={"a": "killed", "b": "no video"}).shards
    killed = dataclasses.replace(shard.clips[0], transient=True, sources=())
    known = Known([dataclasses.replace(shard, clips=(killed, *shard.clips[1:]))])
    found = fresh(wanted, known)
    assert [made.clips for made in found.make] == [("a",)] and found.failed == {"a": killed}
    assert [made.clips for made in fresh(wanted, known, retry_bad=True).make] == [("a", "b")]
    changed = states_of(wanted) | {"c.mp4": FileState(8, 2)}
    assert [made.clips for made in fresh(wanted, known, changed).make] == [("a", "b", "c")]
    (again,) = carry_out(found, wanted, states_of(wanted), clock=1)
    served = fresh(wanted, Known([*known.shards, again]))
    assert not served.make and not served.failed
    assert served.held["a"].shard == again.file != served.held["c"].shard == shard.file


def test_rows_count_before_a_later_failure():
    """A machine with a worse reader does not take away what another one could read."""
    wanted = [want("a")]
    good, bad = cached(wanted), cached(wanted, clock=1, reasons={"a": "no codec"})
    later = dataclasses.replace(bad.shards[0], file="actor-01-bad.h5")
    held = fresh(wanted, Known([*good.shards, later])).held
    assert {clip: entry.reason for clip, entry in held.items()} == {"a": None}


def test_the_generation_says_which_shard_of_the_same_clips_is_later():
    """The first was made by a machine whose clock is ahead; others sort by when they finished."""
    two, three = [want("a"), want("b")], [want("a"), want("b"), want("c")]
    (first,) = cached(two, clock=50).shards
    second = dataclasses.replace(first, file=f"{first.file[:-3]}.1.h5", finished="000010")
    before, after = cached(three, clock=40).shards[0], cached([want("a")], clock=60).shards[0]
    expected = [before, first, second, after]
    for shards in itertools.permutations(expected):
        assert plan.by_age(shards) == expected


def test_shards_with_other_clips_are_of_no_use_where_only_wanted_ones_may_stay():
    wanted = [want("a"), want("b")]
    known = cached(wanted)
    assert not fresh(wanted[:1], known).make
    assert [shard.clips for shard in fresh(wanted[:1], known, only_wanted=True).make] == [("a",)]
    assert fresh(wanted[:1], known).absent == ("b",)


# Histories


class World:
    """Two raw folders with the same names in turn on one cache; sizes never differ."""

    def __init__(self, chance):
        self.chance, self.now, self.known, self.runs = chance, 10, Known(), 0
        self.roots = [{}, {}]
        for root in self.roots:
            for number in range(3):
                self.write(root, f"c{number}")

    def write(self, root, name):
        self.now += 1
        root[name] = (f"content {self.now}", self.now)

    def touch(self, root, name):
        self.now += 1
        root[name] = (root[name][0], self.now)

    def step(self):
        root = self.chance.choice(self.roots)
        name = f"c{self.chance.randrange(5)}"
        act = self.chance.randrange(5)
        if act == 0 and len(root) > 1:
            root.pop(name, None)
        elif act == 1 and name in root:
            self.touch(root, name)
        elif act == 2:
            self.write(root, name)
        return root

    def run(self, root):
        """Plan, act, and give back the content behind each clip of the index."""
        self.runs += 1
        wanted = [want(name) for name in root]
        states = {f"{name}.mp4": FileState(9, stamp) for name, (_, stamp) in root.items()}
        truth = {f"{name}.mp4": content for name, (content, _) in root.items()}
        for path in plan.to_hash(wanted, states, self.known):
            states[path] = dataclasses.replace(states[path], sha256=truth[path])
        made = plan.plan(wanted, states, self.known, "1")
        whole = {path: FileState(9, states[path].modified_ns, truth[path]) for path in states}
        shards = [*self.known.shards, *carry_out(made, wanted, whole, self.runs)]
        assert len({shard.file for shard in shards}) == len(shards), "a shard was overwritten"
        copies = [entry for shard in shards[len(self.known.shards) :] for entry in shard.clips]
        held = plan.latest([*made.held.values(), *copies])
        found = index.index_of(held.values(), shards, states, Path(), SPEC, "")
        self.known = Known(shards, found.modified_ns)
        assert sorted(entry.clip for entry in found.entries) == sorted(root)
        return made, {entry.clip: entry.sources[0].sha256 for entry in found.entries}


@pytest.mark.torture
@pytest.mark.parametrize("histories", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_whatever_happened_before_the_index_means_what_the_raw_folder_holds(histories):
    for seed in range(histories):
        live(World(random.Random(seed)))
    tally("stale: histories of two raw folders on one cache, 30 steps each", histories, histories)


def live(world):
    for _ in range(30):
        root = world.step()
        _, served = world.run(root)
        assert served == {name: content for name, (content, _) in root.items()}
        made, _ = world.run(root)
        assert not made.make, "a second run had work to do"
    made, _ = world.run(world.roots[0])
    for root in (world.roots[1], *world.roots):
        made, _ = world.run(root)
    assert not made.make, "coming back to a corpus made it again"


# Size


class Counted(dict):
    """A mapping that counts how often it is asked."""

    looks = 0

    def __getitem__(self, key):
        self.looks += 1
        return super().__getitem__(key)


class Passes(list):
    """A list that counts how often it is walked through."""

    passes = 0

    def __iter__(self):
        self.passes += 1
        return super().__iter__()


@pytest.mark.parametrize("count", [2_000, 20_000])
def test_planning_looks_at_each_file_and_each_shard_a_few_times(count):
    """However many there are: what takes longer by the square shows in the larger number."""
    wanted = Passes(want(f"{n % 400}-{n}", 1 + n % 400) for n in range(count))
    states = Counted(states_of(wanted))
    shards = Passes(cached(wanted).shards)
    wanted.passes = states.looks = 0
    known = Known(shards)
    assert not plan.to_hash(wanted, states, known)
    found = plan.plan(wanted, states, known, "1")
    assert not found.make and len(found.held) == count
    index.index_of(found.held.values(), shards, states, Path(), SPEC, "")
    assert states.looks <= 5 * count and wanted.passes <= 6 and shards.passes <= 8
