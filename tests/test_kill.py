"""Runs killed at random moments: the next one finishes the job, to the byte."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import tally, write_take

from pipeline.cache import build
from pipeline.corpora import catalogue
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
    build.build(catalogue.scan(folder / "raw"), folder / "cache", SPEC, jobs=1, progress=False)
    return folder


def start(small, cache, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "features", "--raw", small / "raw", "--cache", cache]
        + ["--jobs", "2", "--window-seconds", "1", "--variants", "1", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def shard_states(folder):
    """Finished shards and when they were written: one made again is another file."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (folder.glob("*.h5") if folder.is_dir() else ())
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


def workers_of(parent):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (state := state_of(entry)) and state[1] == parent:
            try:
                command = Path(f"/proc/{entry}/cmdline").read_text()
            except OSError:
                continue
            if "popen_loky" in command:
                found.append(int(entry))
    return sorted(found)


def wait_until(condition, seconds=60):
    """Wait for something that comes in its own time; a test that hangs is of no use."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


KINDS = {
    "kill: parent, SIGKILL": signal.SIGKILL,
    "kill: worker, SIGKILL": None,
    "kill: parent, SIGTERM": signal.SIGTERM,
    "kill: all, Ctrl-C": signal.SIGINT,
}


def kill_at_random_moments(small, cache, kills, seed):
    """Kill runs in turn, from wherever the last one got to; count what was tried and survived."""
    whole, folder = contents(small / "cache" / SPEC.digest), cache / SPEC.digest
    whens, done = random.Random(seed), 0
    while done < kills:
        what, number = list(KINDS.items())[done % len(KINDS)]
        finished = shard_states(folder)
        run = start(small, cache)
        wait_for_a_moment(run, folder, len(finished), whens)
        workers = workers_of(run.pid)
        killed = run.poll() is None and bool(number or workers)
        if killed:
            if number is None:
                os.kill(whens.choice(workers), signal.SIGKILL)
            elif number == signal.SIGINT:
                os.killpg(run.pid, number)
            else:
                os.kill(run.pid, number)
        _, errors = run.communicate(timeout=600)
        if number is None:
            assert run.returncode == 0, errors
        else:
            # 1 or the bare signal: it came before the command was there to answer.
            assert run.returncode in {0, 1, -number, 128 + number}, errors
        wait_until(lambda: not any(is_running(pid) for pid in workers))  # noqa: B023
        assert finished.items() <= shard_states(folder).items(), "a finished shard was made again"
        if (folder / "index.json").is_file():
            assert contents(folder) == whole
            shutil.rmtree(cache)
        if killed:
            done += 1
            tally(what, 1, 1)
    _, errors = start(small, cache).communicate(timeout=600)
    assert contents(folder) == whole, errors


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
    kill_at_random_moments(small, tmp_path / "cache", kills=4, seed=0)


@pytest.mark.slow
def test_runs_killed_at_many_moments(small, tmp_path):
    kill_at_random_moments(small, tmp_path / "cache", kills=36, seed=1)
