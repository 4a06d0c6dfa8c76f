"""The table of cached rows: which ones are meant, and in which order."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_rows

from pipeline.corpora.actors import format_actors, parse_actors
from pipeline.errors import InputError
from train.data import dataset, rows


def test_only_those_who_ask_get_variants(small_cache):
    both = rows.select_rows(small_cache, (1, 2), variants=True)
    clean = rows.select_rows(small_cache, (1, 2))
    assert (len(both), len(clean)) == (16, 8)
    assert set(clean.variant) == {"clean"} and set(both.variant) == {"clean", "pitch"}


def test_an_actor_is_on_one_side(small_cache):
    sides = [rows.select_rows(small_cache, actors) for actors in ((1, 2), (3,), (4,))]
    assert [set(side.actor.tolist()) for side in sides] == [{1, 2}, {3}, {4}]
    assert not set(sides[0].clip) & set(sides[2].clip)
    assert [int(clip[-2:]) for clip in sides[0].clip] == sides[0].actor.tolist()


def test_unknown_actors_are_refused(small_cache):
    with pytest.raises(InputError, match=r"got \[9\]"):
        rows.select_rows(small_cache, (1, 9))


def test_a_head_answers_for_the_clips_with_its_modality(tmp_path, small_spec):
    clips = [(1, "sad", "av"), (1, "sad", "a"), (1, "sad", "v")]
    chosen = rows.select_rows(write_rows(tmp_path, small_spec, clips), (1,))
    assert chosen.having("audio").tolist() == [True, True, False]
    assert chosen.having("video").tolist() == [True, False, True]
    assert chosen.having("fused").all()


def test_rows_are_taken_in_the_order_asked_for_and_as_often(small_cache):
    chosen = rows.select_rows(small_cache, (1, 2))
    taken = chosen.take([3, 0, 3])
    assert taken.clip.tolist() == chosen.clip[[3, 0, 3]].tolist() and len(taken) == 3
    assert chosen.where(chosen.label == 2).clip.tolist() == chosen.clip[chosen.label == 2].tolist()


def test_how_clips_are_grouped_into_shards_changes_no_table_and_no_batch(tmp_path, small_spec):
    clips = [
        (actor, emotion, modalities)
        for emotion, modalities in (("sad", "av"), ("happy", "v"), ("sad", "a"), ("calm", "av"))
        for actor in (2, 1, 10)
    ]
    seen = []
    for size in (1, 3, 16):
        made = write_rows(tmp_path / str(size), small_spec, clips, size)
        chosen = rows.select_rows(made, (1, 2, 10), variants=True)
        assert len(chosen.shards) == 3 * -(-4 // size)
        columns = ("actor", "clip", "variant", "label", "has_audio", "has_video")
        batches = [
            (inputs["mfcc"].tobytes(), inputs["frames"].tobytes(), label.tolist())
            for inputs, label in dataset.shuffled(chosen, 7, 0).take(4).as_numpy_iterator()
        ]
        seen.append(([getattr(chosen, name).tolist() for name in columns], batches))
        keys = list(zip(chosen.actor.tolist(), chosen.clip.tolist(), strict=True))
        assert keys == sorted(keys) and chosen.variant.tolist() == ["clean", "pitch"] * 12
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("text", "actors"), [("1-4,9", (1, 2, 3, 4, 9)), ("7", (7,)), ("3, 1 2", (1, 2, 3))]
)
def test_lists_of_actors(text, actors):
    assert parse_actors(text) == actors
    assert parse_actors(format_actors(actors)) == actors


@pytest.mark.parametrize("text", ["", "a", "4-1", "1--2", "-3", "1-99999999"])
def test_wrong_lists_of_actors(text):
    with pytest.raises(InputError, match="expected actors such as"):
        parse_actors(text)


def test_training_needs_no_part_of_extraction():
    """The robustness report does, and imports it when it makes noise."""
    code = (
        "import sys; from train import fit; import train.__main__; "
        "print(*[n for n in sys.modules if n.startswith(('pipeline.features', 'pipeline.media', "
        "'pipeline.cache.build')) or n in ('av', 'librosa')])"
    )
    root = Path(__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    )
    assert run.stdout.split() == []
