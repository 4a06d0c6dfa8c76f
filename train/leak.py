"""The leak meter: what a split by clip adds to the numbers of the same small training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline import atomic
from pipeline.backends import Workers
from pipeline.cache.index import Index
from train import crossval, judging, protocol
from train.heads import HEADS

HONEST, LEAKING = "actors apart", "clips at random"
"""The two ways to split, by what they keep apart."""

NAME = "leak.json"


def split_both_ways(index: Index, folds: int) -> dict[str, list[protocol.Split]]:
    """List some folds of both ways to split.

    The leaking folds are the honest ones with the clips assigned anew to the actors: both train
    on as many rows and test on as many clips. On all 24 actors of RAVDESS the honest folds are
    those of ``sixfold``; where some are missing, the present ones in order make six groups.
    """
    groups = min(protocol.RANDOM_FOLDS, len(index.actors))
    names = {HONEST: f"{protocol.CONTIGUOUS}:{groups}", LEAKING: protocol.RANDOM}
    return {way: protocol.folds(name, index.actors)[:folds] for way, name in names.items()}


def measure(
    index: Index, folder: Path, settings: dict, folds: int, workers: Workers | None = None
) -> dict:
    """Train the same budget both ways and compare.

    Parameters
    ----------
    index
        A finished cache.
    folder
        Gets the trainings, and ``leak.json``. What is finished is not done again.
    settings
        Fields of :class:`train.fit.Settings`.
    folds
        How many folds of each way are trained, from the first.
    workers
        Who trains, see :func:`train.crossval.run`.

    Returns
    -------
    dict
        ``stamp``, ``settings``, ``folds``, and of each way its judgement, see
        :func:`train.judging.judge`.
    """
    splits = split_both_ways(index, folds)
    tasks = {
        way: [
            dataclasses.replace(task, name=f"{way}, {task.name}")
            for task in crossval.fold_tasks(
                index, folder / way.replace(" ", "-"), splits[way], settings
            )
        ]
        for way in (HONEST, LEAKING)
    }
    crossval.run([task for way in tasks.values() for task in way], workers)
    judged = {
        way: judging.judge(
            [task.folder for task in tasks[way]],
            splits[way],
            protocol.stamp(protocol.RANDOM, splits[way]),
        )
        for way in tasks
    }
    measured = {"stamp": protocol.LEAKING, "settings": settings, "folds": folds, **judged}
    atomic.write_durably(folder / NAME, json.dumps(measured, indent=1).encode())
    return measured


def table(measured: Mapping) -> str:
    """Both ways side by side: mean UAR over folds, in percent, and the difference in points.

    The last row is the interval of the fused answer over actors. With few folds the honest side
    has few actors, and whether they are easy people weighs as much as the leak.
    """
    lines = [f"{'UAR':8}{HONEST:>16}{LEAKING:>18}{'leak':>10}"]
    for head in HEADS:
        if not all(head in measured[way] for way in (HONEST, LEAKING)):
            continue
        honest, leaking = (100 * measured[way][head]["uar"]["mean"] for way in (HONEST, LEAKING))
        lines.append(f"{head:8}{honest:>16.1f}{leaking:>18.1f}{leaking - honest:>+10.1f}")
    ranges = (
        "{:.0f} to {:.0f}".format(
            *(100 * edge for edge in measured[way]["fused"]["uar"]["interval"])
        )
        for way in (HONEST, LEAKING)
    )
    lines.append("{:8}{:>16}{:>18}".format("95 %", *ranges))
    lines += measured[HONEST]["left_out"]
    clips = measured[HONEST]["clips"]
    lines.append(f"{clips} clips tested each way, {measured['folds']} folds, the same budget")
    lines.append(f"{LEAKING}: {measured['stamp']}")
    return "\n".join(lines)
