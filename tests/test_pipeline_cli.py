"""The pipeline's commands as a user types them: every exit code and every error line."""

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, make, shards_of, tone, write_cache, write_take, write_wav

from pipeline import __main__ as command_line
from pipeline import commands, console
from pipeline.cache import index
from pipeline.corpora import scan

ROOT = Path(__file__).parents[1]


@pytest.fixture
def cli(capsys, monkeypatch):
    """Runs a command in this process; gives exit code, lines of output and lines of errors."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, words)])
        code = command_line.main()
        out, errors = capsys.readouterr()
        shown = [line for line in errors.splitlines() if line and "it/s]" not in line]
        bars = ("features:", "hash:", "verify:")
        return code, out.splitlines(), [line for line in shown if not line.startswith(bars)]

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def tiny_spec(monkeypatch):
    """The commands make tiny features, whatever their options."""
    monkeypatch.setattr(commands, "spec_of", lambda _: TINY)


def assert_one_line(answer, *words):
    """A user's mistake: exit code 2, one line, nothing on standard output."""
    code, out, errors = answer
    assert code == 2 and not out and len(errors) == 1, answer
    assert errors[0].startswith("error: ")
    for word in words:
        assert word in errors[0]


def files(folder):
    """Every file with its content, and the folders."""
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if not path.name.startswith(".lock")
    }


# Straight on


def test_features_from_nothing_to_nothing_to_do(cli, own_raw, tmp_path, tiny_spec):
    words = ("features", "--raw", own_raw, "--cache", tmp_path / "cache", "--jobs", 1)
    code, out, errors = cli(*words)
    assert (code, errors) == (0, [])
    assert "16 clips, 32 rows" in out[0] and "16 clips extracted now" in out[0]
    code, out, errors = cli(*words)
    assert code == 0 and "0 clips extracted now" in out[0] and len(out) == 1


def test_list_prints_the_catalogue(cli, raw):
    code, out, _ = cli("list", "--raw", raw)
    assert code == 0 and len(out) == 8
    assert "16 clips of 4 actors: 16 with video and audio files; RAVDESS" in out[-1]


@pytest.mark.parametrize(
    "name", ["data", "features", "index", "verify", "prune", "list", "audit", "plan", "sample"]
)
def test_help_states_every_default(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.parser().parse_args([name, "--help"])
    said = capsys.readouterr().out
    assert "--help" in said and "default" in said


def test_bad_clips_are_listed_and_decide_the_exit_code(cli, own_raw, tmp_path, tiny_spec):
    (own_raw / "audios/Actor_01/03-01-03-01-01-01-01.wav").write_bytes(b"<html></html>")
    (own_raw / "videos/Actor_02/01-01-01-01-01-01-03.mp4").touch()
    words = ("features", "--raw", own_raw, "--cache", tmp_path / "cache", "--jobs", 1)
    code, out, errors = cli(*words)
    assert code == 1 and "15 clips" in out[0]
    assert any("left out: 01-03-01-01-01-01: expected" in line for line in errors)
    assert any("refused: " in line and "named actor 03" in line for line in errors)
    assert cli(*words, "--skip-bad")[0] == 0


# Another raw folder


def test_another_raw_folder_is_listed_and_removes_only_where_asked(
    cli, made, own_raw, tiny_spec, extracted
):
    for path in list(own_raw.rglob("*-0[134].*")):
        path.unlink()
    folder = made / TINY.digest
    before = {path: text for path, text in files(folder).items() if "actor-" in path.name}
    words = ("features", "--raw", own_raw, "--cache", made, "--jobs", 1)
    code, out, _ = cli(*words)
    assert code == 0 and "4 clips, 8 rows" in out[0] and not extracted
    assert "12 cached clips (01-01-01-01-01-01, " in out[1] and "nor in this index" in out[1]
    assert out[2].startswith("kept: 3 shards") and "REMOVE=1" in out[2]
    assert before.items() <= files(folder).items()
    gone = [f"removed: {shards_of(folder, actor)[0]}" for actor in (1, 3, 4)]
    code, out, _ = cli(*words, "--remove")
    assert code == 0 and [line for line in out if line.startswith("removed: actor-")] == gone
    assert out[-1].startswith("removed: 3 shards")
    assert sorted(path.name for path in folder.glob("*.h5")) == shards_of(folder, 2)
    assert index.find_cache(made).rows == 8 and not extracted


def test_actors_choose_and_index_joins(cli, raw, tmp_path, tiny_spec):
    words = ("features", "--raw", raw, "--cache", tmp_path, "--jobs", 1, "--actors")
    for actors, count in (("1-2", 8), ("3,4", 8)):
        code, out, _ = cli(*words, actors)
        assert code == 0 and f"{count} clips" in out[0] and "index' joins" in out[1]
    code, out, _ = cli("index", "--cache", tmp_path)
    assert code == 0 and "16 clips of actors 1-4, 32 rows" in out[0]
    assert_one_line(cli(*words, "9"), "expected clips of actors 9", "actors 1-4")
    assert_one_line(cli(*words, "1", "--remove"), "--remove without --actors")
    # More characters than a file's name may have.
    code, out, _ = cli(*words, ",".join(map(str, range(1, 400, 2))))
    assert code == 0 and "8 clips" in out[0]


def test_remove_with_one_of_two_corpora_is_refused(cli, made, own_raw, tiny_spec):
    """What the other corpus has in the cache would be deleted."""
    shutil.copytree(own_raw / "audios/Actor_02", own_raw / "other")
    for number, path in enumerate(sorted((own_raw / "other").iterdir())):
        path.rename(path.with_name(f"10{number + 10}_DFA_ANG_XX.wav"))
    before = files(made)
    words = ("features", "--raw", own_raw, "--cache", made, "--jobs", 1, "--remove", "--corpus")
    for own, other in (("crema_d", "ravdess"), ("ravdess", "crema_d")):
        assert_one_line(cli(*words, own), "--remove without --corpus", f"files of {other} too")
        assert files(made) == before
    shutil.rmtree(own_raw / "other")
    assert cli(*words, "ravdess")[0] == 0


def test_explain_does_nothing(cli, made, own_raw, tiny_spec):
    write_take(own_raw, "01-01-05-01-01-01-02", hertz=999)
    before = files(made)
    words = ("features", "--raw", own_raw, "--cache", made, "--explain")
    code, out, _ = cli(*words, "01-05-01-01-01-02")
    assert code == 0 and "had" in out[-1] and "bytes, now it has" in out[-1]
    assert_one_line(cli(*words, "nobody"), "expected a clip of", "'nobody'")
    assert files(made) == before


@pytest.mark.parametrize(
    ("option", "because"),
    [
        ("--check-content", "the content of audios/Actor_02/03-01-05-01-01-01-02.wav changed"),
        ("--retry-bad", "it could not be read, and is to be tried again"),
        ("--remove", "not cached yet"),
    ],
)
def test_explain_knows_what_the_other_options_change(
    cli, made, own_raw, tiny_spec, option, because
):
    path = own_raw / "audios/Actor_02/03-01-05-01-01-01-02.wav"
    if option == "--retry-bad":
        path.write_bytes(b"<html></html>")
        make(own_raw, made)
    elif option == "--remove":
        for neighbour in own_raw.rglob("*-03-01-01-01-02.*"):
            neighbour.unlink()
    else:
        stamp, text = path.stat().st_mtime_ns, path.read_bytes()
        path.write_bytes(text[:-1] + bytes([text[-1] ^ 1]))
        os.utime(path, ns=(stamp, stamp))
    words = ("features", "--raw", own_raw, "--cache", made, "--explain", "01-05-01-01-01-02")
    _, out, _ = cli(*words)
    assert not any("to be made in" in line for line in out)
    _, out, _ = cli(*words, option)
    assert "to be made in" in out[-1] and because in out[-1]


# What cannot be reached


def test_a_link_to_a_missing_disk_changes_nothing(cli, made, own_raw, tiny_spec):
    """The actor's shard stays, and so does the index: nobody knows what the disk held."""
    for kind in ("audios", "videos"):
        shutil.rmtree(own_raw / kind / "Actor_02")
        (own_raw / kind / "Actor_02").symlink_to("/mnt/not mounted/Actor_02")
    before = files(made)
    code, out, errors = cli("features", "--raw", own_raw, "--cache", made, "--jobs", 1)
    assert code == 1 and not out and files(made) == before
    assert len([line for line in errors if line.startswith("unreachable: ")]) == 2
    assert "audios/Actor_02" in errors[0] and "/mnt/not mounted" in errors[0]
    assert errors[-1].startswith(f"nothing changed in {made}")


def test_a_folder_that_cannot_be_read_changes_nothing(cli, made, own_raw, tiny_spec, monkeypatch):
    """As it is for anybody but root."""
    scandir = os.scandir

    def refuse(path="."):
        if str(path).endswith("videos/Actor_03"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(scan.os, "scandir", refuse)
    before = files(made)
    code, _, errors = cli("features", "--raw", own_raw, "--cache", made, "--jobs", 1)
    assert code == 1 and files(made) == before
    named = [line for line in errors if line.startswith("unreachable: ")]
    assert len(named) == 1 and "videos/Actor_03: Permission denied" in named[0]


def test_missing_raw(cli, tmp_path):
    words = ("--raw", tmp_path / "raw")
    for name in ("features", "list", "audit"):
        more = ("--out", tmp_path / "a.json") if name == "audit" else ()
        assert_one_line(cli(name, *words, *more), "expected a folder of raw clips", "make demo")
    assert not list(tmp_path.iterdir())


# Wrong options


@pytest.mark.parametrize("name", ["features", "verify", "index", "prune"])
def test_a_cache_that_is_a_file(cli, raw, tmp_path, name, tiny_spec):
    (tmp_path / "file").write_text("mine")
    words = ("--raw", raw, "--jobs", 1) if name == "features" else ()
    for cache in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_one_line(cli(name, "--cache", cache, *words), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"


def test_a_sample_corpus_below_a_file(cli, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert_one_line(
            cli("sample", "--out", out),
            f"expected a folder of recordings at {tmp_path / 'file'}, got a file; name another",
        )


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1_536, "1.50 KiB"),
        (48_633_072, "46.38 MiB"),
        (3 << 30, "3.00 GiB"),
    ],
)
def test_sizes_are_said_in_a_unit_that_suits_them(count, said):
    assert commands.size(count) == said


def test_one_clip_is_no_plural(cli, tmp_path, tiny_spec):
    write_take(tmp_path / "raw", "01-01-03-01-01-01-02")
    code, out, _ = cli("features", "--raw", tmp_path / "raw", "--cache", tmp_path, "--jobs", 1)
    assert code == 0 and ": 1 clip, 2 rows, " in out[0] and "; 1 clip extracted now" in out[0]


def test_what_is_set_aside_is_listed_by_the_command_that_is_named(cli, tmp_path, tiny_spec):
    raw = tmp_path / "it's mine"
    write_wav(raw / "happy/anna_01.wav", tone(1.0))
    write_wav(raw / "happy/02.wav", tone(1.0))
    words = ("--raw", raw, "--speaker", "/([a-z]+)_")
    code, out, _ = cli("features", *words, "--cache", tmp_path / "cache", "--jobs", 1)
    assert code == 0 and out[-1].startswith("set aside: 1 unreadable name; ")
    named = shlex.split(out[-1].partition("listed by: ")[2])
    assert named[:4] == ["python", "-m", "pipeline", "list"] and named[4:] == list(map(str, words))
    code, out, _ = cli(*named[3:])
    assert code == 0 and f"unreadable name: {raw}/happy/02.wav" in out[-1]


def test_a_report_below_a_file(cli, raw, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert_one_line(cli("audit", "--raw", raw, "--out", tmp_path / "file" / "x"), "file")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("features", "--jobs", "0"), "a number of jobs other than 0"),
        (("verify", "--jobs", "0"), "a number of jobs other than 0"),
        (("audit", "--jobs", "0"), "a number of jobs other than 0"),
        (("sample", "--out", "none", "--jobs", "0"), "a number of jobs other than 0"),
        (("sample", "--out", "none", "--actors", "25"), "1-24 actors"),
        (("features", "--window-seconds", "0"), "a window of 0.1 to 60 s, got 0.0"),
        (("features", "--window-seconds", "nan"), "a window of 0.1 to 60 s, got nan"),
        (("features", "--clip-timeout", "-1"), "a clip timeout of at least 0 s"),
        (("features", "--clip-timeout", "inf"), "a clip timeout of at least 0 s"),
        (("features", "--variants", "-1"), "0 to 30 variants"),
        (("features", "--scheduler", "tcp://127.0.0.1:1"), "BACKEND=dask or ray"),
        (("features", "--remove", "--channel", "song"), "without --actors and --channel"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_options(cli, raw, tmp_path, words, said, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ("--raw", raw) if words[0] not in ("sample", "verify") else ()
    assert_one_line(cli(*words, *more), said)
    assert not list(tmp_path.iterdir())


def test_a_cache_of_format_2_stays_and_says_what_to_do(cli, raw, tmp_path, tiny_spec):
    folder = tmp_path / TINY.digest
    folder.mkdir()
    (folder / "actor-01.h5").write_bytes(b"a shard of the version before")
    (folder / "index.json").write_text('{"format_version": 2}')
    code, _, errors = cli("verify", "--cache", tmp_path, "--jobs", 1)
    assert code == 1 and "expected cache format 3" in errors[0] and "got 2; remove" in errors[0]
    code, out, errors = cli("index", "--cache", tmp_path)
    assert code == 1 and not out and len(errors) == 1
    assert errors[0].startswith("passed over: ") and "make features" in errors[0]
    assert (folder / "actor-01.h5").exists()


def test_a_run_beside_another_is_one_line(cli, raw, tmp_path, tiny_spec):
    from pipeline.cache import lock

    write_cache(tmp_path / TINY.digest)
    with lock.held(tmp_path / TINY.digest):
        words = ("features", "--raw", raw, "--cache", tmp_path, "--jobs", 1)
        assert_one_line(cli(*words), "expected no other run", f"process {os.getpid()} ", "--wait")


# Signals, pipes, logs


def start(*words, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_closed_pipe_ends_quietly(raw):
    run = start("list", "--raw", raw)
    run.stdout.close()
    assert (run.wait(), run.stderr.read()) == (0, "")


def test_a_reader_that_leaves_in_the_middle_ends_the_command_quietly(monkeypatch, capfd):
    def command():
        raise BrokenPipeError(32, "Broken pipe")

    saved = os.dup(1)
    try:
        assert console.run(command) == 0
    finally:
        os.dup2(saved, 1)
        os.close(saved)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted: finished parts are kept"),
        (OSError(28, "No space left on device", "x.h5"), 2, "room at x.h5, got: No space left"),
        (OSError(5, "Input/output error"), 2, "error: expected a readable, writable place"),
    ],
)
def test_what_ends_a_command_is_one_line(error, code, said, capsys):
    def command():
        raise error

    assert console.run(command) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and said in lines[0]


def test_a_bug_is_not_hidden():
    def command():
        raise OSError(9, "Bad file descriptor")

    with pytest.raises(OSError):
        console.run(command)


def test_sigterm_leaves_in_order(capsys):
    before = signal.getsignal(signal.SIGTERM)

    def command():
        signal.raise_signal(signal.SIGTERM)

    try:
        assert console.run(command) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.startswith("terminated: finished parts are kept")


@pytest.mark.parametrize(("watched", "seconds"), [(True, 0.1), (False, console.LOG_SECONDS)])
def test_a_bar_in_a_log_file_is_printed_rarely(monkeypatch, watched, seconds):
    screen = io.StringIO()
    screen.isatty = lambda: watched
    monkeypatch.setattr("sys.stderr", screen)
    with console.bar(range(3)) as bar:
        assert bar.mininterval == seconds
        assert list(bar) == [0, 1, 2]
    assert "3/3" in screen.getvalue()


def test_verbose_says_why_a_clip_is_made_again(made, own_raw, caplog):
    write_take(own_raw, "01-01-05-01-01-01-02", hertz=999)
    with caplog.at_level("DEBUG", "pipeline"):
        make(own_raw, made)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "fresh clips: 15, shards to make: 1" in said
    assert "01-05-01-01-01-02 is extracted: " in said


WAITING = """
import multiprocessing, sys, time
from pipeline.console import run

def command():
    multiprocessing.Process(target=time.sleep, args=(600,)).start()
    raise KeyboardInterrupt

if __name__ == "__main__":
    sys.exit(run(command))
"""


def test_a_signal_leaves_no_process_that_is_waited_for(tmp_path):
    """As a worker that was just starting."""
    program = tmp_path / "waiting.py"
    program.write_text(WAITING)
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 130 and done.stderr.startswith("interrupted")
