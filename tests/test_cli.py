"""The commands as a user types them: every exit code and every error line."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import pytest
from conftest import tone, write_video, write_wav

from train.heads import HEADS

ROOT = Path(__file__).parents[1]
WINDOW = ("--window-seconds", "1", "--variants", "1")


def command(*words, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def assert_one_line(answer, *words):
    """A user's mistake: exit code 2, one line, no traceback, nothing on standard output."""
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), answer.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def made(raw, tmp_path_factory):
    """Cache and model, each made by its command."""
    folder = tmp_path_factory.mktemp("made")
    features = command(
        "pipeline", "features", "--raw", raw, "--cache", folder / "cache", "--jobs", 1, *WINDOW
    )
    assert features.returncode == 0, features.stderr
    places = ("--cache", folder / "cache", "--model", folder / "model")
    fit = command("train", "fit", *places, "--epochs-scale", 0.05)
    assert fit.returncode == 0, fit.stderr
    return folder, features, fit


@pytest.fixture(scope="module")
def annotated(made, raw):
    folder = made[0]
    video = raw / "videos/Actor_04/01-01-05-01-01-01-04.mp4"
    infer = command(
        *("infer", video, "--model", folder / "model", "--out", folder / "out"),
        *("--min-confidence", "1"),
    )
    assert infer.returncode == 0, infer.stderr
    return infer


def test_the_line_from_raw_files_to_a_model(made):
    folder, features, fit = made
    assert "16 clips, 32 rows" in features.stdout and "features: 100%" in features.stderr
    assert "train on actors 1-2, choose by 3, test on 4; CPU" in fit.stdout
    begins = [line.split()[0] for line in fit.stdout.splitlines() if line]
    stages = ["audio", "audio", "video", "fusion", "refit-audio", "refit-video", "refit-fusion"]
    first = begins.index("audio")
    assert begins[first : first + 7] == stages
    assert begins[first + 8 : first + 11] == [*HEADS]
    assert "| no audio |" in fit.stdout and "0 dB" in fit.stdout
    assert "I0000" not in fit.stderr and "Traceback" not in fit.stderr
    assert (folder / "model" / "model.keras").stat().st_size < 5e6
    header = (folder / "model/report/learning_curves.csv").read_text().splitlines()[0]
    assert header == "stage,epoch,loss,accuracy,val_loss,val_accuracy,learning_rate"


def test_a_recording_is_annotated(made, annotated):
    folder = made[0]
    assert "01-01-05-01-01-01-04.mp4: unsure (" in annotated.stdout
    with av.open(str(folder / "out" / "01-01-05-01-01-01-04.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 16
        assert container.streams.audio
    assert {path.suffix for path in (folder / "out").iterdir()} == {
        *(".mp4", ".json", ".csv", ".vtt")
    }


def test_evaluate_takes_the_actors_the_model_has_not_seen(made):
    folder = made[0]
    answer = command("train", "evaluate", "--cache", folder / "cache", "--model", folder / "model")
    assert answer.returncode == 0, answer.stderr
    report = folder / "model" / "report-cache-actors-4"
    judged = json.loads((report / "metrics.json").read_text())
    first = json.loads((folder / "model" / "report" / "metrics.json").read_text())
    assert judged["actors"] == [4] and judged["fused"] == first["fused"]


@pytest.mark.slow
def test_evaluate_on_actors_the_model_has_seen_is_no_test(made):
    folder = made[0]
    seen = command(
        "train",
        "evaluate",
        "--cache",
        folder / "cache",
        "--model",
        folder / "model",
        "--actors",
        "3-4",
    )
    assert "not a test: the model was trained on recordings of actors 3" in seen.stdout


@pytest.mark.slow
def test_what_trains_several_times(raw, tmp_path):
    """Leak meter and ablation, on both recipes' caches of the same clips."""
    cache, model = tmp_path / "cache", tmp_path / "model"
    for recipe in ("default", "published"):
        answer = command(
            *("pipeline", "features", "--raw", raw, "--cache", cache, "--jobs", 1),
            *("--recipe", recipe),
        )
        assert answer.returncode == 0, answer.stderr
        assert ("without a face" in answer.stdout) == (recipe == "default")
    places = ("--cache", cache, "--model", model, "--epochs-scale", 0.01)
    leak = command("train", "study", "leak", "--folds", 1, "--seeds", 0, *places)
    assert leak.returncode == 0, leak.stderr
    assert "not comparable" in leak.stdout
    first = command("train", "study", "ablation", "--seeds", 0, *places)
    assert first.returncode == 0, first.stderr
    again = command("train", "study", "ablation", "--seeds", 0, *places)
    assert again.stdout.splitlines()[-5:] == first.stdout.splitlines()[-5:]


@pytest.mark.parametrize(
    "words",
    [
        ("train", "fit"),
        ("train", "evaluate"),
        ("train", "crossval"),
        ("train", "study", "leak"),
        ("train", "study", "ablation"),
        ("train", "study", "choices"),
        ("infer",),
    ],
)
def test_help_states_every_default(words):
    answer = command(*words, "--help")
    assert answer.returncode == 0
    assert "--help" in answer.stdout and "default" in answer.stdout


def test_missing_raw_cache_and_model(tmp_path, raw):
    assert_one_line(command("train", "fit", cwd=tmp_path), "data/cache", "make features")
    assert_one_line(command("train", "evaluate", cwd=tmp_path), "data/cache", "make features")
    video = next(raw.rglob("*.mp4"))
    assert_one_line(command("infer", video, cwd=tmp_path), "data/model", "make train")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "html", "text track"])
def test_what_is_no_video(tmp_path, kind):
    path = tmp_path / "x.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "html": b"<html></html>",
                "text track": b"1\n00:00:00,000 --> 00:00:01,000\nhello\n",
            }[kind]
        )
    assert_one_line(command("infer", path, cwd=tmp_path), "x.mp4", "expected")
    assert not (tmp_path / "data").exists()


def test_wrong_options(tmp_path, made):
    folder = made[0]
    fit = ("train", "fit", "--cache", folder / "cache", "--model", tmp_path / "model")
    assert_one_line(command(*fit, "--test-actors", "9"), "test actors out of 1-4")
    assert_one_line(command(*fit, "--test-actors", "x"), "expected actors such as")
    assert_one_line(command(*fit, "--audio-epochs", "0"), "audio epochs of at least 1")
    assert_one_line(command(*fit, "--refit-epochs", "-1"), "refit epochs of at least 0")
    leak = ("train", "study", "leak", "--cache", folder / "cache", "--model", tmp_path / "model")
    assert_one_line(command(*leak, "--folds", "7"), " folds, got 7")
    ablation = (
        "train",
        "study",
        "ablation",
        "--cache",
        folder / "cache",
        "--model",
        tmp_path / "model",
    )
    assert_one_line(command(*ablation), "each recipe", "0 published, 0 default")
    assert_one_line(command("infer", "x.mp4", "--min-confidence", "2"), "0 to 1, got 2.0")
    assert not (tmp_path / "model").exists()


def test_a_cache_of_another_recipe_is_refused(made, raw, tmp_path):
    folder = made[0]
    answer = command(
        "pipeline",
        "features",
        "--raw",
        raw,
        "--cache",
        tmp_path / "cache",
        "--recipe",
        "published",
        "--variants",
        0,
        "--jobs",
        1,
    )
    assert answer.returncode == 0, answer.stderr
    answer = command(
        "train", "evaluate", "--cache", tmp_path / "cache", "--model", folder / "model"
    )
    assert_one_line(answer, "expected a cache of the model's spec")


def test_the_output_may_not_be_the_input(made, tmp_path):
    video = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    before = video.read_bytes()
    answer = command("infer", video, "--model", made[0] / "model", "--out", tmp_path)
    assert_one_line(answer, "expected another output")
    assert video.read_bytes() == before


def test_a_sound_file_without_sound_is_refused(tmp_path):
    silent = write_video(tmp_path / "a.mp4")
    assert_one_line(command("infer", silent, "--audio", silent, cwd=tmp_path), "no audio stream")
    wav = write_wav(tmp_path / "b.wav", tone(1.0))
    wav.write_bytes(b"")
    assert_one_line(command("infer", silent, "--audio", wav, cwd=tmp_path), "0 bytes")


def test_windows_can_be_opened_beside_pyav():
    """OpenCV has to be loaded first, or its first window hangs."""
    script = (
        "import infer.__main__, sys; m = list(sys.modules); print(m.index('cv2') < m.index('av'))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "True"


# The rooms


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MAKES_NOISE = ROOT / "train" / "evaluation" / "robustness.py"
"""Noise is made of raw files by what extracts them, see there: features are defined once."""


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("pipeline", ("train", "infer", "tensorflow", "keras")),
        (
            "train",
            (
                "infer",
                "pipeline.features",
                "pipeline.media",
                "pipeline.cache.build",
                "pipeline.cache.task",
                "pipeline.cache.extraction",
                "av",
            ),
        ),
        ("infer", ("pipeline.features.augment", "pipeline.cache")),
    ],
)
def test_import_direction_is_data_direction(room, forbidden):
    files = sorted((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        if path == MAKES_NOISE:
            continue
        for name in imports_of(path):
            assert not any(name == word or name.startswith(f"{word}.") for word in forbidden), (
                f"{path} imports {name}"
            )


def test_only_one_place_opens_media():
    openers = {
        path.relative_to(ROOT).as_posix()
        for room in ("pipeline", "train", "infer")
        for path in (ROOT / room).rglob("*.py")
        if "av" in set(imports_of(path))
    }
    rooms = ("audio", "capture", "container", "encode", "packets", "subtitle", "video")
    assert openers == {f"pipeline/media/{room}.py" for room in rooms}


def test_the_makefile_documents_its_targets():
    answer = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=False
    )
    targets = {line.split()[1] for line in answer.stdout.splitlines() if line.startswith("  make ")}
    phony = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith(".PHONY")
    )
    assert targets == set(phony.split(":")[1].split())
    assert {"help", "demo", "test", "features", "train", "evaluate", "infer"} <= targets
