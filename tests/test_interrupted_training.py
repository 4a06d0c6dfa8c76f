"""Trainings that are killed, cut short while they save, or lose their numbers."""

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

import h5py
import keras
import numpy as np
import pytest
from conftest import tally
from train.protocol import Split

from pipeline import atomic
from pipeline.errors import STORAGE_ERRNOS, InputError
from train import artefact, evaluate, figures, fit, resume, robustness, stage, weights
from train.settings import Settings

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]
SPLIT = Split((1, 2), (3,), (4,))
SETTINGS = Settings(epochs=4, warm_start=0.8, refit=0.4, batch_size=6, seed=3)


@pytest.fixture(scope="module")
def found(small_cache):
    return small_cache


def train(found, folder, settings=SETTINGS, **options):
    keras.utils.set_random_seed(settings.seed)
    return fit.fit(found, folder, SPLIT, settings, progress=False, **options)


@pytest.fixture(scope="module")
def undisturbed(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    train(found, folder)
    return folder


def tensors(path):
    """Every tensor of a weights file, by name."""
    values = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                values.update({name: item[()].tobytes()})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return values


def end_of(folder):
    """What a finished training leaves: of each stage history, weights with optimizer, memory."""
    work = folder / fit.TRAINING_FOLDER
    places = (work, work / fit.WARM_START_FOLDER, work / fit.REFIT_FOLDER)
    stages = [end_of_stage(place) for place in places]
    return stages, (folder / "report" / "metrics.json").read_text()


def end_of_stage(work):
    state = json.loads((work / resume.STATE_NAME).read_text())
    files = {state["weights"], state["best"]}
    assert {path.name for path in work.glob("*.weights.h5")} == files
    weights = [tensors(work / state[name]) for name in ("weights", "best")]
    assert all(len(values) > 20 for values in weights)
    return (work / stage.LOG_NAME).read_text(), state, weights


def start(found, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "train", "fit", "--cache", found.folder, "--model", folder]
        + ["--epochs", str(SETTINGS.epochs), "--batch-size", str(SETTINGS.batch_size)]
        + ["--warm-start", str(SETTINGS.warm_start), "--refit", str(SETTINGS.refit)]
        + ["--seed", str(SETTINGS.seed), "--resume"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def epochs_logged(folder):
    logs = (folder / "training").rglob(stage.LOG_NAME)
    return sum(len(log.read_text().splitlines()) - 1 for log in logs if log.stat().st_size)


def kill_after(found, folder, epochs, whens):
    """Kill a training at a random moment once its log has that many epochs more."""
    wanted = max(0, epochs_logged(folder)) + epochs
    process = start(found, folder)
    while process.poll() is None and epochs_logged(folder) < wanted:
        time.sleep(0.005)
    time.sleep(whens.uniform(0.0, 0.15))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


IN_TURN = """
import sys
from pathlib import Path
from train import runtime
runtime.start_tensorflow(3)
import keras
from pipeline.cache import index
from train import fit
from train.protocol import Split
from train.settings import Settings
for folder in sys.argv[2:]:
    keras.utils.set_random_seed(3)
    settings = Settings(epochs=4, warm_start=0.8, refit=0.4, batch_size=6, seed=3)
    split = Split((1, 2), (3,), (4,))
    cache = index.find_cache(Path(sys.argv[1]))
    fit.fit(cache, Path(folder), split, settings, go_on=True, progress=False)
"""


def test_a_killed_training_resumes_to_the_same_end(found, tmp_path):
    """One command is killed; another process trains undisturbed, then goes on with the killed."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for epochs in (1, 4):  # amid the warm start, then amid what follows
        assert kill_after(found, killed, epochs, random.Random(0))
    assert not (killed / "model.json").exists()
    subprocess.run(
        [sys.executable, "-c", IN_TURN, found.folder, whole, killed], cwd=ROOT, check=True
    )
    assert end_of(killed) == end_of(whole)
    tally("kill: training, SIGKILL", 2, 2)


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_the_same(found, tmp_path):
    process = start(found, tmp_path / "whole")
    assert process.wait() == 0, process.stderr.read()
    whens, kills = random.Random(1), 0
    while kills < 6:
        folder = tmp_path / f"killed-{kills}"
        for epochs in (1, 2, 0, 2):
            kills += kill_after(found, folder, epochs, whens)
        process = start(found, folder)
        assert process.wait() == 0, process.stderr.read()
        assert end_of(folder) == end_of(tmp_path / "whole")
    tally("kill: training, SIGKILL", kills, kills)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["weights", "state", "removal"])
def test_a_training_cut_short_while_it_saves(found, undisturbed, tmp_path, monkeypatch, step):
    """Whatever the second epoch was writing is half there."""
    folder, work = tmp_path / "model", tmp_path / "model" / "training"

    class Cut(BaseException):
        pass

    replace, remove = os.replace, resume.remove_others
    cut_at = {"weights": "epoch-2.weights.h5", "state": resume.STATE_NAME}.get(step)

    def rename(source, target):
        if target.name == cut_at and (work / "state.json").exists():
            os.truncate(source, source.stat().st_size // 2)
            raise Cut
        replace(source, target)

    def remove_others(place, state):
        if step == "removal" and state.epoch == 2:
            raise Cut
        remove(place, state)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", rename)
        patch.setattr(resume, "remove_others", remove_others)
        with pytest.raises(Cut):
            train(found, folder)
    epoch = json.loads((work / resume.STATE_NAME).read_text())["epoch"]
    assert epoch == (2 if step == "removal" else 1)
    train(found, folder, go_on=True)
    assert end_of(folder) == end_of(undisturbed)
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
    "first weights": (weights, "save", 1),
    "weights of the warm start": (weights, "save", 2),
    "weights": (weights, "save", 6),
    "weights of the refit": (weights, "save", 9),
    "state": (atomic, "sync", 21),
    "report": (evaluate, "write_report", 1),
    "curves": (figures, "draw_curves", 1),
    "robustness": (robustness, "write", 1),
    "model": (artefact, "save", 1),
}
"""Functions that write, and at which call of them the disk is full."""


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, marks=pytest.mark.slow) for step in STEPS],
)
def test_a_disk_that_fills_up_under_a_training(found, undisturbed, small_disk, monkeypatch, step):
    """One error that says where; what was finished stays; --resume ends as if nothing had been."""
    folder, (owner, name, call) = small_disk / "model", STEPS[step]
    work, write, calls = folder / "training", getattr(owner, name), []

    def fill_then_write(*given, **named):
        calls.append(name)
        if len(calls) == call:
            fill(small_disk)
        return write(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fill_then_write)
        with pytest.raises(OSError) as caught:
            train(found, folder)
    assert caught.value.errno == errno.ENOSPC and errno.ENOSPC in STORAGE_ERRNOS
    assert str(folder) in str(caught.value.filename)
    assert not [*folder.rglob("*partial*")] and not (folder / "model.json").exists()
    state = resume.read_state(work, {})
    first_steps = ("log", "tensorboard", "first weights", "weights of the warm start")
    assert (state is None) == (step in first_steps)
    for kept, sha256 in state.sha256.items() if state else ():
        assert hashlib.sha256((work / kept).read_bytes()).hexdigest() == sha256
    (small_disk / "filler").unlink()
    train(found, folder, go_on=True)
    assert end_of(folder) == end_of(undisturbed)
    assert artefact.load(folder).split == SPLIT
    tally("disk: full under a training (ENOSPC)", 1, 1)


def test_a_full_disk_is_one_line_of_the_command(found, small_disk, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (small_disk / "model").mkdir()
    fill(small_disk)
    process = start(found, small_disk / "model")
    _, said = process.communicate()
    lines = [line for line in said.splitlines() if line and not line.startswith("audio:")]
    assert process.returncode == 2, said
    assert len(lines) == 1, said
    assert "expected a readable, writable place with room" in lines[0]
    assert str(small_disk) in lines[0] and "No space left on device; free some space" in lines[0]


@pytest.mark.slow
def test_a_finished_training_without_its_model_is_not_trained_on(found, tmp_path):
    """Early stopping counts as an end: another epoch is not what would have happened."""
    early = dataclasses.replace(SETTINGS, epochs=9, patience=1, learning_rate=1e-9)
    train(found, tmp_path, early)
    before = end_of(tmp_path)
    assert before[0][0][1]["epoch"] < early.epochs
    (tmp_path / "model.json").unlink()
    train(found, tmp_path, early, go_on=True)
    assert end_of(tmp_path) == before


@pytest.mark.slow
def test_weights_that_are_not_what_was_written_are_refused(found, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "training", tmp_path / "training")
    (path,) = (tmp_path / "training").glob("epoch-4*")
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"epoch-4.weights.h5 as it was written, got other"):
        train(found, tmp_path, go_on=True)
    path.unlink()
    with pytest.raises(
        InputError, match=r"epoch-4.weights.h5, got nothing; train without --resume"
    ):
        train(found, tmp_path, go_on=True)


def test_a_training_that_diverges_at_once_says_so(found, tmp_path):
    absurd = dataclasses.replace(SETTINGS, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(
        InputError, match=r"finite loss, got \w*loss (nan|inf) .* nothing was saved"
    ):
        train(found, tmp_path, absurd)
    assert not (tmp_path / "model.json").exists()


@pytest.mark.slow
def test_a_training_that_diverges_keeps_its_last_good_epoch(found, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "training", tmp_path / "training")
    shutil.rmtree(tmp_path / "training" / "refit")
    longer = dataclasses.replace(SETTINGS, epochs=5, warm_start=0.6)
    for folder in (fit.WARM_START_FOLDER, "."):
        path = tmp_path / "training" / folder / resume.STATE_NAME
        state = json.loads(path.read_text())
        state["settings"] |= {"epochs": 5, "warm_start": 0.6}
        path.write_text(json.dumps(state))
    before = {path.name: path.read_bytes() for path in (tmp_path / "training").glob("*.h5")}

    absurd = dataclasses.replace(longer, learning_rate=1e30)
    with pytest.raises(InputError, match=r"finite loss, got .* in epoch 5; .* with --resume"):
        train(found, tmp_path, absurd, go_on=True)
    assert json.loads(path.read_text()) == state
    assert {name: (tmp_path / "training" / name).read_bytes() for name in before} == before
    assert all(
        np.isfinite(np.frombuffer(value, np.float32)).all()
        for name, value in tensors(tmp_path / "training" / state["best"]).items()
        if len(value) % 4 == 0 and "seed" not in name
    )

    calm = dataclasses.replace(longer, learning_rate=SETTINGS.learning_rate / 2)
    train(found, tmp_path, calm, go_on=True)
    rates = [line.split(",") for line in (tmp_path / "training" / "log.csv").read_text().split()]
    assert len(rates) == 6
    assert json.loads(path.read_text())["settings"]["learning_rate"] == calm.learning_rate
    tally("diverged: trainings that kept the last good epoch", 1, 1)
