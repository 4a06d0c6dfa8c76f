"""The commands as a user types them: every exit code and every error line."""

import ast
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
from conftest import tone, write_video, write_wav
from small_training import train

from pipeline.cache import index
from train.heads import HEADS

ROOT = Path(__file__).parents[1]
WINDOW = ("--window-seconds", "1", "--variants", "1")


def command(*words):
    """Run a command as a shell does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Answer:
    """What a command that ran in this process left, named as ``subprocess`` does."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def call(capsys):
    """Run a command in this process, which has imported TensorFlow once for all of them."""
    before = signal.getsignal(signal.SIGTERM)

    def run(package, *words):
        main = importlib.import_module(f"{package}.__main__").main
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        return Answer(code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


def assert_one_line(answer, *words):
    """A user's mistake: exit code 2, one line, no traceback, nothing on standard output."""
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), answer.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def cache(raw, tmp_path_factory):
    """What ``features`` leaves of actors 1-4."""
    folder = tmp_path_factory.mktemp("made") / "cache"
    made = command("pipeline", "features", "--raw", raw, "--cache", folder, "--jobs", 1, *WINDOW)
    assert made.returncode == 0, made.stderr
    assert "16 clips, 32 rows" in made.stdout and "features: 100%" in made.stderr
    return folder


@pytest.fixture(scope="module")
def model(cache, tmp_path_factory):
    """A small model of it."""
    folder = tmp_path_factory.mktemp("small") / "model"
    train(index.find_cache(cache), folder)
    return folder


@pytest.mark.slow
def test_the_line_from_raw_files_to_an_annotated_video(cache, raw, tmp_path):
    """Each command in a process of its own, and the whole network."""
    folder = tmp_path
    fit = command(
        "train", "fit", "--cache", cache, "--model", folder / "model", "--epochs-scale", 0.05
    )
    assert fit.returncode == 0, fit.stderr
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

    video = raw / "videos/Actor_04/01-01-05-01-01-01-04.mp4"
    infer = command(
        *("infer", video, "--model", folder / "model", "--out", folder / "out"),
        *("--min-confidence", "1"),
    )
    assert infer.returncode == 0, infer.stderr
    assert "01-01-05-01-01-01-04.mp4: unsure (" in infer.stdout
    with av.open(str(folder / "out" / "01-01-05-01-01-01-04.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 16
        assert container.streams.audio
    assert {path.suffix for path in (folder / "out").iterdir()} == {
        *(".mp4", ".json", ".csv", ".vtt")
    }


def test_evaluate_takes_the_actors_the_model_has_not_seen(cache, model, call):
    answer = call("train", "evaluate", "--cache", cache, "--model", model)
    assert answer.returncode == 0, answer.stderr
    judged = json.loads((model / "report-cache-actors-4" / "metrics.json").read_text())
    first = json.loads((model / "report" / "metrics.json").read_text())
    assert judged["actors"] == [4] and judged["fused"] == first["fused"]


def test_evaluate_on_actors_the_model_has_seen_is_no_test(cache, model, call):
    seen = call("train", "evaluate", "--cache", cache, "--model", model, "--actors", "3-4")
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
def test_help_states_every_default(words, call):
    answer = call(*words, "--help")
    assert answer.returncode == 0
    assert "--help" in answer.stdout and "default" in answer.stdout


def test_missing_raw_cache_and_model(tmp_path, raw, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_one_line(call("train", "fit"), "data/cache", "make features")
    assert_one_line(call("train", "evaluate"), "data/cache", "make features")
    video = next(raw.rglob("*.mp4"))
    assert_one_line(call("infer", video), "data/model", "make train")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "html", "text track"])
def test_what_is_no_video(tmp_path, kind, call, monkeypatch):
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
    monkeypatch.chdir(tmp_path)
    assert_one_line(call("infer", path), "x.mp4", "expected")
    assert not (tmp_path / "data").exists()


def test_wrong_options(tmp_path, cache, call):
    places = ("--cache", cache, "--model", tmp_path / "model")
    fit = ("train", "fit", *places)
    assert_one_line(call(*fit, "--test-actors", "9"), "test actors out of 1-4")
    assert_one_line(call(*fit, "--test-actors", "x"), "expected actors such as")
    assert_one_line(call(*fit, "--audio-epochs", "0"), "audio epochs of at least 1")
    assert_one_line(call(*fit, "--refit-epochs", "-1"), "refit epochs of at least 0")
    assert_one_line(call("train", "study", "leak", *places, "--folds", "7"), " folds, got 7")
    ablation = call("train", "study", "ablation", *places)
    assert_one_line(ablation, "each recipe", "0 published, 0 default")
    assert_one_line(call("infer", "x.mp4", "--min-confidence", "2"), "0 to 1, got 2.0")
    assert not (tmp_path / "model").exists()


def test_a_mistake_is_one_line_of_a_process_too(tmp_path):
    """What TensorFlow's import prints is none of it."""
    answer = command("train", "fit", "--cache", tmp_path / "none")
    assert_one_line(answer, "make features")


def test_a_cache_of_another_recipe_is_refused(model, raw, tmp_path, call):
    other = tmp_path / "cache"
    made = call(
        *("pipeline", "features", "--raw", raw, "--cache", other, "--jobs", 1),
        *("--recipe", "published", "--variants", 0),
    )
    assert made.returncode == 0, made.stderr
    answer = call("train", "evaluate", "--cache", other, "--model", model)
    assert_one_line(answer, "expected a cache of the model's spec")


def test_the_output_may_not_be_the_input(model, tmp_path, call):
    video = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    before = video.read_bytes()
    answer = call("infer", video, "--model", model, "--out", tmp_path)
    assert_one_line(answer, "expected another output")
    assert video.read_bytes() == before


def test_a_sound_file_without_sound_is_refused(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = write_video(tmp_path / "a.mp4")
    assert_one_line(call("infer", silent, "--audio", silent), "no audio stream")
    wav = write_wav(tmp_path / "b.wav", tone(1.0))
    wav.write_bytes(b"")
    assert_one_line(call("infer", silent, "--audio", wav), "0 bytes")


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


@pytest.fixture
def make(tmp_path):
    """Run a target; gives the words of each command that it would have run."""
    folder = tmp_path / "project"
    python = folder / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    for name in ("pipeline", "train", "infer"):
        (folder / name).mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("requirements.txt", "requirements.lock", ".venv/.ready"):
        (folder / name).touch()
    script = "import json, sys; print(json.dumps(sys.argv[2:]), file=open('said', 'a'))"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$@"\n')
    python.chmod(0o755)

    def run(*words, **environment):
        said = folder / "said"
        said.unlink(missing_ok=True)
        answer = subprocess.run(
            ["make", "-C", folder, "--no-print-directory", *words],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return [json.loads(line) for line in said.read_text().splitlines()] if said.exists() else []

    run.folder = folder
    return run


def value_of(words, option):
    return words[words.index(option) + 1]


@pytest.mark.parametrize("odd", ["a b", 'a"b', "it's", "a$b", "(a$|b)", "a;b", "`a`", "a\\b"])
def test_make_passes_on_what_was_typed(make, odd):
    (said,) = make("features", f"RAW={odd}", f"CACHE={odd}", f"SPEAKER={odd}", f"LABELS={odd}")
    assert said[:2] == ["pipeline", "features"]
    assert all(value_of(said, f"--{name}") == odd for name in ("raw", "cache", "speaker", "labels"))
    (make.folder / odd).touch()
    (said,) = make("infer", f"VIDEO={odd}", f"MODEL={odd}")
    assert said[:3] == ["infer", odd, "--model"] and said[3] == odd
    (said,) = make("report", f"OUT={odd}")
    assert said == ["train", "report", "--out", odd]


def test_make_divides_several_names_by_spaces(make):
    (said,) = make("infer", "VIDEO=a.mp4 b$c.mp4 folder/")
    assert said[:4] == ["infer", "a.mp4", "b$c.mp4", "folder/"]
    targets = ("train", "evaluate", "crossval")
    for target in targets:
        (said,) = make(target, "CACHE=one two")
        assert said[2:6] == ["--cache", "one", "two", "--model"]
    (make.folder / "one two").mkdir()
    for target in targets:
        (said,) = make(target, "CACHE=one two")
        assert said[2:5] == ["--cache", "one two", "--model"]


def test_make_clean_removes_what_the_demo_made_and_nothing_else(make, tmp_path):
    home, demo = tmp_path / "home", tmp_path / "my demo"
    for folder in (home, demo, tmp_path / "my"):
        (folder / "raw").mkdir(parents=True)
    (demo / "own.txt").touch()
    make("clean", DEMO=str(home))
    assert not (make.folder / ".venv").exists() and (home / "raw").exists()
    make("clean", f"DEMO={demo}")
    assert [path.name for path in demo.iterdir()] == ["own.txt"] and (tmp_path / "my/raw").exists()
    make("clean", f"DEMO={home}")
    assert not home.exists()


def test_make_demo_goes_to_a_folder_with_a_space(make):
    demo = make.folder / "my demo"
    demo.mkdir()
    sample, *_, infer = make("demo", f"DEMO={demo}")
    assert value_of(sample, "--out") == f"{demo}/raw" and value_of(infer, "--out") == f"{demo}/out"
    assert (demo / ".made").exists() and not make("demo", f"DEMO={demo}")
