"""Studies: which trainings they consist of, and what their table says. Trainings are made up."""

import argparse
import dataclasses
import json

import numpy as np
import pytest
from test_runner import SHORT, pretend

from pipeline.cache import index
from pipeline.errors import InputError
from train.heads import AUGMENTATIONS, HEADS
from train.settings import Settings, scaled
from train.studies import commands, protocol, runner, study


class Actors:
    """As much of an index as splits are made of."""

    def __init__(self, count, spec):
        self.actors, self.spec = list(range(1, count + 1)), spec


@pytest.mark.parametrize("count", [4, 18, 24])
def test_choices_are_made_without_the_test_actors_of_the_default_split(count, small_spec):
    cache = Actors(count, small_spec)
    splits = study.choices(cache, "audio", SHORT).conditions[0].splits
    kept_out = protocol.split_actors(cache.actors).test
    others = sorted(set(cache.actors) - set(kept_out))
    assert [actor for split in splits for actor in split.test] == others
    for split in splits:
        assert sorted((*split.train, *split.validation, *split.test)) == others


def test_too_few_actors_and_folds_are_refused(small_spec):
    with pytest.raises(InputError, match="at least 3 actors beside the test actors, got 2"):
        study.choices(Actors(3, small_spec), "audio", SHORT)
    for folds in (0, 4):
        with pytest.raises(InputError, match=f"expected 1 to 3 folds, got {folds}"):
            study.choices(Actors(18, small_spec), "audio", SHORT, folds)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_each_choice_leaves_out_one_thing(small_cache, modality):
    settings = scaled(Settings(), 0.5)
    listed = {
        condition.name: condition.settings
        for condition in study.choices(small_cache, modality, settings).conditions
    }
    default = listed.pop("default")
    assert default == dataclasses.replace(settings, modalities=(modality,))
    assert listed.pop("half of the epochs") == scaled(default, 0.5)
    clean = listed.pop("without variants")
    # The cache has one variant: an epoch with it is two of clean rows.
    assert not clean.variants and clean.patience == 2 * default.patience
    assert clean.epochs_of(modality) == 2 * default.epochs_of(modality)
    assert {name: given.without for name, given in listed.items()} == {
        f"without {name}": (name,) for name in AUGMENTATIONS[modality]
    }
    bare = Actors(18, dataclasses.replace(small_cache.spec, variants=()))
    assert "without variants" not in {
        condition.name for condition in study.choices(bare, modality, settings).conditions
    }


def test_the_folds_by_actor_of_the_leak_are_sixfold_where_all_actors_are_there(small_spec):
    by_actor, by_clip = study.leak(Actors(24, small_spec), SHORT, 6).conditions
    assert list(by_actor.splits) == protocol.folds("sixfold", range(1, 25))
    assert all(split.stamp == protocol.LEAKING for split in by_clip.splits)


def test_the_leak_is_what_a_split_by_clip_adds(small_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "train_task", pretend)
    measured = study.measure(study.leak(small_cache, SHORT, 4), tmp_path, [0])
    by_actor, by_clip = measured["conditions"].values()
    assert by_actor["test"]["fused"] == [0] and by_actor["summary"]["stamp"] is None
    # All but the clips of the one fold whose two actors happen to be in no training.
    folds = by_clip["summary"]["fused"]["uar"]["folds"]
    assert folds[1:] == [1, 1, 1] and by_clip["summary"]["stamp"] == protocol.LEAKING
    assert by_actor["summary"]["clips"] == by_clip["summary"]["clips"] == 16
    assert json.loads((tmp_path / "leak.json").read_text()) == measured
    lines = study.table(measured).splitlines()
    assert f"{100 * np.mean(folds):+.1f} ± " in lines[2] and protocol.LEAKING in lines[-1]


def test_differences_are_paired_by_actor():
    """Two conditions: the second is 10 points better on one actor, 30 on the other."""

    def made(values):
        actors = {str(actor): {"uar": value} for actor, value in values.items()}
        return {
            "summary": {"audio": {"actors": actors}},
            "test": {"audio": [np.mean([*values.values()])]},
        }

    reference, better = made({1: 0.2, 2: 0.6}), made({1: 0.3, 2: 0.9})
    error = np.std([10, 30], ddof=1) / np.sqrt(2)
    assert study.difference(better, reference, "audio") == f"+20.0 ± {error:.1f}"
    assert study.difference(made({1: 0.1}), made({1: 0.2}), "audio") == "-10.0"
    # Other actors are easier or harder to tell: the difference is that of the shared ones.
    assert study.difference(made({2: 0.6, 3: 0}), reference, "audio") == "+0.0"


def test_ablation_trains_recipes_and_variants_over_seeds(small_cache, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "train_task", pretend)
    settings = dataclasses.replace(SHORT, audio_epochs=3)
    chosen = study.ablation({"published": small_cache, "default": small_cache}, settings)
    assert [condition.name for condition in chosen.conditions] == [
        "published, without variants",
        "published, with variants",
        "default, without variants",
        "default, with variants",
    ]
    epochs = [condition.settings.audio_epochs for condition in chosen.conditions]
    assert epochs == [6, 3, 6, 3]
    measured = study.measure(chosen, tmp_path, [0, 1])
    assert len(list(tmp_path.rglob("result.json"))) == 8
    for own in measured["conditions"].values():
        assert own["validation"] == {head: [0.25, 0.25] for head in HEADS}
        assert own["test"] == {head: [0, 0] for head in HEADS}
    table = study.table(measured)
    assert "25.0 ± 0.0" in table and "seeds 0, 1" in table
    one_seed = study.table(study.measure(chosen, tmp_path, [0]))
    assert "25.0" in one_seed and "25.0 ±" not in one_seed


def test_both_recipes_are_told_apart_by_their_specs(tmp_path, small_cache):
    with pytest.raises(InputError, match="got 0 published, 0 default, of actors none"):
        study.find_recipes(tmp_path)
    for spec in (*study.RECIPES.values(), small_cache.spec):
        folder = tmp_path / spec.digest
        folder.mkdir()
        bare = dataclasses.replace(small_cache, folder=folder, spec=spec, shards=())
        index.write_index(bare)
    found = study.find_recipes(tmp_path)
    specs = {name: index.read_index(folder).spec for name, folder in found.items()}
    assert specs == study.RECIPES


def parse(*words):
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers(dest="command"))
    arguments = parser.parse_args(list(words))
    return arguments.run(arguments)


def test_crossval_writes_a_report(small_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "train_task", pretend)
    places = ("--cache", str(small_cache.folder), "--model", str(tmp_path))
    assert parse("crossval", *places, "--protocol", "random", "--seed", "3") == 0
    report = tmp_path / "crossval-random-seed-3" / "report"
    content = json.loads((report / "crossval.json").read_text())
    assert content["stamp"] == protocol.LEAKING and content["minutes"] == [1.5] * 4
    assert len(content["folds"]) == 4
    said = capsys.readouterr().out
    assert protocol.LEAKING in said and "1.5 minutes a fold" in said


def test_studies_print_their_tables(small_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "train_task", pretend)
    places = ("--cache", str(small_cache.folder), "--model", str(tmp_path))
    parse("study", "choices", *places, "--modality", "video", "--seeds", "0", "--folds", "1")
    said = capsys.readouterr().out
    assert "half of the epochs" in said and "actors 4 have no part in it" in said
    content = tmp_path / "study-choices-video" / "choices-video.json"
    assert str(content) in said and content.is_file()
    for wrong in (("--seeds", "-1"), ("--epochs-scale", "0"), ("--folds", "9")):
        with pytest.raises(InputError, match="expected"):
            parse("study", "leak", *places, *wrong)
