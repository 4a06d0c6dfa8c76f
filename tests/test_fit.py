"""A whole training of small branches: its stages, what it leaves, and corpora that lack things."""

import csv
import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
from conftest import write_rows
from small_training import BUILDERS, SETTINGS, SPLIT, STAGES, train

from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train import __main__, artefact, fit
from train.data import rows, speaker
from train.evaluation import calibration, distance, metrics
from train.heads import HEADS, LEFT_OUT, UNTAUGHT
from train.loop import checkpoint, stage
from train.studies.protocol import Split

ONE_EPOCH = dataclasses.replace(
    SETTINGS, audio_epochs=1, video_epochs=1, fusion_epochs=1, refit_epochs=0
)


@pytest.fixture(scope="module")
def trained(small_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return folder, train(small_cache, folder)


def held_by(folder, name):
    """Arrays of the best epoch of a stage."""
    state = checkpoint.read_state(folder / "training" / name, {})
    with np.load(folder / "training" / name / state.best) as file:
        return list(file.values())


def test_a_training_leaves_a_complete_artefact(trained, small_cache):
    folder, judged = trained
    assert {path.name for path in folder.iterdir()} == {
        *("model.keras", "model.json", "model.onnx", "report", "training")
    }
    report = folder / "report"
    assert {path.name for path in report.iterdir()} == {
        *("metrics.json", "predictions.csv", "confusion.png"),
        *("learning_curves.csv", "learning_curves.png", "robustness.json", "robustness.md"),
    }
    description = json.loads((folder / "model.json").read_text())
    assert description["actors"] == {"train": [1, 2], "validation": [3], "test": [4]}
    assert description["settings"]["seed"] == 3 and description["emotions"] == list(EMOTIONS)
    assert description["learned"] == list(HEADS) and description["cache"] == small_cache.fingerprint
    written = json.loads((report / "metrics.json").read_text())
    assert description["metrics"] == judged == written
    seen = {
        source.sha256 for clip in small_cache.clips if clip.actor < 4 for source in clip.sources
    }
    assert set(description["seen"]) == seen
    with (report / "predictions.csv").open() as stream:
        assert [row["actor"] for row in csv.DictReader(stream)] == ["4"] * 4
    assert set(judged) >= {*HEADS, "stamp", "validation"} and judged["stamp"] is None


def test_all_epochs_of_all_stages_are_in_one_table(trained):
    with (trained[0] / "report" / "learning_curves.csv").open() as stream:
        epochs = list(csv.DictReader(stream))
    assert [epoch["stage"] for epoch in epochs] == [name for name in STAGES for _ in range(3)]
    assert [epoch["epoch"] for epoch in epochs] == ["1", "2", "3"] * 6
    for epoch in epochs:
        assert np.isfinite(float(epoch["loss"])) and float(epoch["learning_rate"]) > 0
        assert bool(epoch["val_accuracy"]) == (not epoch["stage"].startswith("refit"))


def test_a_loaded_model_answers_as_the_trained_one(trained, small_cache):
    folder, judged = trained
    loaded = artefact.load(folder)
    table = rows.select_rows(small_cache, SPLIT.test)
    found = metrics.metrics(table, metrics.predict(loaded.model, table))
    assert found.items() <= judged.items()
    assert (loaded.spec, loaded.split) == (small_cache.spec, SPLIT)


def test_fusion_changes_no_branch(trained):
    """Neither a weight nor an average of batch normalisation; only random numbers are drawn."""
    for prefix in ("", "refit-"):
        fused = held_by(trained[0], f"{prefix}fusion")
        for name in ("audio", "video"):
            held = held_by(trained[0], f"{prefix}{name}")
            # The branch's own; those of its optimizer begin with a number of steps.
            end = next(place for place, value in enumerate(held) if value.shape == ())
            own = [value for value in held[:end] if value.dtype == np.float32]
            assert len(own) == 7
            for value in own:
                assert any(np.array_equal(value, other) for other in fused)


def test_branches_are_trained_apart(trained, small_cache, tmp_path):
    """Alone, a branch becomes what it is beside the other one."""
    settings = dataclasses.replace(SETTINGS, modalities=("audio",))
    judged = train(small_cache, tmp_path, settings)
    both = zip(held_by(trained[0], "audio"), held_by(tmp_path, "audio"), strict=True)
    assert all(np.array_equal(a, b) for a, b in both)
    assert judged["validation"]["audio"] == trained[1]["validation"]["audio"]
    assert judged["left_out"] == [UNTAUGHT["video"]] and "video" not in judged
    assert judged["fused"]["confusion"] == judged["audio"]["confusion"]
    assert artefact.load(tmp_path).learned == ("fused", "audio")
    assert not (tmp_path / "training" / "video").exists()


def test_temperatures_are_fitted_on_validation_before_the_refit(trained, small_cache):
    folder, judged = trained
    branches = {name: build(small_cache.spec, None, SETTINGS) for name, build in BUILDERS.items()}
    validation = rows.select_rows(small_cache, SPLIT.validation)
    for name, branch in branches.items():
        trainer = stage.trainer_of(branch, SETTINGS, [1 / 8] * 8)
        place = folder / "training" / name
        state = checkpoint.read_state(place, {})
        checkpoint.load(trainer.model, place, state.best, state)
        logits = metrics.predict(branch, validation)["logits"]
        fitted = calibration.fit_temperature(logits, validation.label)
        layer = artefact.load(folder).model.get_layer(f"{name}_temperature")
        assert float(layer.temperature) == pytest.approx(fitted, rel=1e-3)
        answer = metrics.averages(validation.label, logits.argmax(axis=1))
        assert judged["validation"][name] == answer


def test_distances_are_one_at_the_limit_of_validation(small_cache, tmp_path):
    train(small_cache, tmp_path, ONE_EPOCH)
    model = artefact.load(tmp_path).model
    validation = rows.select_rows(small_cache, SPLIT.validation)
    said = metrics.predict(model, validation)
    for name in ("audio", "video"):
        assert distance.usual_limit(said[f"{name}_distance"]) == pytest.approx(1, rel=1e-3)


def test_without_a_validation_clip_no_distance_is_unusual(tmp_path, small_spec):
    """The branch counts in full: it is not known how far off the usual clips are."""
    kinds = {1: "av", 2: "av", 3: "a", 4: "av"}
    clips = [(actor, name, kind) for actor, kind in kinds.items() for name in ("happy", "sad")]
    made = write_rows(tmp_path / "cache", small_spec, clips)
    train(made, tmp_path / "model", ONE_EPOCH)
    said = metrics.predict(
        artefact.load(tmp_path / "model").model, rows.select_rows(made, SPLIT.test)
    )
    assert (said["video_distance"] == 0).all() and (said["audio_distance"] > 0).all()


def test_two_trainings_with_one_seed_give_the_same_model(trained, small_cache, tmp_path):
    judged = train(small_cache, tmp_path)
    weights = [artefact.load(place).model.get_weights() for place in (trained[0], tmp_path)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*weights, strict=True))
    assert judged == trained[1]
    for name in ("report/predictions.csv", "report/metrics.json", "training/log.csv"):
        assert (tmp_path / name).read_bytes() == (trained[0] / name).read_bytes()


def test_a_new_training_forgets_every_stage_of_the_one_before(trained, small_cache, tmp_path):
    shutil.copytree(trained[0] / "training", tmp_path / "training")

    class Interrupt(BaseException):
        pass

    def interrupt(*_):
        raise Interrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_branch", interrupt)
        with pytest.raises(Interrupt):
            train(small_cache, tmp_path)
    assert not [*tmp_path.rglob("state.json")]


def test_the_same_training_goes_on_and_another_starts_anew(trained, small_cache, tmp_path, capsys):
    shutil.copytree(trained[0] / "training", tmp_path / "training")
    audio = tmp_path / "training" / "audio" / checkpoint.STATE_NAME
    before = audio.stat().st_mtime_ns
    judged = train(small_cache, tmp_path, go_on=None, progress=True)
    assert f"going on with the training in {tmp_path}" in capsys.readouterr().out
    assert audio.stat().st_mtime_ns == before and judged == trained[1]
    one = dataclasses.replace(ONE_EPOCH, modalities=("audio",))
    train(small_cache, tmp_path, one, go_on=None, progress=True)
    assert "going on" not in capsys.readouterr().out
    assert checkpoint.read_state(audio.parent, {}).epoch == 1
    assert not (tmp_path / "training" / "video").exists()
    audio.write_text("{")
    assert not checkpoint.is_same(tmp_path / "training", {})


def test_going_on_with_other_settings_is_refused(trained, small_cache, tmp_path):
    shutil.copytree(trained[0] / "training", tmp_path / "training")
    for changed, said in (({"seed": 4}, "seed 3 there, 4 now"), ({"dropout": 0.1}, "dropout 0.4")):
        with pytest.raises(checkpoint.OtherSettings, match=said):
            train(small_cache, tmp_path, dataclasses.replace(SETTINGS, **changed), go_on=True)
    with pytest.raises(checkpoint.OtherSettings, match="validation"):
        train(small_cache, tmp_path, split=Split((1, 3), (2,), (4,)), go_on=True)


@pytest.mark.parametrize(
    "policy",
    [pytest.param(name, marks=pytest.mark.slow) for name in ("mixed_float16", "mixed_bfloat16")],
)
def test_a_model_that_was_trained_in_mixed_precision_computes_in_float32(
    small_cache, tmp_path, policy
):
    settings = dataclasses.replace(SETTINGS, precision=policy)
    train(small_cache, tmp_path, settings)
    assert keras.config.dtype_policy().name == "float32"
    model = artefact.load(tmp_path).model
    nested = [layer for layer in model.layers for layer in getattr(layer, "layers", [layer])]
    assert {layer.compute_dtype for layer in nested} == {"float32"}
    with (tmp_path / "report" / "learning_curves.csv").open() as stream:
        epochs = list(csv.DictReader(stream))
    assert len(epochs) == 18 and all(np.isfinite(float(epoch["loss"])) for epoch in epochs)
    assert all(np.isfinite(values).all() for values in model.get_weights())


# Corpora that lack something


def corpus(modalities):
    return [
        (actor, emotion, modalities[actor])
        for actor in (1, 2, 3, 4)
        for emotion in ("neutral", "happy", "angry", "surprised")
    ]


@pytest.mark.parametrize(("letter", "head"), [("a", "audio"), ("v", "video")])
def test_a_corpus_of_one_modality_trains_tests_and_is_evaluated(
    tmp_path, small_spec, letter, head, capsys
):
    made = write_rows(tmp_path / "cache", small_spec, corpus(dict.fromkeys(range(5), letter)))
    folder, other = tmp_path / "model", {"audio": "video", "video": "audio"}[head]
    judged = train(made, folder, ONE_EPOCH)
    assert judged["left_out"] == [UNTAUGHT[other]]
    assert other not in judged and other not in judged["validation"]
    # The fused probabilities are those of the only branch, but for their temperature.
    assert judged["fused"]["confusion"] == judged[head]["confusion"]
    assert artefact.load(folder).learned == ("fused", head)
    with (folder / "report" / "predictions.csv").open() as stream:
        for row in csv.DictReader(stream):
            assert row[other] == "" and row["fused"] == row[head]
    measured = json.loads((folder / "report" / "robustness.json").read_text())
    assert all(other not in heads for heads in measured["conditions"].values())
    # A model that knows both modalities is tested on what this corpus has.
    table = rows.select_rows(made, (4,))
    answers = dict.fromkeys(HEADS, np.eye(8, dtype=np.float32)[table.label])
    by_both = metrics.metrics(table, answers)
    assert by_both["left_out"] == [LEFT_OUT[other]] and by_both[head]["uar"] == 1
    # The command does the same.
    words = ["evaluate", "--cache", str(made.folder), "--model", str(folder), "--actors", "4"]
    arguments = __main__.parser().parse_args(words)
    assert arguments.run(arguments) == 0
    assert judged["left_out"][0] in capsys.readouterr().out


@pytest.mark.slow
def test_a_mixed_corpus_tests_each_head_by_its_own_clips(tmp_path, small_spec):
    clips = corpus({1: "av", 2: "a", 3: "v", 4: "av"})
    made = write_rows(tmp_path / "cache", small_spec, clips)
    judged = train(made, tmp_path / "model", ONE_EPOCH)
    assert judged["left_out"] == [] and set(HEADS) <= judged.keys()
    assert judged["validation"].keys() == {"fused", "video"}
    # Nobody in validation tells of audio: its temperature stays 1.
    layer = artefact.load(tmp_path / "model").model.get_layer("audio_temperature")
    assert float(layer.temperature) == 1


def test_training_and_validation_without_a_common_modality_are_refused(tmp_path, small_spec):
    clips = corpus({1: "a", 2: "a", 3: "v", 4: "av"})
    made = write_rows(tmp_path / "cache", small_spec, clips)
    with pytest.raises(InputError, match="validation clips with audio, as the training clips"):
        train(made, tmp_path / "model", ONE_EPOCH)


def test_a_model_is_evaluated_on_a_cache_with_other_variants(trained, tmp_path, small_spec, capsys):
    """Only clean rows are tested: they are the same. Any other difference is refused."""
    shutil.copytree(trained[0], tmp_path / "model", ignore=shutil.ignore_patterns("training"))

    def run(name, **changes):
        spec = dataclasses.replace(small_spec, **changes)
        made = write_rows(tmp_path / name, spec, [(4, "sad", "av"), (4, "happy", "av")])
        words = ["evaluate", "--cache", str(made.folder), "--model", str(tmp_path / "model")]
        arguments = __main__.parser().parse_args([*words, "--actors", "4"])
        assert arguments.run(arguments) == 0
        report = tmp_path / "model" / f"report-{made.folder.name}-actors-4"
        return (report / "predictions.csv").read_text(), capsys.readouterr().out

    own, said = run("own")
    assert "variants" not in said
    other, said = run("other", variants=("noise", "stretch"))
    assert other == own
    assert said.startswith(
        "the cache holds other variants (noise, stretch) than the model's (pitch)"
    )
    with pytest.raises(InputError, match="expected a cache of the model's spec"):
        run("foreign", variants=(), window_seconds=1.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["recording", "neutral"])
def test_a_model_with_a_speaker_reference_is_trained_stamped_and_evaluated(
    tmp_path, small_spec, kind, capsys
):
    """The real branches: the small ones have no reference."""
    emotions = ("neutral", "neutral", "happy", "angry")
    clips = [(actor, emotion, "av") for actor in (1, 2, 3, 4) for emotion in emotions]
    made = write_rows(tmp_path / "cache", small_spec, clips)
    settings = dataclasses.replace(ONE_EPOCH, speaker_reference=kind)
    folder = tmp_path / "model"
    keras.utils.set_random_seed(3)
    judged = fit.fit(made, folder, SPLIT, settings, progress=False)
    assert judged["stamp"] == speaker.STAMPS[kind]
    model = artefact.load(folder).model
    assert set(model.input) == {"mfcc", "frames", "mfcc_reference", "frames_reference"}
    words = ["evaluate", "--cache", str(made.folder), "--model", str(folder)]
    arguments = __main__.parser().parse_args(words)
    assert arguments.run(arguments) == 0
    assert speaker.STAMPS[kind] in capsys.readouterr().out
    again = json.loads((folder / f"report-{made.folder.name}-actors-4/metrics.json").read_text())
    assert again["fused"] == judged["fused"]
