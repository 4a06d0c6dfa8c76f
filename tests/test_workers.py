import functools
import os
import signal
import time

import pytest

from pipeline import workers
from pipeline.errors import InputError


def attempts_of(folder, number):
    return len(list(folder.glob(f"{number}-*")))


def work(item, folder):
    """What the tests' items do to their worker; each attempt leaves a file."""
    name, number = item
    attempts = attempts_of(folder, number)
    (folder / f"{number}-{attempts}").write_text(str(os.getpid()))
    if name == "die" or (name == "die once" and not attempts):
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if name == "hang":
        time.sleep(600)
    if name == "memory":
        raise MemoryError
    if name == "bug":
        while not attempts_of(folder, 1):
            time.sleep(0.01)
        raise ZeroDivisionError
    return number, os.getpid(), bytes(3_000_000)


def outcomes(names, folder, jobs=2, limit_seconds=0.0):
    items = [(name, number) for number, name in enumerate(names)]
    results = workers.in_order(functools.partial(work, folder=folder), items, jobs, limit_seconds)
    return [result.reason if isinstance(result, workers.Lost) else result[0] for result in results]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_killed_worker_costs_its_item_one_retry(jobs, tmp_path):
    names = ["", "die once", "", "die", "", "crash", "", "memory", ""]
    answers = outcomes(names, tmp_path, jobs)
    assert answers[::2] == [0, 2, 4, 6, 8] and answers[1] == 1
    assert answers[3].startswith("expected a worker to survive this clip, got SIGKILL twice; is me")
    assert "SIGSEGV twice; is the file damaged?" in answers[5]
    assert "MemoryError twice" in answers[7]
    assert [attempts_of(tmp_path, number) for number in (1, 3, 5, 7)] == [2, 2, 2, 2]


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_item_over_its_time_is_ended_from_outside(jobs, tmp_path):
    answers = outcomes(["", "", "hang", "", ""], tmp_path, jobs, limit_seconds=2.0)
    assert answers[:2] + answers[3:] == [0, 1, 3, 4]
    assert answers[2].startswith("expected an end within 2 s, got none")
    assert attempts_of(tmp_path, 2) == 1


def test_what_runs_ahead_of_the_reader_is_bounded(tmp_path):
    results = workers.in_order(
        functools.partial(work, folder=tmp_path), [("", n) for n in range(200)], 2
    )
    next(results)
    before = -1
    while (begun := len(list(tmp_path.iterdir()))) != before:
        before = begun
        time.sleep(1.0)
    assert begun <= 1 + 2 * workers.AHEAD
    assert [result[0] for result in results] == list(range(1, 200))


def test_a_worker_that_dies_while_idle_is_replaced(tmp_path):
    run = functools.partial(work, folder=tmp_path)
    pids = {pid for _, pid, _ in workers.in_order(run, [("", n) for n in range(8)], 2)}
    assert len(workers.idle) >= 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert [n for n, _, _ in workers.in_order(run, [("", n) for n in range(8)], 2)] == list(
        range(8)
    )


def test_a_reader_that_takes_the_last_result_leaves_the_workers_to_the_next_run(tmp_path):
    said = []
    for run in ("first", "second"):
        folder = tmp_path / run
        folder.mkdir()
        results = workers.in_order(functools.partial(work, folder=folder), [("fine", 0)], 1)
        next(results)
        results.close()
        said.append((folder / "0-0").read_text())
    assert said[0] == said[1]


def test_a_bug_is_not_hidden_and_ends_the_workers(tmp_path):
    with pytest.raises(ZeroDivisionError):
        outcomes(["bug", "hang"], tmp_path)
    pids = {int(path.read_text()) for path in tmp_path.iterdir()}
    assert len(pids) == 2 and not any(map(is_alive, pids))


def test_workers_that_cannot_start_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "idle", [])
    monkeypatch.setattr(workers, "settle_in", die)
    with pytest.raises(InputError, match="expected a worker process to start, got SIGKILL"):
        outcomes([""] * 4, tmp_path, 1)


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
