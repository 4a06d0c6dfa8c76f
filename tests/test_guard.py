"""Work in child processes that die, hang, lie or never start."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import numpy as np
import pytest

from pipeline import guard
from pipeline.errors import InputError
from pipeline.guard import Failure

CHILDREN = Path(__file__).parent / "children"
ROOT = Path(__file__).parents[1]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc or prctl")


@pytest.fixture(autouse=True)
def children(monkeypatch):
    """Children find the tests' modules; none of this thread's is left behind."""
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    guard.forget_child()
    yield
    guard.forget_child()


def ask(name, *arguments, **options):
    return guard.call(f"misbehaviour:{name}", *arguments, **options)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def child_states():
    """State letters of this process' children: Z is one that nobody waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rsplit(")", 1)[1].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found.append(state)
    return found


def test_an_answer_comes_back_from_one_child():
    rows = np.arange(60_000, dtype=np.float32).reshape(100, 600)
    np.testing.assert_array_equal(ask("echo", rows), rows)
    assert ask("pid") == ask("pid") != os.getpid()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_death_costs_one_retry_and_names_the_signal(number):
    lost = ask("die", number)
    assert lost.reason.startswith(f"expected a process to survive this, got {number.name} twice; ")
    assert lost.transient == (number == signal.SIGKILL)
    assert ("memory short" in lost.reason) == lost.transient
    assert ask("echo", 1) == 1


def test_a_child_that_dies_once_is_forgiven(tmp_path):
    assert ask("die_once", tmp_path / "note") == "alive"


@ON_LINUX
def test_a_signal_without_a_name_is_a_number():
    lost = ask("die", signal.SIGRTMIN + 3)
    assert f"exit code {-signal.SIGRTMIN - 3} twice" in lost.reason


def test_leaving_is_dying():
    assert "exit code 3 twice" in ask("leave", 3).reason


@pytest.mark.parametrize("hang", ["hang_in_c", "sleep"])
def test_a_hang_is_ended_in_time(hang, tmp_path):
    ask("echo", 1)
    note = tmp_path / "pid"
    before = time.monotonic()
    arguments = [600, note] if hang == "sleep" else [note]
    lost = ask(hang, *arguments, limit_seconds=0.5)
    assert time.monotonic() - before < 60
    assert lost == Failure(
        "expected an end within 0.5 s, got none; if the file is sound, raise --clip-timeout", True
    )
    assert not is_running(int(note.read_text()))
    assert ask("echo", 1) == 1


def test_the_limit_does_not_count_the_import():
    before = time.monotonic()
    assert guard.call("slow_import:echo", 7, limit_seconds=0.5) == 7
    assert time.monotonic() - before > 1.5


def test_a_limit_beyond_every_clock_is_none():
    assert ask("echo", 1, limit_seconds=1e300) == 1


def test_a_stopped_child_is_given_up(tmp_path):
    pid = ask("pid")
    os.kill(pid, signal.SIGSTOP)
    assert "within 0.3 s" in ask("echo", 1, limit_seconds=0.3).reason
    assert not is_running(pid)


def test_an_exception_is_one_line_with_its_place():
    lost = ask("fail", "two\nlines")
    assert "got ZeroDivisionError: two lines at misbehaviour.py:" in lost.reason
    assert not lost.transient and "\n" not in lost.reason
    assert "Mute" in ask("fail_without_words").reason


def test_a_function_or_argument_that_is_not_there_is_named():
    assert "AttributeError" in ask("nothing_of_this_name").reason
    assert "while it is read" in guard.call("misbehaviour:echo", poisoned()).reason


def poisoned():
    sys.path.insert(0, str(CHILDREN))
    try:
        import misbehaviour
    finally:
        sys.path.remove(str(CHILDREN))
    return misbehaviour.Poisoned()


@pytest.mark.parametrize("name", ["unpicklable", "poisoned"])
def test_an_answer_that_cannot_travel_leaves_the_child_alive(name, monkeypatch):
    monkeypatch.syspath_prepend(str(CHILDREN))
    before = ask("pid")
    lost = ask(name)
    assert isinstance(lost, Failure) and "bug of the pipeline" in lost.reason and not lost.transient
    assert ask("pid") == before


def test_memory_that_runs_out_twice_may_be_there_another_time():
    before = ask("pid")
    lost = ask("run_out_of_memory")
    assert "MemoryError twice; is memory short?" in lost.reason and lost.transient
    assert ask("pid") != before


def test_what_is_printed_does_not_get_among_the_answers(capfd):
    assert ask("talk") == ""
    said = capfd.readouterr()
    assert not said.out
    for text in ("from Python", "from C", "to the descriptor"):
        assert text in said.err


def test_an_answer_of_50_megabytes():
    assert len(ask("big", 50_000_000)) == 50_000_000
    assert len(ask("echo", bytes(20_000_000))) == 20_000_000


def test_an_interrupt_while_the_answer_is_under_way_mixes_no_answers(monkeypatch):
    ask("echo", 1)

    def interrupted(pipe):
        os.read(pipe.fileno(), 10)
        raise KeyboardInterrupt

    monkeypatch.setattr(guard.Connection, "recv_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask("big", 1_000_000)
    monkeypatch.undo()
    monkeypatch.setenv("PYTHONPATH", str(CHILDREN))
    assert ask("echo", "the next one") == "the next one"


def test_an_interrupt_while_a_child_starts_mixes_no_answers(monkeypatch):
    def interrupted(pipe, _):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(guard.Connection, "poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask("echo", 1)
    assert ask("echo", "the next one") == "the next one"


def test_a_child_murdered_while_idle_costs_nothing():
    pid = ask("pid")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    assert ask("pid") != pid


def test_an_idle_child_ends_itself(capfd):
    pid = guard.call("short_idle:pid")
    wait_until(lambda: not is_running(pid))
    assert guard.call("short_idle:pid") != pid
    assert capfd.readouterr().err == ""


def test_an_import_that_fails_says_so_at_once():
    with pytest.raises(InputError) as caught:
        guard.call("broken_import:echo", 1)
    assert str(caught.value) == (
        "expected a child process that imports broken_import, got ImportError: libGL.so.1: cannot "
        "open shared object file no such file; is everything installed? 'make setup' does it"
    )


def test_a_child_that_cannot_start_says_how_it_ended(monkeypatch):
    monkeypatch.setattr(guard.sys, "executable", "/bin/false")
    with pytest.raises(InputError, match="got exit code 1 in 3 attempts"):
        ask("echo", 1)
    monkeypatch.setattr(guard.sys, "executable", "/nowhere/python")
    with pytest.raises(InputError, match="got No such file or directory in 3 attempts"):
        ask("echo", 1)


@ON_LINUX
def test_nothing_accumulates_over_many_calls_and_deaths():
    ask("echo", 1)
    before = descriptors()
    for number in range(2_000):
        assert ask("echo", number) == number
    for _ in range(40):
        os.kill(ask("pid"), signal.SIGKILL)
    ask("echo", 1)
    assert descriptors() == before
    assert child_states().count("Z") == 0


@ON_LINUX
@pytest.mark.slow
def test_nothing_accumulates_over_hundreds_of_lost_clips():
    ask("echo", 1)
    before = descriptors()
    for _ in range(150):
        assert isinstance(ask("die"), Failure)
        assert isinstance(ask("hang_in_c", limit_seconds=0.05), Failure)
    ask("echo", 1)
    assert descriptors() == before
    assert child_states().count("Z") == 0


@ON_LINUX
def test_the_end_of_a_thread_ends_its_child():
    before = descriptors()
    pids = joblib.Parallel(3, backend="threading", batch_size=1)(
        joblib.delayed(guard.call)("misbehaviour:pid") for _ in range(6)
    )
    assert os.getpid() not in pids
    wait_until(lambda: not any(map(is_running, pids)))
    wait_until(lambda: descriptors() <= before)
    assert child_states().count("Z") == 0


def test_threads_have_children_of_their_own():
    pids = {}
    threads = [
        threading.Thread(target=lambda n=n: pids.update({n: (ask("sleep", 0.2), ask("pid"))}))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({pid for _, pid in pids.values()}) == 3


@ON_LINUX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_takes_a_child_of_its_own():
    own = ask("pid")
    reader, writer = os.pipe()
    if not (fork := os.fork()):
        os.write(writer, str(ask("pid")).encode())
        os._exit(0)
    os.waitpid(fork, 0)
    other = int(os.read(reader, 100))
    os.close(reader), os.close(writer)
    assert ask("pid") == own != other
    wait_until(lambda: not is_running(other))


ORPHAN = """
import sys, threading
from pipeline import guard
if {in_thread}:
    thread = threading.Thread(target=guard.call, args={arguments})
    thread.start(), thread.join()
guard.call(*{arguments})
"""


@ON_LINUX
@pytest.mark.parametrize("name", ["hang_in_c", "sleep"])
@pytest.mark.parametrize("in_thread", [False, True])
def test_no_child_outlives_a_parent_that_vanished(name, in_thread, tmp_path):
    note = tmp_path / "pid"
    arguments = (f"misbehaviour:{name}", *([600] if name == "sleep" else []), str(note))
    code = ORPHAN.format(in_thread=in_thread, arguments=arguments)
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: note.exists() and note.read_text())
    pid = int(note.read_text())
    assert is_running(pid)
    parent.kill()
    _, errors = parent.communicate()
    wait_until(lambda: not is_running(pid), seconds=3)
    assert errors == ""


@ON_LINUX
@pytest.mark.parametrize("hang", [False, True])
def test_without_prctl_the_closed_pipe_or_the_backstop_ends_a_child(hang, tmp_path):
    note = tmp_path / "pid"
    hanging = f"guard.call('without_prctl:hang_in_c', {str(note)!r}, limit_seconds=0.5)"
    code = (
        "import os, threading, time; from pipeline import guard\n"
        "def main():\n"
        "    print(guard.call('without_prctl:pid'), flush=True)\n"
        f"    {hanging if hang else 'pass'}\n"
        "threading.Thread(target=main, daemon=True).start()\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = int(parent.stdout.readline())
    if hang:
        wait_until(note.exists)
    parent.kill()
    _, errors = parent.communicate(timeout=30)
    wait_until(lambda: not is_running(pid), seconds=5)
    assert ("Timeout" in errors) == hang
