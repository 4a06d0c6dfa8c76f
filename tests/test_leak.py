"""The split that leaks, and the tables that train several times. Trainings here are made up."""

import json
import os
import signal

import numpy as np
import pytest

from pipeline.backends import Workers
from pipeline.cache import index
from pipeline.errors import InputError
from train import ablation, artefact, crossval, evaluate, figures, judging, leak, protocol, table
from train.heads import HEADS


@pytest.fixture(scope="module")
def found(small_cache):
    return small_cache


def test_random_deals_clips_not_actors(found):
    honest = protocol.folds("contiguous:4", found.actors)
    leaking = protocol.folds("random", found.actors)
    assert [split.stamp for split in honest] == [None] * 4
    tested = []
    for fair, split in zip(honest, leaking, strict=True):
        assert "not comparable" in split.stamp
        sides = [
            table.select_rows(found, actors, True, clip_seed=split.clip_seed)
            for actors in (split.train, split.validation, split.test)
        ]
        clips = [set(rows.clip) for rows in sides]
        assert not clips[0] & clips[1] and not (clips[0] | clips[1]) & clips[2]
        sizes = [
            len(table.select_rows(found, actors, True))
            for actors in (fair.train, fair.validation, fair.test)
        ]
        assert [len(rows) for rows in sides] == sizes
        tested += sorted(clips[2])
    assert sorted(tested) == sorted(entry.clip for entry in found.clips)
    train, test = (
        table.select_rows(found, actors, clip_seed=0)
        for actors in (leaking[0].train, leaking[0].test)
    )
    assert set(train.actor) & set(test.actor)


def test_rows_of_dealt_clips_keep_their_own_actor(found):
    rows = table.select_rows(found, (1, 2), clip_seed=0)
    assert [int(clip[-2:]) for clip in rows.clip] == rows.actor.tolist()
    assert len(set(rows.actor)) > 2 and len(rows) == 8


def test_seen_recordings_are_those_of_the_rows(found):
    for name in ("contiguous:4", "random"):
        split = protocol.folds(name, found.actors)[1]
        rows = [
            table.select_rows(found, actors, clip_seed=split.clip_seed)
            for actors in (split.train, split.validation)
        ]
        clips = {clip for side in rows for clip in side.clip}
        expected = {
            source.sha256
            for entry in found.clips
            if entry.clip in clips
            for source in entry.sources
        }
        assert table.source_hashes(found, split) == expected


def test_stamps():
    cut = protocol.folds("sixfold", range(1, 19), present_only=True)
    assert "not comparable" in protocol.stamp("sixfold", cut)
    assert protocol.stamp("sixfold", protocol.folds("sixfold", range(1, 25))) is None
    assert protocol.stamp("random", protocol.folds("random", range(1, 25))) == protocol.LEAKING


def test_the_honest_side_of_the_meter_is_sixfold_where_all_actors_are_there(found):
    class Everyone:
        actors = tuple(range(1, 25))

    ways = leak.split_both_ways(Everyone, 6)
    assert ways[leak.HONEST] == protocol.folds("sixfold", range(1, 25))
    assert [len(way) for way in leak.split_both_ways(found, 2).values()] == [2, 2]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(figures, "draw_confusion", lambda path, judged: None)


def pretend(task):
    """Write the report of a training that knows every actor it has trained on."""
    split = task.split
    train, test = (
        table.select_rows(task.index, actors, clip_seed=split.clip_seed)
        for actors in (split.train, split.test)
    )
    known = np.isin(test.actor, train.actor)
    answer = np.where(known, test.label, (test.label + 1) % 8)
    probabilities = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[answer])
    judged = evaluate.metrics(test, probabilities) | {
        "validation": {head: {"uar": 0.25} for head in HEADS},
        "minutes": 1.5,
    }
    evaluate.write_report(task.folder / "report", test, probabilities, judged)
    for name in ("model.keras", "model.json"):
        (task.folder / name).touch()
    crossval.write_result(task.folder / crossval.RESULT_NAME, task.description, judged)


def test_the_meter_reads_what_the_split_leaks(found, tmp_path, monkeypatch):
    monkeypatch.setattr(crossval, "train_task", pretend)
    measured = leak.measure(found, tmp_path, {"seed": 0}, folds=4)
    assert measured[leak.HONEST]["fused"]["uar"]["mean"] == 0
    # All but the clips of the one fold whose two actors happen to be in no training.
    leaked = measured[leak.LEAKING]["fused"]["uar"]
    assert leaked["folds"][1:] == [1, 1, 1] and leaked["mean"] > 0.75
    assert measured[leak.HONEST]["stamp"] is None
    assert "not comparable" in measured[leak.LEAKING]["stamp"]
    assert measured[leak.HONEST]["clips"] == measured[leak.LEAKING]["clips"] == 16
    assert json.loads((tmp_path / leak.NAME).read_text())["stamp"] == protocol.LEAKING
    said = leak.table(measured)
    assert f"{100 * leaked['mean']:+.1f}" in said and "not comparable" in said


def test_folds_print_a_line_each_and_come_back_in_order(found, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(crossval, "train_task", pretend)
    tasks = crossval.fold_tasks(found, tmp_path, protocol.folds("loso", found.actors), {"seed": 0})
    trained = crossval.run(tasks, Workers(2, "threading"))
    assert [judged["actors"] for judged in trained] == [[1], [2], [3], [4]]
    lines = [line for line in capsys.readouterr().out.splitlines() if "tested on" in line]
    assert len(lines) == 4 and all("1.5 minutes" in line for line in lines)


def die_once(task):
    """Kill this worker at the first try of each fold."""
    tries = task.folder / "tries"
    task.folder.mkdir(parents=True, exist_ok=True)
    with tries.open("a") as log:
        log.write("x")
    if task.name == "fold 2" and tries.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    pretend(task)


def test_a_fold_whose_worker_dies_is_tried_again_and_finished_ones_are_not(
    found, tmp_path, monkeypatch
):
    monkeypatch.setattr(crossval, "train_task", die_once)
    splits = protocol.folds("loso", found.actors)
    tasks = crossval.fold_tasks(found, tmp_path, splits, {"seed": 0})
    pretend(tasks[0])
    trained = crossval.run(tasks, Workers(2, "loky"), progress=False)
    assert [judged["actors"] for judged in trained] == [[1], [2], [3], [4]]
    assert not (tasks[0].folder / "tries").exists()
    assert (tasks[1].folder / "tries").read_text() == "xx"
    assert crossval.run(tasks, progress=False) == trained
    assert (tasks[1].folder / "tries").read_text() == "xx"
    # Another setting, split or cache is another training.
    for changed in (
        crossval.fold_tasks(found, tmp_path, splits, {"seed": 1}),
        crossval.fold_tasks(found, tmp_path, splits[::-1], {"seed": 0}),
        crossval.fold_tasks(found.without({found.clips[0].clip}), tmp_path, splits, {"seed": 0}),
    ):
        assert crossval.finished_metrics(changed[0]) is None


def test_a_leaking_report_says_so_everywhere(found, tmp_path):
    splits = protocol.folds("random", found.actors)
    tasks = crossval.fold_tasks(found, tmp_path, splits, {"seed": 0})
    for task in tasks:
        pretend(task)
    trained = [crossval.finished_metrics(task) for task in tasks]
    assert protocol.LEAKING in evaluate.table(trained[0] | {"stamp": splits[0].stamp})
    judged = judging.judge(
        [task.folder for task in tasks], splits, protocol.stamp("random", splits)
    )
    assert judged["stamp"] == protocol.LEAKING in judging.table(judged)
    assert judged["fused"]["war"]["folds"][1:] == [1.0] * 3


def test_ablation_finds_both_recipes_and_trains_each_on_as_many_rows(found, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="got 0 published, 0 default"):
        ablation.find_recipes(tmp_path)
    monkeypatch.setattr(crossval, "train_task", pretend)
    settings = {"epochs": 3, "patience": 8, "plateau_patience": 4, "warmup_epochs": 1.0}
    caches = {"published": found, "default": found}
    rows = ablation.plan_rows(caches, tmp_path, settings, [0, 1])
    assert [(row.recipe, row.variants) for row in rows] == [
        ("published", False),
        ("published", True),
        ("default", False),
        ("default", True),
    ]
    # The fixture's cache has one variant: an epoch of both is two of clean rows.
    assert [row.tasks[0].settings["epochs"] for row in rows] == [6, 3, 6, 3]
    assert len({task.folder for row in rows for task in row.tasks}) == 8
    measured = ablation.measure(rows, tmp_path)
    assert json.loads((tmp_path / ablation.NAME).read_text()) == json.loads(json.dumps(measured))
    assert measured["rows"][0]["validation"]["fused"] == [0.25, 0.25]
    assert measured["rows"][0]["test"]["fused"] == [0, 0]
    assert "25.0 ± 0.0" in ablation.table(measured)
    one_seed = ablation.measure(ablation.plan_rows(caches, tmp_path, settings, [0]), tmp_path)
    assert "25.0" in ablation.table(one_seed) and "±" not in ablation.table(one_seed)


def test_both_recipes_are_told_apart_by_their_specs(tmp_path, found):
    import dataclasses

    for spec in (*ablation.RECIPES.values(), found.spec):
        folder = tmp_path / spec.digest
        folder.mkdir()
        bare = dataclasses.replace(found, folder=folder, spec=spec, shards=())
        index.write_index(bare)
    caches = ablation.find_recipes(tmp_path)
    assert {name: cache.spec for name, cache in caches.items()} == ablation.RECIPES


def test_a_split_by_clip_survives_saving(tmp_path):
    import keras

    split = protocol.Split((1,), (2,), (3,), 5)
    inputs = keras.Input((1,))
    network = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    from pipeline.spec import FeatureSpec

    given = artefact.Artefact(network, FeatureSpec(), split, {}, temperatures={"fused": 1.5})
    artefact.save(given, tmp_path)
    loaded = artefact.load(tmp_path)
    assert loaded.split == split and loaded.temperatures == {"fused": 1.5}
