"""Trainings that are killed, cut short while they save, or lose their numbers."""

import dataclasses
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

from pipeline import build, catalog, index
from pipeline.errors import InputError
from pipeline.spec import FeatureSpec
from train import fit, resume
from train.protocol import Split

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]
SPLIT = Split((1, 2), (3,), (4,))
SETTINGS = fit.Settings(epochs=4, batch_size=6, seed=3)


@pytest.fixture(scope="module")
def found(raw, tmp_path_factory):
    """A cache of small pictures."""
    folder = tmp_path_factory.mktemp("small")
    spec = FeatureSpec(window_seconds=1.0, variants=("pitch",), frame_count=8, frame_size_px=32)
    build.build(catalog.scan(raw), folder, spec, jobs=1, progress=False)
    return index.find_cache(folder)


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
    """What a finished training leaves: history, weights with optimizer, best weights, memory."""
    work = folder / "training"
    state = json.loads((work / resume.STATE_NAME).read_text())
    files = {state["weights"], state["best"]}
    assert {path.name for path in work.glob("*.weights.h5")} == files
    weights = [tensors(work / state[name]) for name in ("weights", "best")]
    assert all(len(values) > 20 for values in weights)
    judged = (folder / "report" / "metrics.json").read_text()
    return (work / fit.LOG_NAME).read_text(), state, weights, judged


def start(found, folder):
    return subprocess.Popen(
        [sys.executable, "-m", "train", "fit", "--cache", found.folder, "--model", folder]
        + ["--epochs", str(SETTINGS.epochs), "--batch-size", "6", "--seed", "3", "--resume"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def epochs_logged(folder):
    log = folder / "training" / fit.LOG_NAME
    return len(log.read_text().splitlines()) - 1 if log.is_file() else 0


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
from pipeline import index
from train import fit
from train.protocol import Split
for folder in sys.argv[2:]:
    keras.utils.set_random_seed(3)
    settings = fit.Settings(epochs=4, batch_size=6, seed=3)
    split = Split((1, 2), (3,), (4,))
    cache = index.find_cache(Path(sys.argv[1]))
    fit.fit(cache, Path(folder), split, settings, go_on=True, progress=False)
"""


def test_a_killed_training_resumes_to_the_same_end(found, tmp_path):
    """One command is killed; another process trains undisturbed, then goes on with the killed."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    assert kill_after(found, killed, 1, random.Random(0))
    assert not (killed / "model.json").exists()
    subprocess.run(
        [sys.executable, "-c", IN_TURN, found.folder, whole, killed], cwd=ROOT, check=True
    )
    assert end_of(killed) == end_of(whole)
    tally("kill: training, SIGKILL", 1, 1)


@pytest.mark.slow
def test_a_training_killed_again_and_again_ends_the_same(found, tmp_path):
    process = start(found, tmp_path / "whole")
    assert process.wait() == 0, process.stderr.read()
    whens, kills = random.Random(1), 0
    while kills < 6:
        folder = tmp_path / f"killed-{kills}"
        for epochs in (1, 1, 0, 1):
            kills += kill_after(found, folder, epochs, whens)
        process = start(found, folder)
        assert process.wait() == 0, process.stderr.read()
        assert end_of(folder) == end_of(tmp_path / "whole")
    tally("kill: training, SIGKILL", kills, kills)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["best weights", "weights", "state", "removal"])
def test_a_training_cut_short_while_it_saves(found, undisturbed, tmp_path, monkeypatch, step):
    """Whatever the second epoch was writing is half there."""
    folder, work = tmp_path / "model", tmp_path / "model" / "training"

    class Cut(BaseException):
        pass

    def cut(name):
        for path in work.glob(name):
            os.truncate(path, path.stat().st_size // 2)
        raise Cut

    save = keras.Model.save_weights

    def save_weights(model, path, *given, **named):
        save(model, path, *given, **named)
        if Path(path).name == {"best weights": "best-2", "weights": "state-2"}.get(step, "") + (
            ".weights.h5"
        ):
            cut(Path(path).name)

    replace, remove = os.replace, resume.remove_others

    def rename(source, target):
        if step == "state" and (work / "state-2.weights.h5").exists():
            cut(f"{resume.STATE_NAME}.partial")
        replace(source, target)

    def remove_others(place, state):
        if step == "removal" and state.epoch == 2:
            raise Cut
        remove(place, state)

    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "save_weights", save_weights)
        patch.setattr(resume.os, "replace", rename)
        patch.setattr(resume, "remove_others", remove_others)
        with pytest.raises(Cut):
            train(found, folder)
    epoch = json.loads((work / resume.STATE_NAME).read_text())["epoch"]
    assert epoch == (2 if step == "removal" else 1)
    train(found, folder, go_on=True)
    assert end_of(folder) == end_of(undisturbed)
    tally("kill: training amid saving", 1, 1)


def test_a_training_that_diverges_at_once_says_so(found, tmp_path):
    absurd = dataclasses.replace(SETTINGS, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(
        InputError, match=r"finite loss, got \w*loss (nan|inf) .* nothing was saved"
    ):
        train(found, tmp_path, absurd)
    assert not (tmp_path / "model.json").exists()


def test_a_training_that_diverges_keeps_its_last_good_epoch(found, undisturbed, tmp_path):
    shutil.copytree(undisturbed / "training", tmp_path / "training")
    longer = dataclasses.replace(SETTINGS, epochs=5)
    path = tmp_path / "training" / resume.STATE_NAME
    state = json.loads(path.read_text())
    state["settings"]["epochs"] = 5
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
