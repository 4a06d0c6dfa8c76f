import os
import socket
import subprocess
import sys

import pytest

from pipeline import atomic
from pipeline.cache import build


@pytest.fixture
def dead():
    """Number of a process that has ended."""
    return int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))


def partial(name, place, pid):
    return f"{name}.{place}-{pid}-0123abcd.partial"


@pytest.mark.parametrize("host", [socket.gethostname(), "node-7.cluster.example"])
@pytest.mark.parametrize(
    "name", ["actor-01-0123456789.h5", "actor-01-0123456789.3.json", "index.json", "progress"]
)
def test_leftovers_of_dead_processes_of_this_host_are_found(
    tmp_path, dead, name, host, monkeypatch
):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    place = atomic.own_place()
    left = partial(name, place, dead)
    kept = [partial(name, place, os.getpid()), partial(name, f"x{place}", dead), "notes.partial"]
    for file in (left, *kept):
        (tmp_path / file).touch()
    assert [path.name for path in atomic.dead_leftovers(tmp_path)] == [left]
    build.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_containers_of_one_host_name_leave_each_others_files_alone(tmp_path, dead, monkeypatch):
    """A number that means no process here may be one that runs in the other."""
    readlink, namespaces = os.readlink, iter(["pid:[1]", "pid:[2]", "pid:[1]"])
    monkeypatch.setattr(os, "getpid", lambda: dead)
    monkeypatch.setattr(
        os, "readlink", lambda path: next(namespaces) if "ns" in str(path) else readlink(path)
    )
    path = tmp_path / f"index.json.{atomic.own_mark()}.partial"
    path.touch()
    assert atomic.dead_leftovers(tmp_path) == []
    assert atomic.dead_leftovers(tmp_path) == [path]


def test_folders_of_killed_runs_are_found(tmp_path, dead):
    (tmp_path / f"results.{atomic.own_place()}-{dead}-0123abcdk3_x4h5g.partial").mkdir()
    build.remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_under_a_name_is_the_old_file_or_the_whole_new_one(tmp_path):
    path = tmp_path / "index.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic.replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    atomic.write_durably(path, b"new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_a_refusal_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, atomic.replacing(tmp_path / "a.h5"):
        raise OSError(28, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
