"""Trainings that are killed, cut short while they save, or run out of disk."""

import dataclasses
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import tally
from small_training import SETTINGS, SPLIT, STAGES, train

from pipeline import atomic
from pipeline.errors import STORAGE_ERRNOS, InputError
from train import artefact
from train.evaluation import figures, report, robustness
from train.loop import checkpoint, stage

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def undisturbed(small_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(small_cache, folder)
    return folder


def end_of(folder):
    """What a finished training leaves: of each stage log, state and weights; then the report."""
    stages = [end_of_stage(folder / "training" / name) for name in STAGES]
    names = ("metrics.json", "predictions.csv", "learning_curves.csv")
    return stages, [(folder / "report" / name).read_text() for name in names]


def end_of_stage(work):
    state = json.loads((work / checkpoint.STATE_NAME).read_text())
    files = {state["weights"], state["best"]}
    assert {path.name for path in work.glob("*.npz")} == files
    arrays = []
    for name in sorted(files):
        with np.load(work / name) as held:
            arrays.append([value.tobytes() for value in held.values()])
    assert all(len(values) > 20 for values in arrays)
    return (work / stage.LOG_NAME).read_text(), state, arrays


class Interrupt(keras.callbacks.Callback):
    """Ends the process' training amid the second epoch that a stage has."""

    done: set

    def __init__(self, name, epochs, steps, first_epoch):
        super().__init__()
        self.name, self.left = name, steps + 1

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if not self.left and self.name not in self.done:
            self.done.add(self.name)
            raise KeyboardInterrupt


@pytest.mark.slow
def test_a_training_interrupted_in_every_stage_ends_as_an_uninterrupted_one(
    small_cache, undisturbed, tmp_path, monkeypatch
):
    """Six interruptions, each amid an epoch; what is finished is not done again."""
    monkeypatch.setattr(Interrupt, "done", set(), raising=False)
    monkeypatch.setattr(stage, "Progress", Interrupt)
    written = {}
    for number, name in enumerate(STAGES):
        with pytest.raises(KeyboardInterrupt):
            train(small_cache, tmp_path, go_on=number > 0, progress=True)
        assert checkpoint.read_state(tmp_path / "training" / name, {}).epoch == 1
        for finished in STAGES[:number]:
            state = (tmp_path / "training" / finished / checkpoint.STATE_NAME).stat()
            assert written.setdefault(finished, state.st_mtime_ns) == state.st_mtime_ns
        assert not (tmp_path / "model.keras").exists()
    train(small_cache, tmp_path, go_on=True, progress=True)
    assert end_of(tmp_path) == end_of(undisturbed)
    weights = [artefact.load(place).model.get_weights() for place in (tmp_path, undisturbed)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*weights, strict=True))
    tally("interrupt: training, one of six stages", 6, 6)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from train import runtime
runtime.start_tensorflow(3)
import small_training
from pipeline.cache import index
small_training.train(index.find_cache(Path(sys.argv[1])), Path(sys.argv[2]), go_on=True)
"""


def start(found, folder):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, found.folder, folder],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def epochs_logged(folder):
    logs = (folder / "training").glob(f"*/{stage.LOG_NAME}")
    return sum(len(log.read_text().splitlines()) - 1 for log in logs if log.stat().st_size)


def kill_after(found, folder, epochs, whens):
    """Kill a training at a random moment once its logs have that many epochs more."""
    wanted = max(0, epochs_logged(folder)) + epochs
    process = start(found, folder)
    while process.poll() is None and epochs_logged(folder) < wanted:
        time.sleep(0.005)
    time.sleep(whens.uniform(0.0, 0.15))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_the_same(small_cache, tmp_path):
    process = start(small_cache, tmp_path / "whole")
    assert process.wait() == 0, process.stderr.read()
    whens, kills, folder = random.Random(1), 0, tmp_path / "killed"
    for epochs in (1, 3, 0, 3, 4, 2):
        kills += kill_after(small_cache, folder, epochs, whens)
    assert kills >= 4
    process = start(small_cache, folder)
    assert process.wait() == 0, process.stderr.read()
    assert end_of(folder) == end_of(tmp_path / "whole")
    tally("kill: training, SIGKILL", kills, kills)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["weights", "state", "removal"])
def test_a_training_cut_short_while_it_saves(small_cache, undisturbed, tmp_path, monkeypatch, step):
    """Whatever the second epoch of the second stage was writing is half there."""
    work = tmp_path / "training" / "video"

    class Cut(BaseException):
        pass

    replace, remove = os.replace, checkpoint.remove_others
    cut_at = {"weights": "epoch-2.npz", "state": checkpoint.STATE_NAME}.get(step)

    def rename(source, target):
        there = (work / checkpoint.STATE_NAME).exists()
        if there and target.parent == work and target.name == cut_at:
            os.truncate(source, source.stat().st_size // 2)
            raise Cut
        replace(source, target)

    def remove_others(place, state):
        if step == "removal" and place == work and state.epoch == 2:
            raise Cut
        remove(place, state)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", rename)
        patch.setattr(checkpoint, "remove_others", remove_others)
        with pytest.raises(Cut):
            train(small_cache, tmp_path)
    epoch = json.loads((work / checkpoint.STATE_NAME).read_text())["epoch"]
    assert epoch == (2 if step == "removal" else 1)
    train(small_cache, tmp_path, go_on=True)
    assert end_of(tmp_path) == end_of(undisturbed)
    tally("kill: training amid saving", 1, 1)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a file system")
    yield place
    # A training that failed leaves files open until its error is forgotten.
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(place):
    """Leave no room on a file system; return the file that takes it."""
    filler = place / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(place).free)
    return filler


STEPS = {
    "log": (keras.callbacks.CSVLogger, "on_epoch_end", 1),
    "tensorboard": (keras.callbacks.TensorBoard, "on_epoch_end", 1),
    "first weights": (checkpoint, "save", 1),
    "weights of the second stage": (checkpoint, "save", 4),
    "weights of the refit": (checkpoint, "save", 11),
    "state": (atomic, "sync", 21),
    "report": (report, "write_report", 1),
    "curves": (figures, "draw_curves", 1),
    "robustness": (robustness, "write", 1),
    "model": (artefact, "save", 1),
}
"""Functions that write, and at which call of them the disk is full."""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up_under_a_training(
    small_cache, undisturbed, small_disk, monkeypatch, step
):
    """One error that says where; what was finished stays; going on ends as if nothing had been."""
    folder, (owner, name, call) = small_disk / "model", STEPS[step]
    write, calls = getattr(owner, name), []

    def fill_then_write(*given, **named):
        calls.append(name)
        if len(calls) == call:
            fill(small_disk)
        return write(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fill_then_write)
        with pytest.raises(OSError) as caught:
            train(small_cache, folder)
    assert caught.value.errno == errno.ENOSPC and errno.ENOSPC in STORAGE_ERRNOS
    assert str(folder) in str(caught.value.filename)
    assert not [*folder.rglob("*partial*")] and not (folder / "model.json").exists()
    work = folder / "training"
    states = {name: checkpoint.read_state(work / name, {}) for name in STAGES}
    assert (states["audio"] is None) == (step in ("log", "tensorboard", "first weights"))
    for name, state in states.items():
        for kept, sha256 in state.sha256.items() if state else ():
            assert hashlib.sha256((work / name / kept).read_bytes()).hexdigest() == sha256
    (small_disk / "filler").unlink()
    train(small_cache, folder, go_on=True)
    assert end_of(folder) == end_of(undisturbed)
    assert artefact.load(folder).split == SPLIT
    tally("disk: full under a training (ENOSPC)", 1, 1)


def test_a_full_disk_is_one_line_of_the_command(small_cache, small_disk, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (small_disk / "model").mkdir()
    fill(small_disk)
    run = subprocess.run(
        [sys.executable, "-m", "train", "fit", "--cache", small_cache.folder]
        + ["--model", small_disk / "model", "--epochs-scale", "0.02"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    lines = [line for line in run.stderr.splitlines() if line and not line.startswith("audio:")]
    assert run.returncode == 2, run.stderr
    assert len(lines) == 1, run.stderr
    assert "expected a readable, writable place with room" in lines[0]
    assert str(small_disk) in lines[0] and "No space left on device; free some space" in lines[0]


@pytest.mark.slow
def test_a_finished_training_without_its_model_is_not_trained_on(
    small_cache, undisturbed, tmp_path, monkeypatch
):
    shutil.copytree(undisturbed / "training", tmp_path / "training")

    def refuse(*_):
        raise AssertionError("a finished stage was trained on")

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", refuse)
        train(small_cache, tmp_path, go_on=True)
    assert end_of(tmp_path) == end_of(undisturbed)
    assert (tmp_path / "model.keras").is_file()


def test_weights_that_are_not_what_was_written_are_refused(small_cache, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "training", tmp_path / "training")
    state = checkpoint.read_state(tmp_path / "training" / "audio", {})
    path = tmp_path / "training" / "audio" / state.best
    path.write_bytes(b"")
    with pytest.raises(InputError, match=rf"{state.best} as it was written, got other"):
        train(small_cache, tmp_path, go_on=True)
    path.unlink()
    with pytest.raises(InputError, match=rf"{state.best}, got nothing; remove "):
        train(small_cache, tmp_path, go_on=True)


def test_a_training_that_diverges_at_once_says_so(small_cache, tmp_path):
    absurd = dataclasses.replace(SETTINGS, learning_rate=1e38, warmup_epochs=0)
    said = r"finite loss, got \w*loss (nan|inf) .* nothing was saved"
    with pytest.raises(InputError, match=said):
        train(small_cache, tmp_path, absurd)
    assert not (tmp_path / "model.json").exists()


@pytest.mark.slow
def test_a_training_that_diverges_goes_on_with_a_lower_rate(small_cache, undisturbed, tmp_path):
    """The refit of video diverges: what went before stays, and a calm rate ends it."""
    shutil.copytree(undisturbed / "training", tmp_path / "training")
    for name in ("refit-video", "refit-fusion"):
        shutil.rmtree(tmp_path / "training" / name)
    absurd = dataclasses.replace(SETTINGS, learning_rate=1e38)
    with pytest.raises(InputError, match=r"finite loss, got .* with --resume and a lower"):
        train(small_cache, tmp_path, absurd, go_on=True)
    for name in STAGES[:4]:
        assert end_of_stage(tmp_path / "training" / name) == end_of_stage(
            undisturbed / "training" / name
        )
    calm = dataclasses.replace(SETTINGS, learning_rate=SETTINGS.learning_rate / 2)
    train(small_cache, tmp_path, calm, go_on=True)
    assert artefact.load(tmp_path).settings["learning_rate"] == calm.learning_rate
    tally("diverged: trainings that kept the last good epoch", 1, 1)
