"""Exports against Keras, and what opening a model refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import TINY, tone, write_model, write_rows, write_video

from infer.export import convert
from infer.prediction import model
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS, FeatureSpec
from train import export

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, write_model(folder, TINY)


def test_an_onnx_file_answers_as_keras_does(made):
    folder, network = made
    opened = model.open_model(folder)
    assert opened.backend == "onnx" and set(opened.inputs) == {"mfcc", "frames"}
    for tensors in export.examples(network, batch=5):
        found = opened.answer(tensors)
        for name, expected in network(tensors, training=False).items():
            np.testing.assert_allclose(found[name], np.asarray(expected), atol=1e-5)
    assert found["fused"].dtype == np.float32


def test_an_export_carries_what_it_needs(made):
    import onnx

    folder, network = made
    graph = onnx.load(folder / "model.onnx")
    held = {entry.key: entry.value for entry in graph.metadata_props}
    content = json.loads((folder / "model.json").read_text())
    assert json.loads(held["spec"]) == content["spec"]
    assert json.loads(held["emotions"]) == content["emotions"]
    assert {value.name for value in graph.graph.input} == {"mfcc", "frames"}
    assert {value.name for value in graph.graph.output} == set(network.output)
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param


class Unknown(keras.layers.Layer):
    """An operation that ONNX lacks; tf2onnx writes it all the same."""

    def call(self, x):
        return keras.ops.log1p(keras.ops.abs(x))


def test_what_onnx_lacks_leaves_no_file(made, tmp_path, caplog):
    folder, _ = made
    for name in ("model.json", "model.keras", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    mfcc = keras.Input(TINY.mfcc_shape, name="mfcc")
    broken = keras.Model({"mfcc": mfcc}, {"fused": Unknown()(mfcc)})
    with pytest.raises(export.ExportError, match="Log1p"):
        export.write_onnx(broken, tmp_path)
    export.write_onnx_if_possible(broken, tmp_path)
    assert "inference uses Keras" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.keras"]


def test_an_export_that_answers_otherwise_is_refused(made):
    _, network = made
    answers = {name: np.asarray(v) for name, v in network(export.examples(network)[0]).items()}

    def wrong(tensors):
        return answers

    with pytest.raises(export.ExportError, match="difference"):
        export.compare(network, wrong, export.examples(network), "another")
    with pytest.raises(export.ExportError, match="expected the output"):
        export.compare(network, lambda tensors: {}, export.examples(network), "another")


def test_an_onnx_file_of_another_model_is_not_used(made, tmp_path, monkeypatch, caplog):
    folder, _ = made
    write_model(tmp_path, TINY, onnx=False)
    (tmp_path / "model.onnx").write_bytes((folder / "model.onnx").read_bytes())
    with (tmp_path / "model.keras").open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(model, "open_keras", lambda folder: (("mfcc",), None))
    assert model.open_model(tmp_path).backend == "keras"
    assert "Keras is used" in caplog.text
    with pytest.raises(InputError, match="make export"):
        model.open_model(tmp_path, "onnx")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format_version": 9}, "format 9"),
        ({"emotions": ["glad"]}, "glad"),
        ({"spec": {"sample_rate_hz": 1}}, "spec"),
        ({"settings": 3}, "settings"),
    ],
)
def test_a_foreign_model_is_refused(made, tmp_path, change, said):
    folder, _ = made
    content = json.loads((folder / "model.json").read_text()) | change
    (tmp_path / "model.json").write_text(json.dumps(content))
    (tmp_path / "model.keras").write_bytes(b"")
    with pytest.raises(InputError, match=said):
        model.open_model(tmp_path)


def test_no_model_yet_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="make train"):
        model.open_model(tmp_path)
    with pytest.raises(InputError, match="backend of auto"):
        model.open_model(tmp_path, "torch")


def test_a_damaged_onnx_file_is_one_line(made, tmp_path):
    folder, _ = made
    for name in ("model.json", "model.keras"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="make export") as caught:
        model.open_model(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model as training saves it, with a cache of its spec, of all features' own sizes."""
    folder = tmp_path_factory.mktemp("saved")
    spec = FeatureSpec(variants=())
    network = write_model(folder / "model", spec)
    clips = [(actor, emotion, "av") for actor in (1, 2) for emotion in EMOTIONS]
    write_rows(folder / "cache", spec, clips)
    return folder, network


@pytest.mark.parametrize(
    ("kind", "int8", "name"),
    [
        ("onnx", False, "model.onnx"),
        ("onnx", True, "export/model-int8.onnx"),
        ("litert", False, "export/model.tflite"),
        ("litert", True, "export/model-int8.tflite"),
        ("saved_model", False, "export/saved_model"),
    ],
)
def test_every_format_answers_as_keras_does(saved, kind, int8, name):
    folder, network = saved
    path = convert.export(network, folder / "model", kind, int8)
    assert path == folder / "model" / name
    tensors, label = export.cached_rows(folder / "cache", FeatureSpec(variants=()).digest)
    assert len(label) == 16 and tensors["frames"].dtype == np.uint8
    answer = convert.RUNNERS[kind](path)
    expected = np.asarray(network(tensors, training=False)["fused"])
    found = answer(tensors)["fused"]
    if int8:
        assert np.abs(found - expected).max() < 0.05
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    said = convert.judged(network, answer, tensors, label)
    assert "16 cached rows" in said and "the same emotion in" in said
    if path.parent.name == convert.EXPORT_FOLDER:
        beside = json.loads(path.with_name(f"{path.name}.json").read_text())
        assert beside["emotions"] == list(EMOTIONS)
        assert beside["inputs"]["frames"] == ["uint8", 20, 112, 112, 3]
        assert FeatureSpec.from_json(json.dumps(beside["spec"])) == FeatureSpec(variants=())
        assert not list(path.parent.glob("tmp*"))


def test_what_cannot_be_exported_or_compared(saved):
    folder, network = saved
    with pytest.raises(InputError, match="got saved_model"):
        convert.export(network, folder / "model", "saved_model", True)
    with pytest.raises(InputError, match="model's spec"):
        export.cached_rows(folder / "cache", TINY.digest)


def test_an_export_runs_without_tensorflow(saved, tmp_path):
    folder, network = saved
    path = convert.export(network, folder / "model", "onnx", False)
    video = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    blocked = "import sys; sys.modules.update(tensorflow=None, keras=None); import runpy; "
    script = f"{blocked}sys.argv[1:] = [{str(path)!r}, {str(video)!r}]; "
    answer = subprocess.run(
        [sys.executable, "-c", f"{script}runpy.run_path('docs/runner.py', run_name='__main__')"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    said = [line.split() for line in answer.stdout.splitlines()]
    assert [name for name, _ in said] == list(EMOTIONS)
    assert sum(float(value) for _, value in said) == pytest.approx(1, abs=1e-3)


def test_nothing_of_tensorflow_is_imported_with_onnx(made):
    script = (
        "import sys; from infer import load; import infer.__main__; "
        f"assert load({str(made[0])!r}).model.backend == 'onnx'; "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorflow', 'keras')])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
