"""Command line of the trainer: ``python -m train fit|crossval|study|evaluate|report``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.console import Parser, run
from pipeline.corpora.actors import parse_actors_of_corpora
from train import commands
from train.heads import INPUTS
from train.page import command as page
from train.settings import PRECISIONS, SPEAKER_REFERENCES, WITHOUT, Settings
from train.studies import commands as studies

PROG = "python -m train"

HELP = {
    **{f"{branch}_epochs": f"most epochs of the {branch} branch" for branch in INPUTS},
    "fusion_epochs": "epochs of the fusion's dense layer",
    "refit_epochs": "epochs of fine-tuning on training and validation actors; 0: none",
    "batch_size": "rows a step",
    "learning_rate": "peak of Adam's rate, after the warm-up",
    "patience": "epochs without a better validation accuracy before a stage stops",
    "plateau_patience": "epochs without a better validation accuracy before the rate is halved",
    "seed": "of weights, order and augmentation",
}
"""Numbers among the settings that have an option."""


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every command and option."""
    top = Parser(prog=prog, description=__doc__)
    names = top.add_subparsers(dest="command", required=True)
    shown: dict[str, Any] = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    # Where one command is in front of all packages, this one is its 'train'.
    own = None if prog == PROG else f"{prog} train"
    fit = names.add_parser("fit", prog=own, help="shards to a trained, tested model", **shown)
    commands.add_places(fit, several=True)
    commands.add_model(fit)
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    for name, said in HELP.items():
        default = defaults[name]
        fit.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            default=default,
            metavar="N",
            help=said,
        )
    fit.add_argument(
        "--epochs-scale",
        type=float,
        default=1.0,
        metavar="FACTOR",
        help="multiplies all numbers of epochs: a smaller or larger budget",
    )
    fit.add_argument(
        "--test-actors",
        type=parse_actors_of_corpora,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 15-18, or ravdess:15-18 crema_d:1070-1091 with several caches (default: "
        "the last quarter by number, of each)",
    )
    fit.add_argument(
        "--validation-actors",
        type=parse_actors_of_corpora,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 13,14 (default: the last sixth of the others)",
    )
    fit.add_argument(
        "--clean-only", action="store_true", help="train on clean rows, without the cached variants"
    )
    fit.add_argument(
        "--modalities",
        nargs="+",
        choices=INPUTS,
        default=Settings.modalities,
        help="branches that are trained",
    )
    fit.add_argument(
        "--without", nargs="+", choices=WITHOUT, default=(), help="augmentations that are left out"
    )
    fit.add_argument(
        "--speaker-reference",
        choices=SPEAKER_REFERENCES,
        default=Settings.speaker_reference,
        help="compare each clip with other clips of its speaker: a result of its own, because it "
        "is not actor-independent",
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
    fit.add_argument(
        "--resume",
        action="store_true",
        help="insist on going on with the interrupted training, perhaps at another learning rate "
        "(default: go on if it is the same, else train anew)",
    )
    fit.set_defaults(run=commands.run_fit)

    studies.add_commands(names)

    test = names.add_parser("evaluate", help="a trained model on actors of a cache", **shown)
    commands.add_places(test, several=True)
    test.add_argument(
        *("--model", "--models"),
        type=Path,
        default=Path("data/model"),
        nargs="+",
        metavar="DIR",
        help="folder of the model; with several, or several caches, a table of each on each",
    )
    test.add_argument(
        "--actors",
        type=parse_actors_of_corpora,
        metavar="LIST",
        default=argparse.SUPPRESS,
        help="such as 1-4,9, or ravdess:1-4 with several caches (default: all that the model has "
        "not seen)",
    )
    test.set_defaults(run=commands.run_evaluate)

    page.add_command(names)
    return top


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""
    words = sys.argv[1:] if words is None else words

    def command() -> int:
        arguments = parser(prog).parse_args(words)
        try:
            return arguments.run(arguments)
        except BaseException as error:
            # The frames of a fit that failed keep an iterator whose threads call Python: at the
            # interpreter's end they and TensorFlow would wait for each other.
            traceback.clear_frames(error.__traceback__)
            raise

    if words[:1] == ["fit"]:
        return run(command, "the same command goes on after the last finished epoch")
    return run(command)


if __name__ == "__main__":
    sys.exit(main())
