"""Memory of the processes that extract: the worker that writes shards, and its child."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from pipeline import console, guard, parallel
from pipeline.backends import Workers
from pipeline.cache import plan as planning
from pipeline.cache import survey, task
from pipeline.corpora import scan
from pipeline.spec import FeatureSpec

JOBS = 2
SAMPLE_SECONDS = 0.01


def memory_mb(process: int | str, file: str, name: str) -> float:
    """One line of what the system says of a process' memory, in MB; 0 if it is gone."""
    try:
        text = Path(f"/proc/{process}/{file}").read_text()
    except OSError:
        return 0.0
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) / 1000 if found else 0.0


def make_and_weigh(shard: task.ShardTask) -> list[float]:
    """Make a shard: peaks of the worker's RSS, of its child's, and of the sum of their PSS."""
    ended, peak = threading.Event(), 0.0
    # A child belongs to its thread; the sampler looks at what the working thread has.
    own = guard.local.__dict__

    def sample() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_SECONDS):
            child = own.get("child")
            if child is not None:
                processes = "self", child.process.pid
                sum_mb = sum(memory_mb(one, "smaps_rollup", "Pss") for one in processes)
                peak = max(peak, sum_mb)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        task.make_shard(shard)
    finally:
        ended.set()
        sampler.join()
    child = guard.local.child.process.pid
    return [memory_mb("self", "status", "VmHWM"), memory_mb(child, "status", "VmHWM"), peak]


def measure(folder: Path) -> Iterator[dict]:
    """Yield peaks over full shards with variants, of clips of 1280x720."""
    # Workers import this module: it must not bring them OpenCV and FFmpeg.
    from bench import media

    found = scan.scan(media.full_shards(folder, JOBS))
    spec, cache = FeatureSpec(), folder / "cache-memory"
    shutil.rmtree(cache, ignore_errors=True)
    cache.mkdir()
    wanted, states, nothing = survey.look(found, cache, spec, Workers(1), progress=False)
    by_id = {clip.id: clip for clip in found.clips}
    tasks = [
        task.ShardTask(
            cache,
            shard.file,
            shard.actor,
            tuple(by_id[clip] for clip in shard.clips),
            found.root,
            spec,
            120.0,
            cache / f"{shard.file}.progress",
        )
        for shard in planning.plan(wanted, states, nothing, "").make
    ]
    with console.bar(disable=True) as bar:
        peaks = parallel.collect(make_and_weigh, tasks, Workers(JOBS), bar, cache)
    worker, child, both = map(max, zip(*peaks, strict=True))
    yield {
        "what": "worker and child, pages shared counted in part: MB",
        "ours": both,
        "against": f"peaks of RSS: {worker:.0f} and {child:.0f} MB",
        "theirs": None,
        "ratio": None,
        "target": "<= 350",
    }
