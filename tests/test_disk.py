"""A disk that refuses: by a limit of file size, by a small file system, and by shims."""

import errno
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import tally

from pipeline import atomic
from pipeline.cache import build, index, shards
from pipeline.corpora import catalogue
from pipeline.errors import STORAGE_ERRNOS

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]


def make(raw, cache, spec):
    return build.build(catalogue.scan(raw), cache, spec, jobs=1, progress=False)


def contents(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.suffix == ".h5"
    }


@pytest.fixture
def half(cache, spec, tmp_path):
    """A cache in which three of four shards are finished."""
    shutil.copytree(cache, tmp_path / "cache")
    for name in ("actor-04.h5", "index.json"):
        (tmp_path / "cache" / spec.digest / name).unlink()
    return tmp_path / "cache"


def assert_refused_then_finished(raw, half, cache, spec, number, relieve, what):
    """One error that names a file; finished shards untouched; the next run completes them all."""
    folder, whole = half / spec.digest, contents(cache / spec.digest)
    try:
        with pytest.raises(OSError) as caught:
            make(raw, half, spec)
        assert caught.value.errno == number and number in STORAGE_ERRNOS
        assert str(half) in str(caught.value.filename) and "\n" not in str(caught.value)
        left = contents(folder)
        assert whole.keys() - left.keys() <= {"actor-04.h5"}
        assert all(whole[name] == content for name, content in left.items())
        assert not list(folder.glob("*.partial*")) and not (folder / "index.json").exists()
    finally:
        relieve()
    assert make(raw, half, spec).index.rows == 32
    assert contents(folder) == whole
    assert {path.name for path in folder.iterdir()} == {*whole, "index.json"}
    tally(f"disk: {what}", 1, 1)


@pytest.mark.parametrize("limit_bytes", [100, 5_000, 700_000, 3_000_000, -6_000, -1])
def test_a_file_that_cannot_grow(raw, half, cache, spec, limit_bytes):
    """Real failed writes, from the first byte to the last."""
    limit_bytes %= (cache / spec.digest / "actor-04.h5").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    assert_refused_then_finished(
        raw,
        half,
        cache,
        spec,
        errno.EFBIG,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
        "file too large (EFBIG)",
    )


@pytest.fixture
def small_disk(half, tmp_path):
    """A file system of 40 MB that holds the half-finished cache."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a file system")
    shutil.copytree(half, place / "cache")
    yield place / "cache"
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("free_bytes", [100_000, 2_000_000, 6_000_000])
def test_a_full_disk(raw, small_disk, cache, spec, monkeypatch, free_bytes):
    monkeypatch.setattr(build, "refuse_small_disk", lambda *_: None)
    filler = small_disk / "filler"
    with filler.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(small_disk).free - free_bytes)
    assert_refused_then_finished(
        raw, small_disk, cache, spec, errno.ENOSPC, filler.unlink, "full (ENOSPC)"
    )


def test_a_read_only_cache(raw, small_disk, cache, spec):
    def mount_again(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk.parent], check=True)

    mount_again("ro")
    assert_refused_then_finished(
        raw, small_disk, cache, spec, errno.EROFS, lambda: mount_again("rw"), "read-only (EROFS)"
    )
    mount_again("ro")
    try:
        assert make(raw, small_disk, spec).extracted == 0
    finally:
        mount_again("rw")


STEPS = ("create", *range(1, 47), "read back", "rename", "index")
SHORT = {(1, errno.EIO), (20, errno.ENOSPC), (46, errno.EIO), ("rename", errno.EIO)}
SHORT |= {("create", errno.ENOSPC), ("read back", errno.EIO), ("index", errno.ENOSPC)}


@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(step, number, marks=() if (step, number) in SHORT else pytest.mark.slow)
        for step in STEPS
        for number in (errno.ENOSPC, errno.EIO)
    ],
)
def test_a_refusal_at_every_step(raw, half, cache, spec, monkeypatch, step, number):
    """Numbers are writes of HDF5: rows, columns, its own structure, the length, the end."""

    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), str(half / "file"))

    remembering, calls = atomic.PatientFile.remembering, []

    def remember(file):
        calls.append(file)
        if len(calls) == step:
            file.refusal = OSError(number, os.strerror(number))
        return remembering(file)

    describe = shards.describe_shard
    if step == "create":
        monkeypatch.setattr(atomic.PatientFile, "__init__", refuse)
    elif step == "read back":
        monkeypatch.setattr(
            shards,
            "describe_shard",
            lambda path, spec: refuse() if path.suffix == ".partial" else describe(path, spec),
        )
    elif step == "rename":
        monkeypatch.setattr(shards.os, "replace", refuse)
    elif step == "index":
        monkeypatch.setattr(index.json, "dump", refuse)
    else:
        monkeypatch.setattr(atomic.PatientFile, "remembering", remember)
    assert_refused_then_finished(
        raw,
        half,
        cache,
        spec,
        number,
        monkeypatch.undo,
        "refusal at every write (ENOSPC, EIO)",
    )


def test_the_command_says_it_in_one_line(raw, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline", "features", "--raw", raw, "--cache", tmp_path]
        + ["--jobs", "1", "--window-seconds", "1", "--variants", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)),
    )
    assert answer.returncode == 2, answer.stderr
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("features:")]
    lines = [line for line in lines if line]
    assert len(lines) == 1 and "actor-01.h5.partial, got: File too large" in lines[0], answer.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_signals_wait_while_hdf5_calls_python():
    """An exception in the middle of HDF5 would look to it like a refusing disk."""
    order = []
    # A shell's background job starts with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), atomic.signals_held():
            signal.raise_signal(signal.SIGINT)
            order.append("went on")
    finally:
        signal.signal(signal.SIGINT, before)
    assert order == ["went on"]
