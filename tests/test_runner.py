"""Several trainings: carried by workers, kept once finished, done again after a change."""

import dataclasses
import json
import os
import signal

import joblib
import numpy as np
import pytest

from pipeline.backends import Workers
from train import runtime, sources
from train.data import rows
from train.evaluation import metrics, report
from train.heads import HEADS, UNTAUGHT
from train.settings import Settings
from train.studies import protocol, runner, summary

SHORT = Settings(audio_epochs=1, video_epochs=1, fusion_epochs=1, refit_epochs=0, batch_size=8)


def pretend(task):
    """Write the report of a training that knows every actor it has trained on."""
    split = task.split
    train, test = (
        rows.select_rows(task.index, actors, clip_seed=split.clip_seed)
        for actors in (split.train, split.test)
    )
    known = np.isin(test.actor, train.actor)
    answer = np.where(known, test.label, (test.label + 1) % 8)
    probabilities = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[answer])
    found = metrics.metrics(test, probabilities) | {
        "stamp": split.stamp,
        "validation": {head: {"war": 0.5, "uar": 0.25} for head in HEADS},
    }
    target = task.folder / "report"
    target.mkdir(parents=True, exist_ok=True)
    (target / report.METRICS_NAME).write_text(json.dumps(found))
    table = report.prediction_table(test, probabilities, found)
    (target / report.PREDICTIONS_NAME).write_text(table)
    for name in runner.MODEL_NAMES:
        (task.folder / name).touch()
    runner.write_result(task, found | {"minutes": 1.5})


def one_actor_each(index, folder, settings=SHORT):
    return runner.fold_tasks(index, folder, protocol.folds("loso", index.actors), settings)


def test_folds_print_a_line_each_and_come_back_in_order(small_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "train_task", pretend)
    trained = runner.run(one_actor_each(small_cache, tmp_path), Workers(2, "threading"))
    assert [found["actors"] for found in trained] == [[1], [2], [3], [4]]
    lines = [line for line in capsys.readouterr().out.splitlines() if "tested on" in line]
    assert len(lines) == 4
    assert all("UAR fused 0.0  audio 0.0  video 0.0, 1.5 minutes" in line for line in lines)


def die_once(task):
    """Kill this worker at the first try of the second fold."""
    tries = task.folder / "tries"
    task.folder.mkdir(parents=True, exist_ok=True)
    with tries.open("a") as log:
        log.write("x")
    if task.name == "fold 2" and tries.read_text() == "x":
        os.kill(os.getpid(), signal.SIGKILL)
    pretend(task)


@pytest.mark.slow
def test_a_fold_whose_worker_dies_is_tried_again_and_finished_ones_are_not(
    small_cache, tmp_path, monkeypatch
):
    monkeypatch.setattr(runner, "train_task", die_once)
    tasks = one_actor_each(small_cache, tmp_path)
    pretend(tasks[0])
    trained = runner.run(tasks, Workers(2, "loky"), progress=False)
    assert [found["actors"] for found in trained] == [[1], [2], [3], [4]]
    assert not (tasks[0].folder / "tries").exists()
    assert (tasks[1].folder / "tries").read_text() == "xx"
    assert runner.run(tasks, progress=False) == trained
    assert (tasks[1].folder / "tries").read_text() == "xx"


def test_another_setting_split_or_cache_is_another_training(small_cache, tmp_path):
    splits = protocol.folds("loso", small_cache.actors)
    (task, *_) = runner.fold_tasks(small_cache, tmp_path, splits, SHORT)
    pretend(task)
    assert runner.read_result(task)["minutes"] == 1.5
    smaller = small_cache.without({small_cache.clips[0].clip})
    for changed in (
        runner.fold_tasks(small_cache, tmp_path, splits, Settings(seed=1)),
        runner.fold_tasks(small_cache, tmp_path, splits[::-1], SHORT),
        runner.fold_tasks(smaller, tmp_path, splits, SHORT),
    ):
        assert not runner.is_finished(changed[0])
    for damage in (b"{", b"[]", b"{}"):
        (task.folder / runner.RESULT_NAME).write_bytes(damage)
        assert not runner.is_finished(task)


@pytest.fixture
def calls(monkeypatch):
    """Trainings that are started: name of the folder, and whether they go on."""
    from train import fit

    started = []

    def pretend_fit(index, folder, split, settings, go_on=False, progress=True):
        started.append((folder.name, go_on))
        work = folder / fit.TRAINING_FOLDER
        assert work.is_dir() == go_on
        work.mkdir(exist_ok=True)
        if len(started) == 1:
            raise KeyboardInterrupt
        (folder / "report").mkdir(exist_ok=True)
        for name in runner.MODEL_NAMES:
            (folder / name).touch()
        return {"actors": [1], "left_out": []}

    monkeypatch.setattr(fit, "fit", pretend_fit)
    monkeypatch.setattr(runtime, "start_tensorflow", lambda seed: None)
    return started


def test_what_was_interrupted_goes_on_and_other_code_begins_anew(
    small_cache, tmp_path, monkeypatch, calls
):
    def run():
        tasks = one_actor_each(small_cache, tmp_path)[:2]
        return [found["minutes"] for found in runner.run(tasks, progress=False)]

    with pytest.raises(KeyboardInterrupt):
        run()
    minutes = run()
    # Minutes of a training that was interrupted are not known.
    assert minutes[0] is None and minutes[1] >= 0
    assert calls == [("fold-1", False), ("fold-1", True), ("fold-2", False)]
    assert run() == minutes and len(calls) == 3
    monkeypatch.setattr(sources, "digest", lambda: "other code")
    run()
    assert calls[3:] == [("fold-1", False), ("fold-2", False)]
    assert run() and len(calls) == 5


def test_the_code_of_a_result_is_every_source_of_the_trainer(tmp_path):
    for pattern in sources.DECIDING:
        for path in sources.ROOT.glob(pattern):
            copy = tmp_path / path.relative_to(sources.ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (tmp_path / "train" / "notes.txt").touch()
    digest = sources.digest.__wrapped__
    assert digest(tmp_path) == digest()
    for name in ("train/models/fusion.py", "train/fit.py", "pipeline/spec.py"):
        before = digest(tmp_path)
        with (tmp_path / name).open("a") as stream:
            stream.write("#")
        assert digest(tmp_path) != before


@pytest.mark.slow
def test_a_real_training_is_kept_and_gone_on_with(small_cache, tmp_path):
    splits = protocol.folds("contiguous:2", small_cache.actors)[:1]
    audio = dataclasses.replace(SHORT, modalities=("audio",))
    tasks = runner.fold_tasks(small_cache, tmp_path, splits, audio)
    [first] = runner.run(tasks, progress=False)
    assert first["minutes"] > 0 and first["left_out"] == [UNTAUGHT["video"]]
    summarized = summary.summarize([task.folder for task in tasks])
    assert summarized["audio"]["uar"]["folds"] == [first["audio"]["uar"]]
    assert "video" not in summarized
    description = json.loads((tmp_path / "fold-1" / "model.json").read_text())
    assert description["settings"]["audio_epochs"] == 1
    assert runner.run(tasks, progress=False) == [first]
    (tmp_path / "fold-1" / "model.json").unlink()
    assert runner.run(tasks, progress=False) == [first | {"minutes": None}]


def threads_of_tensorflow():
    runtime.start_tensorflow()
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads()


@pytest.mark.slow
def test_trainings_at_the_same_time_share_the_cores():
    share = max(1, joblib.cpu_count() // 2)
    with joblib.parallel_config("loky"):
        said = joblib.Parallel(2)(joblib.delayed(threads_of_tensorflow)() for _ in range(2))
    assert said == [share] * 2
