"""Runs killed at random moments: the next one finishes the job, to the byte."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import hashes, make, tally, write_take

from pipeline.cache import facts, index
from pipeline.spec import FeatureSpec

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]
SPEC = FeatureSpec(window_seconds=1.0, variants=("pitch",))
ACTORS = 8


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Raw clips of eight actors, and the cache of an undisturbed run."""
    folder = tmp_path_factory.mktemp("small")
    for actor in range(1, ACTORS + 1):
        for emotion in (3, 5):
            name = f"01-01-{emotion:02d}-01-01-01-{actor:02d}"
            write_take(folder / "raw", name, seconds=1.2, hertz=100 * emotion + 7 * actor)
    make(folder / "raw", folder / "cache", SPEC)
    return folder


def start(small, cache):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "features", "--raw", small / "raw", "--cache", cache]
        + ["--jobs", "2", "--window-seconds", "1", "--variants", "1"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def result(folder):
    """What a run leaves: the shards' bytes, what the index means, and nothing half-written."""
    assert not list(folder.glob("*.partial"))
    return hashes(folder), index.read_index(folder).fingerprint


def shard_states(folder):
    """Complete shards and when they were written: one made again is another file."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (folder.glob("*.h5") if folder.is_dir() else ())
        if facts.manifest_path(folder, path.name).exists()
    }


def state_of(pid):
    """State letter and parent of a process; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def is_running(pid):
    state = state_of(pid)
    return state is not None and state[0] != "Z"


def descendants(parent, word=""):
    """Numbers of the processes below one whose command line has some word."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (state := state_of(entry)):
            children.setdefault(state[1], []).append(int(entry))
    found, waiting = [], [parent]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return sorted(pid for pid in found if word in command_line(pid))


def command_line(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def wait_until(condition, seconds=60):
    """Wait for something that comes in its own time; a test that hangs is of no use."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


KINDS = {
    "kill: run, SIGKILL": signal.SIGKILL,
    "kill: worker, SIGKILL": "popen_loky",
    "kill: run, SIGTERM": signal.SIGTERM,
    "kill: reader of media, SIGKILL": "guard.serve",
    "kill: all, Ctrl-C": signal.SIGINT,
}
"""Whom a signal goes to: the run, or a process below it with a word in its command line."""


def kill_at_random_moments(small, cache, kills, seed):
    """Kill runs in turn, from wherever the last one got to; count what was tried and survived."""
    whole, folder = result(small / "cache" / SPEC.digest), cache / SPEC.digest
    whens, done = random.Random(seed), 0
    while done < kills:
        what, whom = list(KINDS.items())[done % len(KINDS)]
        is_below = isinstance(whom, str)
        finished = shard_states(folder)
        run = start(small, cache)
        wait_for_a_moment(run, folder, len(finished), whens)
        below = descendants(run.pid)
        targets = descendants(run.pid, whom) if is_below else [run.pid]
        killed = run.poll() is None and bool(targets)
        if killed:
            kill(whens.choice(targets), whom)
        _, errors = run.communicate(timeout=600)
        if is_below:
            assert run.returncode == 0, errors
        else:
            # 1 or the bare signal: it came before the command was there to answer.
            assert run.returncode in {0, 1, -whom, 128 + whom}, errors
        wait_until(lambda: not any(is_running(pid) for pid in below))  # noqa: B023
        assert finished.items() <= shard_states(folder).items(), "a finished shard was made again"
        if (folder / "index.json").is_file():
            assert result(folder) == whole
            shutil.rmtree(cache)
        if killed:
            done += 1
            tally(what, 1, 1)
    _, errors = start(small, cache).communicate(timeout=600)
    assert result(folder) == whole, errors


def kill(pid, whom):
    """Send a signal; a process that is gone already needs none."""
    try:
        if whom == signal.SIGINT:
            os.killpg(pid, whom)
        else:
            os.kill(pid, signal.SIGKILL if isinstance(whom, str) else whom)
    except ProcessLookupError:
        pass


def wait_for_a_moment(run, folder, finished, whens):
    """Wait for any moment: of the start, or of the seconds in which shard follows shard."""
    if whens.random() < 0.2:
        time.sleep(whens.uniform(0.1, 3.0))
        return
    wanted = finished + whens.randrange(4)
    while run.poll() is None and len(shard_states(folder)) < wanted:
        time.sleep(0.01)
    time.sleep(whens.uniform(0.0, 0.3))


def test_runs_killed_at_some_moments(small, tmp_path):
    kill_at_random_moments(small, tmp_path / "cache", kills=3, seed=0)


@pytest.mark.slow
def test_runs_killed_at_many_moments(small, tmp_path):
    kill_at_random_moments(small, tmp_path / "cache", kills=47, seed=1)
