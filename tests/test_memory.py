"""Peak memory of the real commands on a corpus, on four of it, and on sixteen."""

import itertools
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import tally, tone, write_video, write_wav
from test_kill import descendants

pytestmark = [pytest.mark.torture, pytest.mark.slow]
ROOT = Path(__file__).parents[1]
SIZES = {1: (6, 15), 4: (12, 30), 16: (24, 60)}
"""Actors, and clips of each."""

FLAT = 1.2
"""What is in use does not grow; by chance, holes in a worker's heap do, by up to a seventh."""


def write_corpus(folder, picture, actors, clips):
    """Clips whose pictures are alike, and whose files differ: none is another's duplicate."""
    pictures = picture.read_bytes()
    takes = list(itertools.product(range(2, 9), (1, 2), (1, 2), (1, 2)))
    takes += list(itertools.product((1,), (1,), (1, 2), (1, 2)))
    for actor in range(1, actors + 1):
        for number, fields in enumerate(takes[:clips]):
            name = "-".join(f"{field:02d}" for field in (*fields, actor))
            video = folder / "videos" / f"Actor_{actor:02d}" / f"01-01-{name}.mp4"
            video.parent.mkdir(parents=True, exist_ok=True)
            # A box that readers pass over.
            video.write_bytes(
                pictures + struct.pack(">I4s", 8 + len(name), b"free") + name.encode()
            )
            sound = tone(1.6, 150 + 11 * number + 3 * actor)
            write_wav(folder / "audios" / f"Actor_{actor:02d}" / f"03-01-{name}.wav", sound)


def peak_megabytes(pid):
    """Peak memory of a process so far; 0 if it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1000 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0.0


def children(parent):
    """Processes below a command that carry its tasks or read its media."""
    return descendants(parent, "popen_loky") + descendants(parent, "guard.serve")


def peaks(*words):
    """Run a command; return the peak memory of it and of its largest worker, in MB."""
    run = subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    own = worker = 0.0
    while run.poll() is None:
        own = max(own, peak_megabytes(run.pid))
        worker = max([worker, *map(peak_megabytes, children(run.pid))])
        time.sleep(0.05)
    assert run.returncode == 0, run.stderr.read()
    return own, worker


def test_memory_does_not_grow_with_the_corpus(tmp_path, capsys):
    picture = write_video(tmp_path / "picture.mp4")
    found = {}
    for size, (actors, clips) in SIZES.items():
        raw, cache = tmp_path / f"raw-{size}", tmp_path / f"cache-{size}"
        write_corpus(raw, picture, actors, clips)
        features = ("pipeline", "features", "--raw", raw, "--cache", cache, "--jobs", 2)
        own, worker = peaks(*features, "--window-seconds", 1, "--variants", 1)
        fit = (
            "train",
            "fit",
            "--cache",
            cache,
            "--model",
            tmp_path / "model",
            "--epochs-scale",
            0.01,
        )
        training, _ = peaks(*fit)
        found[size] = {"features": own, "a worker": worker, "train": training}
        shutil.rmtree(cache)
        with capsys.disabled():
            shown = ", ".join(f"{name} {peak:.0f} MB" for name, peak in found[size].items())
            print(f"\n{size:>2} x: {actors * clips:,} clips: {shown}")
    for name, smallest in found[1].items():
        flat = max(peak[name] for peak in found.values()) <= FLAT * smallest
        tally(f"memory: {name}, 4 x and 16 x the corpus", 1, flat)
        assert flat, found
