"""Command line of the trainer: ``python -m train fit|evaluate``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from pipeline import index, repair, verify
from pipeline.errors import InputError, run
from train import duplicates, protocol, runtime


def parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    top = argparse.ArgumentParser(prog="python -m train", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    shown = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    fit = commands.add_parser("fit", help="shards to a trained, tested model", **shown)
    add_places(fit)
    fit.add_argument("--epochs", type=int, default=12, metavar="N", help="most epochs")
    fit.add_argument("--batch-size", type=int, default=16, metavar="ROWS", help="rows a step")
    fit.add_argument(
        "--learning-rate",
        type=float,
        default=2e-3,
        metavar="RATE",
        help="peak of Adam's rate, after the warm-up",
    )
    fit.add_argument(
        "--patience",
        type=int,
        default=8,
        metavar="EPOCHS",
        help="epochs without a better validation loss before stopping",
    )
    fit.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order and augmentation"
    )
    fit.add_argument(
        "--test-actors",
        type=protocol.parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 15-18 (default: the last quarter by number)",
    )
    fit.add_argument(
        "--validation-actors",
        type=protocol.parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 13,14 (default: the last sixth of the others)",
    )
    fit.add_argument(
        "--clean-only", action="store_true", help="train on clean rows, without the cached variants"
    )
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on after an interruption, from the last finished epoch",
    )
    fit.set_defaults(run=run_fit)

    cross = commands.add_parser(
        "crossval", help="every fold of a protocol, judged together", **shown
    )
    add_places(cross)
    cross.add_argument(
        "--protocol",
        default="contiguous:3",
        metavar="NAME",
        help=f"{', '.join(protocol.PROTOCOLS)}, contiguous:K or loso",
    )
    cross.add_argument(
        "--present-only",
        action="store_true",
        help="cut the protocol down to the actors that are there, and say so in the report",
    )
    cross.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="folds trained at the same time"
    )
    cross.add_argument("--epochs", type=int, default=12, metavar="N", help="most epochs")
    cross.add_argument("--seed", type=int, default=0, metavar="N", help="of every fold")
    cross.set_defaults(run=run_crossval)

    test = commands.add_parser("evaluate", help="a trained model on actors of a cache", **shown)
    add_places(test)
    test.add_argument(
        "--actors",
        type=protocol.parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 1-4,9 (default: all that the model has not seen)",
    )
    test.set_defaults(run=run_evaluate)
    return top


def add_places(command: argparse.ArgumentParser) -> None:
    """Add the options that name cache and model."""
    command.add_argument(
        "--cache",
        type=Path,
        default=Path("data/cache"),
        metavar="DIR",
        help="folder of caches, or one cache",
    )
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="read the whole cache first and do without its damaged clips",
    )
    command.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )


def open_cache(arguments: argparse.Namespace) -> index.Index:
    """Open the cache that the arguments name, without its damaged clips if they ask for that."""
    cache = index.find_cache(arguments.cache)
    if not arguments.skip_bad:
        return cache
    faults = verify.check_shards(cache)
    for fault in faults:
        print(f"{'left out' if fault.clips else 'fault'}: {cache.folder / str(fault)}")
    return repair.leave_out(cache, faults)


def run_fit(arguments: argparse.Namespace) -> int:
    """Train, test, save and print the table."""
    for name in ("epochs", "batch_size", "patience"):
        if getattr(arguments, name) < 1:
            raise InputError(
                f"expected {name.replace('_', ' ')} of at least 1, got "
                f"{getattr(arguments, name)}; choose a larger one"
            )
    cache = open_cache(arguments)
    split = protocol.split_actors(
        cache.actors,
        getattr(arguments, "test_actors", None),
        getattr(arguments, "validation_actors", None),
    )
    device = runtime.start_tensorflow(arguments.seed)
    from train import evaluate, fit

    named = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(fit.Settings)
        if hasattr(arguments, field.name)
    }
    settings = fit.Settings(**named, variants=not arguments.clean_only)
    print(
        f"train on actors {protocol.format_actors(split.train)}, choose by "
        f"{protocol.format_actors(split.validation)}, test on "
        f"{protocol.format_actors(split.test)}; {device}"
    )
    print_duplicates(cache)
    judged = fit.fit(cache, arguments.model, split, settings, arguments.resume)
    print(evaluate.table(judged))
    print(f"model: {arguments.model}, report: {arguments.model / 'report'}")
    return 0


def print_duplicates(cache: index.Index) -> None:
    """Say which clips are not learned from because they are filed under two actors."""
    if groups := duplicates.across_actors(cache):
        print(duplicates.line(groups))


def run_crossval(arguments: argparse.Namespace) -> int:
    """Train and test every fold, write the report and print the table."""
    if arguments.epochs < 1 or arguments.jobs == 0:
        raise InputError(
            f"expected at least 1 epoch and a number of jobs other than 0, got {arguments.epochs} "
            f"and {arguments.jobs}; choose others"
        )
    cache = open_cache(arguments)
    splits = protocol.folds(arguments.protocol, cache.actors, arguments.present_only)
    from train import crossval

    named = protocol.file_name(arguments.protocol)
    folder = arguments.model / f"crossval-{named}-seed-{arguments.seed}"
    settings = {"epochs": arguments.epochs, "seed": arguments.seed}
    print_duplicates(cache)
    folders = crossval.run(cache, folder, splits, settings, arguments.jobs)
    tested = {actor for split in splits for actor in split.test}
    cut = arguments.protocol in protocol.PROTOCOLS and tested != {
        actor for test, _ in protocol.PROTOCOLS[arguments.protocol] for actor in test
    }
    stamp = f"{arguments.protocol} on present actors only: not comparable" if cut else None
    judged = crossval.judge(folders, splits, stamp)
    crossval.write_report(folder / "report", judged)
    print(crossval.table(judged))
    print(f"report: {folder / 'report'}")
    return 0


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Test a trained model, write the report and print the table."""
    cache = open_cache(arguments)
    runtime.start_tensorflow()
    from train import artefact, evaluate, table

    trained = artefact.load(arguments.model)
    if trained.spec != cache.spec:
        raise InputError(
            f"expected a cache of the model's spec {trained.spec.digest}, got {cache.spec.digest} "
            f"in {arguments.cache}; extract with the recipe the model was trained with"
        )
    seen = {
        entry.actor
        for entry in cache.clips
        if {source.sha256 for source in entry.sources} & set(trained.seen)
    }
    actors = getattr(arguments, "actors", None) or sorted(set(cache.actors) - seen)
    if not actors:
        raise InputError(
            f"expected actors the model has not seen in {arguments.cache}, got none; "
            "name some with --actors to test on seen ones all the same"
        )
    rows = table.select_rows(cache, actors)
    probabilities = evaluate.predict(trained.model, rows)
    judged = evaluate.metrics(rows, probabilities)
    judged["seen_in_training"] = sorted(seen & set(actors))
    name = f"{arguments.cache.resolve().name}-actors-{protocol.format_actors(actors)}"
    report = arguments.model / f"report-{name}"
    evaluate.write_report(report, rows, probabilities, judged)
    print(evaluate.table(judged))
    if judged["seen_in_training"]:
        print(
            f"not a test: the model was trained on recordings of actors "
            f"{protocol.format_actors(judged['seen_in_training'])}"
        )
    print(f"report: {report}")
    return 0


def main() -> int:
    """Parse the command line and run it."""

    def command() -> int:
        arguments = parser().parse_args()
        return arguments.run(arguments)

    return run(command, "'make train RESUME=1' (fit --resume) goes on after the last epoch")


if __name__ == "__main__":
    sys.exit(main())
