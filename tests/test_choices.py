"""What a choice of the recipe is worth. Trainings are made up, but for one."""

import dataclasses
import json

import numpy as np
import pytest

from pipeline.errors import InputError
from train import choices, protocol, sources, views, voices
from train.settings import Settings


@pytest.fixture(scope="module")
def found(small_cache):
    return small_cache


@pytest.mark.parametrize("count", [4, 18, 24])
def test_test_actors_are_on_no_side_and_all_others_are_judged_once(count):
    actors = range(1, count + 1)
    folds = choices.inner_folds(actors)
    test = protocol.split_actors(actors).test
    assert [split.test for split in folds] == [()] * 3
    judged = [actor for split in folds for actor in split.validation]
    assert sorted(judged) == sorted(set(actors) - set(test))
    for split in folds:
        assert sorted((*split.train, *split.validation)) == sorted(judged)


def test_too_few_actors_are_refused():
    with pytest.raises(InputError, match="at least 3 actors beside the test actors, got 2"):
        choices.inner_folds((1, 2, 3))


def test_each_recipe_leaves_out_one_thing_and_learns_from_as_many_rows():
    listed = choices.recipes("audio", 6, 2)
    whole = listed.pop(choices.WHOLE)
    assert whole == choices.Recipe("audio", 6)
    assert listed["variants"] == choices.Recipe("audio", 18, variants=False)
    assert listed.pop("half of the epochs") == choices.Recipe("audio", 3)
    del listed["variants"]
    assert {name: recipe.without for name, recipe in listed.items()} == {
        name: (name,) for name in ("tract", "voices", "tempo", "shift", "masks")
    }
    assert "variants" not in choices.recipes("video", 6, 0)


def test_half_of_the_actors_give_as_many_rows(found):
    for trial in choices.plan(found, "video", Settings(epochs=3), [0]):
        others = [actor for actor in (1, 2, 3) if actor not in trial.split.validation]
        halved = trial.left_out == choices.HALF_THE_ACTORS
        assert list(trial.split.train) == (others[:1] if halved else others)
        if halved:
            assert trial.recipe == choices.Recipe("video", 6)


def test_worth_is_the_difference_of_the_same_seed(found, tmp_path, monkeypatch, capsys):
    done = []

    def pretend(found, folder, trial):
        done.append(trial)
        whole = 0.4 + 0.1 * trial.seed + 0.01 * min(trial.split.validation)
        return whole - {"masks": 0.05, "tempo": 0.02 * trial.seed}.get(trial.left_out, 0.0)

    monkeypatch.setattr(choices, "train_alone", pretend)
    trials = choices.plan(found, "audio", Settings(epochs=2), [0, 1])
    measured = choices.measure(found, tmp_path, trials)
    assert len(done) == len(trials) == 2 * 3 * 9
    np.testing.assert_allclose(measured["uar"][choices.WHOLE], [0.42, 0.52])
    np.testing.assert_allclose(measured["uar"]["tempo"], [0.42, 0.50])
    assert json.loads((tmp_path / choices.NAME).read_text()) == measured
    lines = {line.split("  ")[0]: line for line in choices.table(measured).splitlines()}
    assert lines["nothing"].split() == ["nothing", "47.0", "±", "7.1"]
    assert lines["masks"].split() == ["masks", "42.0", "±", "7.1", "+5.0", "±", "0.0"]
    assert lines["tempo"].split() == ["tempo", "46.0", "±", "5.7", "+1.0", "±", "1.4"]

    # What is finished is not trained again, unless it was something else.
    assert choices.measure(found, tmp_path, trials) == measured and len(done) == len(trials)
    choices.measure(found, tmp_path, choices.plan(found, "audio", Settings(epochs=4), [0]))
    assert len(done) == len(trials) + 27
    other = dataclasses.replace(Settings(), learning_rate=1e-3)
    monkeypatch.setattr(choices, "settings_of", lambda trial: other)
    choices.measure(found, tmp_path, trials)
    assert len(done) == 2 * len(trials) + 27
    monkeypatch.setattr(sources, "digest", lambda: "other code")
    choices.measure(found, tmp_path, trials[:1])
    assert len(done) == 2 * len(trials) + 28


def test_a_branch_alone_is_trained_without_what_is_left_out(found, tmp_path, monkeypatch):
    changed = []
    names = (
        "change_tract",
        "change_voice",
        "change_tempo",
        "shift_mfcc",
        "mask_mfcc",
        "exchange_halves",
        "change_view",
    )
    for name in names:
        room = voices if hasattr(voices, name) else views
        real = getattr(room, name)
        monkeypatch.setattr(
            room,
            name,
            lambda *values, name=name, real=real: (changed.append(name), real(*values))[1],
        )
    trial = next(
        trial
        for trial in choices.plan(found, "audio", Settings(epochs=1), [0])
        if trial.left_out == "tempo"
    )
    uar = choices.train_alone(found, tmp_path, trial)
    assert uar in {0.0, 0.25, 0.5, 0.75, 1.0}  # four clips of four emotions
    assert set(changed) == {"change_tract", "change_voice", "shift_mfcc", "mask_mfcc"}
