"""``crossval`` and ``study``: their options, and what is done with them."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from pipeline import backends
from pipeline.backends import Workers
from train.commands import add_model, add_places, open_cache, open_joined, print_duplicates
from train.data import corpora
from train.heads import INPUTS
from train.settings import SPEAKER_REFERENCES, Settings, scaled
from train.studies import protocol, runner, study, summary

SHOWN: dict[str, Any] = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add ``crossval`` and ``study`` to the trainer's command line."""
    cross = subparsers.add_parser("crossval", help="every fold of a protocol, summarized", **SHOWN)
    add_shared(cross, several=True)
    cross.add_argument(
        "--protocol",
        default="contiguous:3",
        metavar="NAME",
        help=f"{', '.join(protocol.PROTOCOLS)}, contiguous:K, loso, or the leaking random",
    )
    cross.add_argument(
        "--present-only",
        action="store_true",
        help="cut the protocol down to the actors that are there, and say so in the report",
    )
    cross.add_argument(
        "--speaker-reference",
        choices=SPEAKER_REFERENCES,
        default=Settings.speaker_reference,
        help="compare each clip with other clips of its speaker: a report of its own, because it "
        "is not actor-independent",
    )
    cross.add_argument("--seed", type=int, default=0, metavar="N", help="of every training")
    cross.set_defaults(run=run_crossval)

    names = subparsers.add_parser(
        "study", help="named settings over splits and seeds, in one table"
    ).add_subparsers(dest="study", required=True)
    ablation = names.add_parser(
        "ablation", help="published against default recipe, with and without variants", **SHOWN
    )
    add_shared(ablation)
    choices = names.add_parser("choices", help="a branch without each training choice", **SHOWN)
    add_shared(choices)
    choices.add_argument("--modality", choices=tuple(INPUTS), default="audio", help="the branch")
    leak = names.add_parser("leak", help="what a split by clip adds", **SHOWN)
    add_shared(leak, epochs_scale=0.5)
    for command, seeds in ((ablation, [0]), (choices, [0, 1, 2]), (leak, [0])):
        command.add_argument(
            "--seeds", type=int, nargs="+", default=seeds, metavar="N", help="a training each"
        )
        if command is not ablation:
            command.add_argument(
                "--folds", type=int, default=3, metavar="N", help="folds trained, from the first"
            )
        command.set_defaults(run=run_study)


def add_shared(
    command: argparse.ArgumentParser, epochs_scale: float = 1.0, several: bool = False
) -> None:
    """Add the options of several trainings on a cache, or on ``several``."""
    add_places(command, several)
    add_model(command)
    command.add_argument(
        "--epochs-scale",
        type=float,
        default=epochs_scale,
        metavar="FACTOR",
        help="multiplies all numbers of epochs: a smaller or larger budget",
    )
    command.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at the same time, -1 for all"
    )
    command.add_argument(
        "--backend", choices=backends.BACKENDS, help="who carries trainings (default: loky)"
    )
    command.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a running dask or ray cluster, tcp://host:8786"
    )


def run_crossval(arguments: argparse.Namespace) -> int:
    """Train and test every fold, write the report and print the table."""
    reference = arguments.speaker_reference
    settings = Settings(seed=arguments.seed, speaker_reference=reference)
    settings = scaled(settings, arguments.epochs_scale)
    workers = Workers(arguments.jobs, arguments.backend, arguments.scheduler)
    cache = open_joined(arguments)
    splits = corpora.folds(cache, arguments.protocol, arguments.present_only)
    kind = "" if reference == "none" else f"-{reference}"
    name = f"crossval-{arguments.protocol.replace(':', '-')}{kind}-seed-{arguments.seed}"
    folder = arguments.model / name
    print_duplicates(cache)
    tasks = runner.fold_tasks(cache, folder, splits, settings)
    trained = runner.run(tasks, workers)
    stamp = protocol.stamp(arguments.protocol, splits)
    summarized = summary.summarize([task.folder for task in tasks], stamp)
    summarized["folds"] = [dataclasses.asdict(split) for split in splits]
    summarized["minutes"] = [metrics["minutes"] for metrics in trained]
    summary.write_report(folder / "report", summarized)
    print(summary.table(summarized))
    print(f"report: {folder / 'report'}")
    return 0


def run_study(arguments: argparse.Namespace) -> int:
    """Train every condition of a study and print the table."""
    settings = scaled(Settings(), arguments.epochs_scale)
    for seed in arguments.seeds:
        dataclasses.replace(settings, seed=seed)  # Refuses a seed out of bounds.
    workers = Workers(arguments.jobs, arguments.backend, arguments.scheduler)
    named = {"cache": arguments.cache}
    if arguments.study == "ablation":
        named = study.find_recipes(arguments.cache)
    caches = {name: open_cache(folder, arguments.skip_bad) for name, folder in named.items()}
    for cache in caches.values():
        print_duplicates(cache)
    if arguments.study == "ablation":
        chosen = study.ablation(caches, settings)
    elif arguments.study == "choices":
        chosen = study.choices(caches["cache"], arguments.modality, settings, arguments.folds)
    else:
        chosen = study.leak(caches["cache"], settings, arguments.folds)
    folder = arguments.model / f"study-{chosen.name}"
    print(study.table(study.measure(chosen, folder, arguments.seeds, workers)))
    print(f"report: {folder / chosen.name}.json")
    return 0
