"""A disk that refuses: by a limit of file size, by a small file system, and by shims."""

import errno
import itertools
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY, hashes, make, shards_of, tally

from pipeline.cache import build, facts, index
from pipeline.errors import STORAGE_ERRNOS

pytestmark = pytest.mark.torture
ROOT = Path(__file__).parents[1]


@pytest.fixture
def half(made):
    """A cache in which three of four shards are finished."""
    folder = made / TINY.digest
    (name,) = shards_of(folder, 4)
    for path in (folder / name, facts.manifest_path(folder, name), folder / "index.json"):
        path.unlink()
    return made


def assert_refused_then_finished(raw, half, tiny, number, relieve, what):
    """One error that names a file; finished shards untouched; the next run completes them all."""
    folder, whole = half / TINY.digest, index.find_cache(tiny)
    before = hashes(folder, "actor-*")
    try:
        with pytest.raises(OSError) as caught:
            make(raw, half)
        assert caught.value.errno == number and number in STORAGE_ERRNOS
        assert str(half) in str(caught.value.filename) and "\n" not in str(caught.value)
        assert before.items() <= hashes(folder, "actor-*").items()
        assert not list(folder.glob("*.partial*"))
        if (folder / "index.json").exists():
            assert index.read_index(folder).fingerprint == whole.fingerprint
    finally:
        relieve()
    done = make(raw, half)
    assert done.index.rows == 32 and done.index.fingerprint == whole.fingerprint
    assert hashes(folder) == hashes(whole.folder)
    assert before.items() <= hashes(folder, "actor-*").items()
    assert index.read_index(folder) == done.index and not list(folder.glob("*.partial*"))
    tally(f"disk: {what}", 1, 1)


@pytest.mark.parametrize("part", [0.001, 0.01, 0.1, 0.5, 0.9, 0.999999])
def test_a_file_that_cannot_grow(raw, half, tiny, part):
    """Real failed writes, from the first byte to the last."""
    folder = tiny / TINY.digest
    size = (folder / shards_of(folder, 4)[0]).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * size), before[1]))
    assert_refused_then_finished(
        raw,
        half,
        tiny,
        errno.EFBIG,
        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before),
        "file too large (EFBIG)",
    )


@pytest.fixture
def small_disk(half, tmp_path):
    """A file system of 4 MB that holds the half-finished cache."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a file system")
    shutil.copytree(half, place / "cache")
    yield place / "cache"
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("free_pages", [0, 1, 2, 3, 8, 18])
def test_a_full_disk(raw, small_disk, tiny, monkeypatch, free_pages):
    monkeypatch.setattr(build, "refuse_small_disk", lambda *_: None)
    filler, page = small_disk / "filler", resource.getpagesize()
    with filler.open("wb") as stream:
        free = shutil.disk_usage(small_disk).free
        os.posix_fallocate(stream.fileno(), 0, free - free_pages * page)
    assert_refused_then_finished(
        raw, small_disk, tiny, errno.ENOSPC, filler.unlink, "full (ENOSPC)"
    )


def test_a_read_only_cache(raw, small_disk, tiny):
    def mount_again(how):
        subprocess.run(["mount", "-o", f"remount,{how}", small_disk.parent], check=True)

    mount_again("ro")
    assert_refused_then_finished(
        raw, small_disk, tiny, errno.EROFS, lambda: mount_again("rw"), "read-only (EROFS)"
    )
    (small_disk / TINY.digest / f"x.{os.uname().nodename}-999999999-0123abcd.partial").touch()
    mount_again("ro")
    try:
        assert make(raw, small_disk).extracted == 0
        assert index.find_cache(small_disk).rows == 32
    finally:
        mount_again("rw")


CALLS = ((os, "mkdir"), (Path, "write_bytes"), (os, "fsync"), (os, "replace"))
"""What a build asks the disk to do: the progress folder, then shard, manifest and index, each
written, synchronised, renamed, and its folder synchronised."""

STEPS = 13
NUMBERS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
FAST = {(1, errno.EROFS), (2, errno.ENOSPC), (3, errno.EIO), (4, errno.EIO), (5, errno.EIO)}
FAST |= {(6, errno.EDQUOT), (9, errno.EIO), (10, errno.ENOSPC), (12, errno.EIO), (13, errno.EIO)}


def refuse_at(step, number, monkeypatch, share=0.0):
    """Let one of the calls fail, a write after a share of its bytes."""
    counter = itertools.count(1)

    def shim(owner, name):
        original = getattr(owner, name)

        def call(first, *given, **options):
            is_other = name == "mkdir" and not Path(first).name.startswith("progress")
            if is_other or next(counter) != step:
                return original(first, *given, **options)
            if name == "write_bytes":
                original(first, bytes(given[0])[: int(share * len(given[0]))])
            raise OSError(number, os.strerror(number), *([str(first)] * (name == "mkdir")))

        monkeypatch.setattr(owner, name, call)

    for owner, name in CALLS:
        shim(owner, name)
    return counter


def test_the_steps_are_all_there_are(raw, half, monkeypatch):
    counter = refuse_at(0, 0, monkeypatch)
    make(raw, half)
    assert next(counter) - 1 == STEPS


@pytest.mark.parametrize(
    ("step", "number"),
    [
        pytest.param(step, number, marks=() if (step, number) in FAST else pytest.mark.slow)
        for step in range(1, STEPS + 1)
        for number in NUMBERS
    ],
)
def test_a_refusal_at_every_step(raw, half, tiny, monkeypatch, step, number):
    refuse_at(step, number, monkeypatch)
    assert_refused_then_finished(
        raw, half, tiny, number, monkeypatch.undo, "refusal at every write (ENOSPC, EIO, …)"
    )


@pytest.mark.parametrize(
    ("step", "share"),
    [
        pytest.param(step, share / 10, marks=() if share == 5 else pytest.mark.slow)
        for step in (2, 6, 10)
        for share in range(1, 11)
    ],
)
def test_a_write_that_ends_amid_its_bytes(raw, half, tiny, monkeypatch, step, share):
    for number in (errno.ENOSPC, errno.EIO):
        with monkeypatch.context() as patch:
            refuse_at(step, number, patch, share)
            what = "a write that ends after a part of its bytes"
            shutil.copytree(half, half.parent / f"{number}", dirs_exist_ok=True)
            assert_refused_then_finished(
                raw, half.parent / f"{number}", tiny, number, patch.undo, what
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
    assert len(lines) == 1 and ".h5, got: File too large" in lines[0], answer.stderr
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left <= {".lock"}
