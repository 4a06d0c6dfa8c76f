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


def partial(name, host, pid):
    return f"{name}.{host}-{pid}-0123abcd.partial"


@pytest.mark.parametrize("host", [socket.gethostname(), "node-7.cluster.example"])
@pytest.mark.parametrize(
    "name", ["actor-01-0123456789.h5", "actor-01-0123456789.3.json", "index.json", "progress"]
)
def test_leftovers_of_dead_processes_of_this_host_are_found(
    tmp_path, dead, name, host, monkeypatch
):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    left = partial(name, host, dead)
    kept = [partial(name, host, os.getpid()), partial(name, f"x{host}", dead), "notes.partial"]
    for file in (left, *kept):
        (tmp_path / file).touch()
    assert [path.name for path in atomic.dead_leftovers(tmp_path)] == [left]
    build.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_folders_of_killed_runs_are_found(tmp_path, dead):
    (tmp_path / f"results.{socket.gethostname()}-{dead}-0123abcdk3_x4h5g.partial").mkdir()
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
