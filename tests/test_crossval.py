import json

import joblib
import numpy as np
import pytest

from pipeline.errors import InputError
from train import (
    confidence,
    crossval,
    evaluate,
    figures,
    judging,
    protocol,
    runtime,
    sources,
    table,
)
from train.heads import HEADS


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


def answers(labels, given, actors, probabilities=None):
    labels, given = np.array(labels), np.array(given)
    if probabilities is None:
        probabilities = np.eye(8, dtype=np.float32)[given]
    clips = np.array([f"clip-{number}" for number in range(len(labels))])
    return judging.Answers(
        clips,
        np.array(actors),
        labels,
        np.zeros(len(labels), np.int64),
        dict.fromkeys(HEADS, given),
        probabilities,
    )


def test_averages_against_counts_by_hand():
    labels, given = np.array([0, 0, 0, 4]), np.array([0, 0, 4, 4])
    war, uar = judging.averages(judging.grouped_confusions(np.ones(4), labels, given))
    assert war == pytest.approx([3 / 4]) and uar == pytest.approx([(2 / 3 + 1) / 2])


def test_bootstrap_draws_actors_not_clips():
    """Two actors, one always right, one always wrong: any draw of two is 0, a half or 1."""
    actors = np.repeat([1, 2], 50)
    apart = judging.grouped_confusions(actors, np.zeros(100, int), actors - 1)
    assert judging.bootstrap(apart)["war"] == [0.0, 1.0]
    alike = judging.grouped_confusions(actors, np.tile([0, 1], 50), np.tile([0, 2], 50))
    assert judging.bootstrap(alike)["war"] == [0.5, 0.5]


def test_calibration_against_its_definition():
    sure = np.full((4, 8), 0.0, np.float32)
    sure[:, 0] = 0.95
    found = confidence.calibration(sure, np.array([0, 0, 0, 1]))
    assert found["expected_calibration_error"] == pytest.approx(0.95 - 0.75, abs=1e-6)
    assert found["bins"][0]["clips"] == 4


def test_most_wrong_is_sorted_and_never_right():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], np.float32)
    probabilities = np.pad(probabilities, ((0, 0), (0, 6)))
    worst = judging.most_wrong(answers([0, 0, 0], [0, 1, 1], [1, 1, 1], probabilities))
    assert [entry["clip"] for entry in worst] == ["clip-2", "clip-1"]
    assert worst[0]["answer"] == "calm"


@pytest.fixture
def folded(small_cache, tmp_path):
    """Two folds whose predictions are made up: actor n is right on its first n - 1 clips."""
    found = small_cache
    splits = protocol.folds("contiguous:2", found.actors)
    folders = []
    for number, split in enumerate(splits):
        rows = table.select_rows(found, split.test)
        place = np.concatenate([np.arange(4)] * len(split.test))
        given = np.where(place < rows.actor - 1, rows.label, (rows.label + 1) % 8)
        probabilities = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[given])
        folders.append(tmp_path / f"fold-{number + 1}")
        evaluate.write_report(
            folders[-1] / "report", rows, probabilities, evaluate.metrics(rows, probabilities)
        )
    return folders, splits


def test_folds_are_judged_together(folded, tmp_path):
    judged = json.loads(json.dumps(judging.judge(*folded)))
    fused = judged["fused"]
    assert judged["actors"] == [1, 2, 3, 4] and judged["clips"] == 16
    assert [fused["actors"][str(actor)]["war"] for actor in (1, 2, 3, 4)] == [0, 0.25, 0.5, 0.75]
    assert fused["war"]["folds"] == [0.125, 0.625]
    assert fused["war"]["mean"] == fused["war"]["pooled"] == 0.375
    assert fused["war"]["sd"] == pytest.approx(np.std([0.125, 0.625], ddof=1))
    low, high = fused["war"]["interval"]
    assert 0 <= low < 0.375 < high <= 0.75
    judging.write_report(tmp_path / "report", judged)
    assert json.loads((tmp_path / "report" / "crossval.json").read_text()) == judged
    assert {path.suffix for path in (tmp_path / "report").iterdir()} == {".json", ".png"}
    assert "37.5 ± 35.4" in judging.table(judged)


def test_a_head_is_judged_where_it_answers_and_left_out_where_it_never_does(small_spec, tmp_path):
    # Not at the top: a worker that imports this module has to keep its share of the cores.
    from conftest import write_rows

    clips = [
        (actor, emotion, "a" if actor < 3 else "av")
        for actor in (1, 2, 3, 4)
        for emotion in ("happy", "sad")
    ]
    found = write_rows(tmp_path / "cache", small_spec, clips)
    splits = protocol.folds("contiguous:2", found.actors)
    folders = []
    for split in splits:
        rows = table.select_rows(found, split.test)
        right, wrong = np.eye(8, dtype=np.float32)[[rows.label, (rows.label + 1) % 8]]
        answers = {"fused": right, "audio": right, "video": wrong}
        folders.append(tmp_path / f"fold-{len(folders) + 1}")
        report = folders[-1] / "report"
        evaluate.write_report(report, rows, answers, evaluate.metrics(rows, answers))
    judged = judging.judge(folders, splits)
    assert judged["fused"]["uar"]["folds"] == judged["audio"]["uar"]["folds"] == [1, 1]
    assert judged["video"]["uar"]["folds"] == [0] and judged["video"]["actors"].keys() == {"3", "4"}
    assert judged["left_out"] == ["fold 1: face alone: no clip has video"]
    assert judged["left_out"][0] in judging.table(judged)
    judging.write_report(tmp_path / "report", judged)
    audio_alone = judging.judge(folders[:1], splits[:1])
    assert "video" not in audio_alone
    assert audio_alone["left_out"] == ["face alone: no clip has video"]
    said = judging.table(audio_alone)
    assert audio_alone["left_out"][0] in said and "\nvideo" not in said
    judging.write_report(tmp_path / "report", audio_alone)


def test_a_single_fold_has_no_deviation(folded):
    folders, splits = folded
    judged = judging.judge(folders[:1], splits[:1])
    assert judged["fused"]["uar"]["sd"] is None
    assert judging.table(judged).splitlines()[1].split()[:3] == ["fused", "12.5", "12.5"]


def test_people_are_drawn_only_where_the_clips_are_real(folded, tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    lines = []
    monkeypatch.setattr(Axes, "axhline", lambda self, height, **_: lines.append(height))
    figures.draw_bars(tmp_path / "a.png", judging.judge(*folded))
    assert lines == []
    figures.draw_bars(tmp_path / "a.png", judging.judge(*folded, real_ravdess=True))
    assert lines == [67, 75]


@pytest.mark.slow
def test_a_finished_fold_is_not_trained_again(small_cache, tmp_path, monkeypatch):
    from train import fit

    found = small_cache
    splits = protocol.folds("contiguous:2", found.actors)
    settings = {"epochs": 1, "seed": 0, "batch_size": 8}
    tasks = crossval.fold_tasks(found, tmp_path, splits, settings)
    first = crossval.run(tasks, progress=False)
    trained = []
    monkeypatch.setattr(fit, "fit", lambda *_, **__: trained.append(1))
    assert crossval.run(tasks, progress=False) == first
    assert not trained
    monkeypatch.undo()
    changed = crossval.fold_tasks(found, tmp_path, splits[:1], settings | {"seed": 1})
    [counted] = crossval.run(changed, progress=False)
    description = json.loads((tmp_path / "fold-1" / "model.json").read_text())
    assert description["settings"]["seed"] == 1
    assert counted["minutes"] > 0
    (tmp_path / "fold-1" / "model.json").unlink()
    [resumed] = crossval.run(changed, progress=False)
    assert resumed == counted | {"minutes": None}


def test_a_finished_fold_is_trained_again_after_a_change_of_the_code(
    small_cache, tmp_path, monkeypatch
):
    from train import fit

    trained = []

    def pretend(index, folder, *_, **__):
        trained.append(folder.name)
        for name in ("model.keras", "model.json"):
            (folder / name).touch()
        return {"actors": [1], "left_out": []}

    monkeypatch.setattr(fit, "fit", pretend)
    monkeypatch.setattr(runtime, "start_tensorflow", lambda seed: None)
    splits = protocol.folds("contiguous:2", small_cache.actors)

    def run():
        tasks = crossval.fold_tasks(small_cache, tmp_path, splits, {"epochs": 1, "seed": 0})
        crossval.run(tasks, progress=False)
        return len(trained)

    assert [run(), run()] == [2, 2]
    monkeypatch.setattr(sources, "digest", lambda: "other code")
    assert [run(), run()] == [4, 4]


def test_the_code_of_a_result_is_every_source_of_the_trainer(tmp_path):
    for pattern in sources.DECIDING:
        for path in sources.ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(sources.ROOT)
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "train" / "notes.txt").touch()
    digest = sources.digest.__wrapped__
    assert digest(tmp_path) == digest()
    for name in ("train/model.py", "pipeline/spec.py"):
        before = digest(tmp_path)
        with (tmp_path / name).open("a") as stream:
            stream.write("#")
        assert digest(tmp_path) != before


def threads_of_tensorflow():
    runtime.start_tensorflow()
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads()


def test_trainings_at_the_same_time_share_the_cores():
    share = max(1, joblib.cpu_count() // 2)
    with joblib.parallel_config("loky"):
        said = joblib.Parallel(2)(joblib.delayed(threads_of_tensorflow)() for _ in range(2))
    assert said == [share] * 2
