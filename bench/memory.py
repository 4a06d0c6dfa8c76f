"""What a worker of the pipeline weighs: the process of its task, and the child that extracts."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline import console, guard, parallel
from pipeline.backends import Workers
from pipeline.cache import plan as planning
from pipeline.cache import survey, task
from pipeline.cache.plan import Known, Rules
from pipeline.corpora.clip import Catalogue
from pipeline.spec import FeatureSpec


def peak_mb(process: int | str) -> float:
    """Peak memory of a process so far, in MB."""
    status = Path(f"/proc/{process}/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


def make_and_weigh(shard: task.ShardTask) -> list[float]:
    """Make a shard and report on both processes."""
    task.make_shard(shard)
    return [peak_mb("self"), peak_mb(guard.local.child.process.pid)]


def worker_memory(found: Catalogue, cache: Path, jobs: int) -> tuple[float, float]:
    """Peak memory in MB of the process of a task, and of its child, over shards with variants."""
    spec, folder = FeatureSpec(), cache / "weighed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wanted = survey.wanted_clips(found)
    states = survey.file_states(found.root, folder, wanted, Known(), Workers(1), False, False)
    by_id = {clip.id: clip for clip in found.clips}
    tasks = [
        task.ShardTask(
            folder,
            shard.file,
            shard.actor,
            tuple(by_id[clip] for clip in shard.clips),
            found.root,
            spec,
            120.0,
            folder / f"{shard.file}.progress",
        )
        for shard in planning.plan(wanted, states, Known(), Rules()).make
    ]
    with console.bar(disable=True) as bar:
        peaks = parallel.collect(make_and_weigh, tasks, Workers(jobs), bar, folder)
    return max(own for own, _ in peaks), max(child for _, child in peaks)
