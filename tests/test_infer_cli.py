"""The command line of inference: several files, bad ones, where results go, Ctrl-C."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import TINY, tone, write_model, write_video, write_wav

from infer.__main__ import infer, parser
from pipeline.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TINY, corpus="drawn faces")
    return folder


def call(*words):
    return infer(parser().parse_args(list(map(str, words))))


def test_several_files_and_a_bad_one(model, tmp_path, capsys):
    inside = tmp_path / "folder" / "deeper"
    write_wav(inside / "c.wav", tone(1.2))
    write_wav(inside / "d.WAV", tone(1.2))
    (inside / "notes.txt").write_text("no recording")
    first = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"<html></html>")
    same = write_wav(tmp_path / "other" / "a.wav", tone(1.2))
    out = tmp_path / "out"
    code = call(
        *(first, bad, same, tmp_path / "folder", "--model", model, "--out", out),
        *("--no-video", "--formats", "json"),
    )
    said = capsys.readouterr()
    assert code == 1 and "1 of 5 failed" in said.out and "bad.mp4" in said.out
    assert "a web page" in said.err
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == {"a.json", "a-2.json", "deeper/c.json", "deeper/d.json", "summary.csv"}
    rows = list(csv.DictReader((out / "summary.csv").open()))
    assert [bool(row["error"]) for row in rows] == [False, True, False, False, False]
    assert rows[0]["emotion"] == json.loads((out / "a.json").read_text())["emotion"]
    assert all("drawn faces only" in row["notes"] for row in rows if not row["error"])


def test_no_recording_is_replaced_by_the_output_of_another(model, tmp_path, capsys):
    first = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    shutil.copy(first, tmp_path / "a.mkv")
    shutil.copy(first, tmp_path / "summary.mp4")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert call(tmp_path, "--model", model, "--out", tmp_path, "--formats", "csv") == 1
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())
    assert "a.mkv than the input" in capsys.readouterr().err
    assert len(list(csv.DictReader((tmp_path / "summary.csv").open()))) == 3
    # Nor is what an earlier run left below the folder taken for recordings.
    for _ in range(2):
        call(tmp_path, "--model", model, "--out", tmp_path / "out", "--formats", "csv")
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").open()))
    assert len(rows) == 5 and not any("out" in Path(row["file"]).parts for row in rows)
    assert (tmp_path / "summary-2.csv").is_file()


def test_names_that_are_no_text(model, tmp_path):
    """Dollar signs mean formulas to Matplotlib; a byte that is not UTF-8 is a name on Linux.

    A name of as many bytes as there may be leaves none for a longer suffix.
    """
    names = (b"cost $5_{ $.wav", b"caf\xe9.wav", 80 * b"\xe6\x97\xa5" + b".wav")
    paths = [tmp_path / os.fsdecode(name) for name in names]
    for path in paths:
        write_wav(tmp_path / "a.wav", tone(1.2)).rename(path)
    words = ("-m", "infer", *paths, "--model", model, "--out", tmp_path / "out", "--no-video")
    done = subprocess.run(
        [sys.executable, *words, "--formats", "all"],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 3 * 7 + 1
    assert "caf\\xe9.wav" in (tmp_path / "out" / "summary.csv").read_text(encoding="utf-8")


def test_one_file_in_every_way(model, tmp_path, capsys):
    path = write_video(tmp_path / "x.mp4", 2.6, sound=tone(2.6))
    for kind, suffix in (("--no-video", None), ("--overlay", ".mkv"), (None, ".mp4")):
        out = tmp_path / f"out{suffix}"
        code = call(path, "--model", model, "--out", out, *([kind] if kind else []))
        said = capsys.readouterr().out
        assert code == 0 and "x.mp4: " in said and "drawn faces only" in said
        made = {file.suffix for file in out.iterdir()}
        assert made == {".json", ".csv", ".vtt"} | ({suffix} if suffix else set())
    voice = write_wav(tmp_path / "v.wav", tone(1.2))
    assert call(voice, "--model", model, "--out", tmp_path / "v", "--overlay") == 0
    assert "no video to lay labels over" in capsys.readouterr().out
    assert not (tmp_path / "v" / "v.mkv").exists()


def test_labels_are_laid_over_a_video_with_the_sound_of_another_file(model, tmp_path):
    path = write_video(tmp_path / "x.mp4", 2.6)
    sound = write_wav(tmp_path / "y.wav", tone(2.6))
    words = (path, "--audio", sound, "--overlay", "--model", model, "--out", tmp_path / "out")
    assert call(*words) == 0
    with av.open(tmp_path / "out" / "x.mkv") as made:
        assert [stream.type for stream in made.streams] == ["video", "audio", "subtitle"]
        heard = np.concatenate([f.to_ndarray().ravel() for f in made.decode(audio=0)])
        assert heard[:500] == pytest.approx(tone(2.6)[:500] * 32768, abs=2)


def test_what_is_refused_before_anything_is_written(model, tmp_path):
    path = write_video(tmp_path / "x.mp4", sound=tone(1.6))
    empty = tmp_path / "empty"
    empty.mkdir()
    out = ("--model", model, "--out", tmp_path / "out")
    for words, said in (
        ((empty,), "recordings in"),
        ((path, path, "--audio", path), "one recording"),
        ((path, "--min-confidence", 2), "0 to 1, got 2.0"),
        ((path, "--smooth", -1), "of smoothing"),
        ((tmp_path / "none.mp4",), "got nothing"),
    ):
        with pytest.raises(InputError, match=said):
            call(*words, *out)
    with pytest.raises(InputError, match="another output"):
        call(path, "--model", model, "--out", tmp_path)
    with pytest.raises(InputError, match="make demo"):
        call(path, "--model", empty, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_control_c_leaves_whole_files(model, tmp_path):
    """Two minutes of frames, of which some are done."""
    path = write_video(tmp_path / "x.mp4", 120.0, sound=tone(120.0))
    words = [sys.executable, "-m", "infer", path, "--model", model, "--out", tmp_path / "out"]
    started = subprocess.Popen(
        list(map(str, words)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".x.mp4*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(started.pid, signal.SIGINT)
    said, errors = started.communicate(timeout=60)
    assert started.returncode == 130, errors
    assert "stopped at" in said and "Traceback" not in errors
    with av.open(str(tmp_path / "out" / "x.mp4")) as made:
        frames = sum(1 for _ in made.decode(video=0))
    content = json.loads((tmp_path / "out" / "x.json").read_text())
    assert 0 < frames < 1200 and any("stopped at" in note for note in content["notes"])
    assert {file.suffix for file in (tmp_path / "out").iterdir()} == {
        *(".mp4", ".json", ".csv", ".vtt")
    }
