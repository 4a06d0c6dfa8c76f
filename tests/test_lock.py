import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY, make, tally

from pipeline.cache import lock
from pipeline.errors import InputError

ROOT = Path(__file__).parents[1]
HOLD = "import sys, time; from pathlib import Path; from pipeline.cache import lock\n"
HOLD += "with lock.held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of a folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_run_says_who_holds_the_cache(holder, tmp_path):
    expected = rf"got process {holder.pid} on .* since 20.*--wait"
    with pytest.raises(InputError, match=expected), lock.held(tmp_path):
        pass
    with pytest.raises(InputError, match=expected), lock.held(tmp_path):
        pass


def test_the_lock_dies_with_its_holder(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    note = tmp_path / ".lock.holder"
    assert f"process {holder.pid} " in note.read_text()
    with lock.held(tmp_path):
        assert f"process {os.getpid()} " in note.read_text()
    assert not note.exists()


def test_a_run_may_wait_for_the_other(holder, tmp_path):
    threading.Timer(0.5, holder.kill).start()
    with lock.held(tmp_path, wait=True):
        assert holder.wait() == -signal.SIGKILL


def test_what_removes_may_wait_for_the_other(holder, tmp_path):
    with pytest.raises(InputError, match=f"got process {holder.pid} "), lock.all_held(tmp_path):
        pass
    threading.Timer(0.5, holder.kill).start()
    with lock.all_held(tmp_path, wait=True):
        assert holder.wait() == -signal.SIGKILL


def test_runs_for_other_actors_do_not_wait_for_each_other(holder, tmp_path):
    with lock.held(tmp_path, name="-1-12"), lock.held(tmp_path, name="-13-24"):
        assert holder.poll() is None
        with (
            pytest.raises(InputError, match=f"got process {os.getpid()} "),
            lock.held(tmp_path, name="-1-12"),
        ):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch, caplog, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock.held(tmp_path, wait=True), lock.all_held(tmp_path):
        (tmp_path / "actor-01.h5").touch()
    assert f"{tmp_path} is not locked: {os.strerror(number)}" in caplog.text


def test_another_refusal_of_the_disk_is_no_missing_lock(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), lock.held(tmp_path):
        pass


@pytest.mark.torture
def test_two_never_hold_it(tmp_path):
    """Threads that take and release it as fast as they can: flock tells open files apart."""
    inside, most, taken = [], [], []

    def take():
        own = len(taken)
        while len(taken) < own + 20:
            try:
                with lock.held(tmp_path):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.0001)
                    inside.pop()
                    taken.append(1)
            except InputError:
                pass

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(taken) >= 20
    tally("two at once: locks taken by one of 4", len(taken), sum(count == 1 for count in most))


def test_a_build_refuses_beside_another_and_touches_nothing(raw, tmp_path):
    folder = tmp_path / TINY.digest
    folder.mkdir()
    (folder / "actor-01.h5.partial").write_bytes(b"the other's")
    with lock.held(folder), pytest.raises(InputError, match="expected no other run"):
        make(raw, tmp_path)
    assert (folder / "actor-01.h5.partial").read_bytes() == b"the other's"
    assert not list(folder.glob("actor-*.json"))
