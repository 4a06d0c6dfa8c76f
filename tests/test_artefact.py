"""A saved model: loaded by Keras alone, described, and refused where it is not what was written."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from small_training import SPLIT

from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train import artefact, fit
from train.data import reader, rows, statistics
from train.evaluation import metrics, report
from train.heads import HEADS, INPUTS
from train.models import fusion
from train.settings import Settings

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def saved(small_cache, tmp_path_factory):
    """The real branches, untrained, with temperatures, distances and corrections of their own."""
    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(0)
    table = rows.select_rows(small_cache, SPLIT.train)
    known, settings = statistics.mfcc_statistics(table), Settings()
    branches = {
        name: build(small_cache.spec, known, settings) for name, build in fusion.BUILDERS.items()
    }
    network = fusion.build(branches, list(INPUTS), settings)
    random = np.random.default_rng(0)
    for variable in network.variables:
        if variable.dtype == "float32" and "variance" not in variable.path:
            noise = random.normal(0, 0.05, variable.shape)
            variable.assign(np.asarray(variable) + noise)
    for head, temperature in zip(HEADS, (0.6, 1.7, 2.5), strict=True):
        fit.set_temperature(network, head, temperature)
    for name, branch in branches.items():
        fit.fit_distance(name, branch, network, table, None, 0.5)
    test = rows.select_rows(small_cache, SPLIT.test)
    probabilities = metrics.predict(network, test)
    judged = metrics.metrics(test, probabilities)
    report.write_report(folder / "report", test, probabilities, judged)
    made = artefact.Artefact(
        network,
        small_cache.spec,
        SPLIT,
        dataclasses.asdict(settings),
        judged,
        ("0" * 64,),
        small_cache.fingerprint,
    )
    artefact.save(made, folder)
    return folder, made, probabilities


BY_ITSELF = """
import csv, sys
import numpy as np
import keras
import train.models

folder, tensors = sys.argv[1:]
model = keras.models.load_model(f"{folder}/model.keras")
with np.load(tensors) as given:
    said = model.predict(dict(given), verbose=0)
with open(f"{folder}/report/predictions.csv") as stream:
    written = list(csv.DictReader(stream))
for head in ("fused", "audio", "video"):
    names = [name for name in written[0] if name.startswith(f"p_{head}_")]
    expected = np.array([[float(row[name]) for name in names] for row in written])
    assert said[head].shape == expected.shape == (4, 8)
    assert np.abs(said[head] - expected).max() < 1e-6, head
print(*[name for name in sys.modules if name.startswith(("train.data", "train.fit", "pipeline.c"))])
"""


def test_keras_alone_loads_a_model_that_gives_the_published_probabilities(
    saved, small_cache, tmp_path
):
    """In a fresh process that knows nothing but the layers; nothing is applied afterwards."""
    test = rows.select_rows(small_cache, SPLIT.test)
    np.savez(tmp_path / "rows.npz", **reader.RowReader(test).read(np.arange(len(test))))
    run = subprocess.run(
        [sys.executable, "-c", BY_ITSELF, saved[0], tmp_path / "rows.npz"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    # Nor is any part of training or of the cache loaded.
    assert run.stdout.split() == []


def test_predictions_are_written_with_every_digit(saved):
    folder, _, probabilities = saved
    with (folder / "report" / "predictions.csv").open() as stream:
        written = list(csv.DictReader(stream))
    for head in HEADS:
        read = [[float(row[f"p_{head}_{name}"]) for name in EMOTIONS] for row in written]
        assert np.array_equal(np.array(read, np.float32), probabilities[head])


def test_what_was_saved_is_loaded(saved):
    folder, made, _ = saved
    loaded = artefact.load(folder)
    for field in ("spec", "split", "seen", "cache", "learned", "speaker_reference"):
        assert getattr(loaded, field) == getattr(made, field)
    assert loaded.metrics == json.loads(json.dumps(made.metrics))
    assert Settings(**loaded.settings) == Settings()
    assert (folder / "model.keras").stat().st_size < 5e6
    assert not [*folder.glob("partial-*")]


def test_a_model_that_cannot_be_written_leaves_the_one_before(saved, tmp_path, monkeypatch):
    for name in ("model.keras", "model.json"):
        shutil.copy(saved[0] / name, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artefact.atomic, "sync", refuse)
    with pytest.raises(OSError, match="No space left"):
        artefact.save(saved[1], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 7}, "format 7"),
        ({"emotions": ["joy"]}, "joy"),
        ({"spec": {"columns": 44}}, "fields of this version's spec"),
        ({"spec_revision": 99}, "revision 99"),
        ({"actors": {"train": ["1"], "validation": [], "test": []}}, "numbers of actors"),
        ({"seen": [1]}, "hashes of the recordings"),
        ({"settings": []}, "expected dict for settings"),
    ],
)
def test_models_this_code_cannot_serve(saved, tmp_path, change, said):
    for name in ("model.keras", "model.json"):
        shutil.copy(saved[0] / name, tmp_path / name)
    description = json.loads((tmp_path / "model.json").read_text())
    if "spec_revision" in change:
        change = {"spec": description["spec"] | {"revision": change["spec_revision"]}}
    (tmp_path / "model.json").write_text(json.dumps(description | change))
    with pytest.raises(InputError, match=said):
        artefact.load(tmp_path)


def test_damaged_and_missing_models(saved, tmp_path):
    with pytest.raises(InputError, match="make train"):
        artefact.load(tmp_path)
    shutil.copy(saved[0] / "model.json", tmp_path)
    content = (saved[0] / "model.keras").read_bytes()
    for damaged in (b"", content[:5000], content[:-100]):
        (tmp_path / "model.keras").write_bytes(damaged)
        with pytest.raises(InputError, match="can serve"):
            artefact.load(tmp_path)
