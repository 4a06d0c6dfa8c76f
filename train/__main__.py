"""Command line of the trainer: ``python -m train fit|crossval|leak|ablation|choices|evaluate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline import backends
from pipeline.console import Parser, run
from pipeline.corpora.actors import parse_actors
from train import commands, protocol
from train.heads import CHANGES
from train.settings import PRECISIONS, Settings


def parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    top = Parser(prog="python -m train", description=__doc__)
    names = top.add_subparsers(dest="command", required=True)
    shown = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    fit = names.add_parser("fit", help="shards to a trained, tested model", **shown)
    add_places(fit)
    fit.add_argument("--epochs", type=int, default=Settings.epochs, metavar="N", help="most epochs")
    fit.add_argument(
        "--batch-size", type=int, default=Settings.batch_size, metavar="ROWS", help="rows a step"
    )
    fit.add_argument(
        "--learning-rate",
        type=float,
        default=Settings.learning_rate,
        metavar="RATE",
        help="peak of Adam's rate, after the warm-up",
    )
    fit.add_argument(
        "--patience",
        type=int,
        default=Settings.patience,
        metavar="EPOCHS",
        help="epochs without a better validation accuracy before stopping; as many as --epochs: "
        "never",
    )
    fit.add_argument(
        "--plateau-patience",
        type=int,
        default=Settings.plateau_patience,
        metavar="EPOCHS",
        help="epochs without a better validation accuracy before the rate is halved",
    )
    fit.add_argument(
        "--warm-start",
        type=float,
        default=Settings.warm_start,
        metavar="PART",
        help="part of the epochs that come before, in which the voice learns alone; 0: none",
    )
    fit.add_argument(
        "--refit",
        type=float,
        default=Settings.refit,
        metavar="PART",
        help="part of the epochs that follow with the validation actors learned from too; 0: none",
    )
    fit.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, order and augmentation"
    )
    fit.add_argument(
        "--test-actors",
        type=parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 15-18 (default: the last quarter by number)",
    )
    fit.add_argument(
        "--validation-actors",
        type=parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 13,14 (default: the last sixth of the others)",
    )
    fit.add_argument(
        "--clean-only", action="store_true", help="train on clean rows, without the cached variants"
    )
    fit.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=Settings.precision,
        help="of the network in training; the mixed ones are for GPUs",
    )
    fit.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=argparse.SUPPRESS,
        help="the same seed gives the same model, bit by bit (default: only without a GPU, on "
        "which it takes longer)",
    )
    add_calibrated(fit)
    fit.add_argument(
        "--resume",
        action="store_true",
        help="go on after an interruption, from the last finished epoch",
    )
    fit.set_defaults(run=commands.run_fit)

    cross = names.add_parser("crossval", help="every fold of a protocol, judged together", **shown)
    add_places(cross)
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
        "--real-ravdess",
        action="store_true",
        help="the clips are RAVDESS' own, not drawn: draw what people reach on them as lines",
    )
    add_calibrated(cross)
    add_budget(cross, Settings.epochs)
    cross.add_argument("--seed", type=int, default=0, metavar="N", help="of every training")
    cross.set_defaults(run=commands.run_crossval)

    leak = names.add_parser(
        "leak", help="what a split by clip adds to the numbers of the same small training", **shown
    )
    add_places(leak)
    add_budget(leak, 5)
    leak.add_argument("--seed", type=int, default=0, metavar="N", help="of every training")
    leak.add_argument(
        "--folds", type=int, default=3, metavar="N", help="folds trained each way, out of six"
    )
    leak.set_defaults(run=commands.run_leak)

    parts = names.add_parser(
        "ablation",
        help="published recipe against default recipe, with and without variants",
        **shown,
    )
    add_places(parts)
    add_budget(parts, Settings.epochs)
    parts.add_argument(
        "--seeds", type=int, nargs="+", default=[0], metavar="N", help="one training each"
    )
    parts.set_defaults(run=commands.run_ablation)

    choices = names.add_parser(
        "choices", help="what each choice of the training recipe is worth to one branch", **shown
    )
    add_places(choices)
    add_budget(choices, Settings.epochs)
    choices.add_argument("--head", choices=tuple(CHANGES), default="audio", help="the branch")
    choices.add_argument(
        "--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="one training each"
    )
    choices.add_argument(
        "--folds", type=int, default=3, metavar="N", help="groups of actors judged, out of three"
    )
    choices.set_defaults(run=commands.run_choices)

    test = names.add_parser("evaluate", help="a trained model on actors of a cache", **shown)
    add_places(test)
    test.add_argument(
        "--actors",
        type=parse_actors,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 1-4,9 (default: all that the model has not seen)",
    )
    test.set_defaults(run=commands.run_evaluate)
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


def add_calibrated(command: argparse.ArgumentParser) -> None:
    """Add the option that lets a network know whom it judges."""
    command.add_argument(
        "--calibrated",
        action="store_true",
        help="read every clip against a neutral one of its actor; a setting and a report of its "
        "own, because it is not actor-independent",
    )


def add_budget(command: argparse.ArgumentParser, epochs: int) -> None:
    """Add the options of several trainings in a row."""
    command.add_argument("--epochs", type=int, default=epochs, metavar="N", help="most epochs")
    command.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="trainings at the same time, -1 for all"
    )
    command.add_argument(
        "--backend", choices=backends.BACKENDS, help="who carries trainings (default: loky)"
    )
    command.add_argument(
        "--scheduler", metavar="ADDRESS", help="of a running dask or ray cluster, tcp://host:8786"
    )


def main() -> int:
    """Parse the command line and run it."""

    def command() -> int:
        arguments = parser().parse_args()
        return arguments.run(arguments)

    if sys.argv[1:2] == ["fit"]:
        return run(command, "'make train RESUME=1' (fit --resume) goes on after the last epoch")
    return run(command)


if __name__ == "__main__":
    sys.exit(main())
