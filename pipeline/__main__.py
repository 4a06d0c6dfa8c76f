"""Command line of the pipeline: ``python -m pipeline features|verify|prune|list|audit|sample``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pipeline import commands
from pipeline.corpora import catalogue
from pipeline.errors import run
from pipeline.spec import FeatureSpec


def parser() -> argparse.ArgumentParser:
    """Describe every command and option."""
    top = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    names = top.add_subparsers(dest="command", required=True)
    shown = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    features = names.add_parser("features", help="raw clips to HDF5 shards", **shown)
    add_raw(features)
    features.add_argument(
        "--cache",
        type=Path,
        default=Path("data/cache"),
        metavar="DIR",
        help="folder of caches; this one gets a folder named by its digest",
    )
    features.add_argument(
        "--jobs", type=int, default=-1, metavar="N", help="worker processes, -1 for one a core"
    )
    features.add_argument(
        "--recipe",
        choices=("default", "published"),
        default="default",
        help="published: first 44 columns at hop 512, first 20 frames, whole picture",
    )
    features.add_argument(
        "--window-seconds",
        type=float,
        metavar="S",
        default=argparse.SUPPRESS,
        help="stretch of a clip heard and seen, in seconds (default: "
        f"{FeatureSpec().window_seconds}; published: 1.02)",
    )
    features.add_argument(
        "--variants",
        type=int,
        default=3,
        metavar="N",
        help="augmented variants cached beside each clean clip",
    )
    features.add_argument(
        "--clip-timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="time a clip may take before it is given up; 0 for no limit",
    )
    features.add_argument(
        "--skip-bad", action="store_true", help="exit 0 although some clips could not be read"
    )
    features.add_argument(
        "--wait", action="store_true", help="wait for another run on the same cache to end"
    )
    features.set_defaults(run=commands.run_features)

    check = names.add_parser("verify", help="read a cache and name what is damaged", **shown)
    add_raw(check)
    check.add_argument(
        "--cache",
        type=Path,
        default=Path("data/cache"),
        metavar="DIR",
        help="one cache, or a folder of caches: all of them",
    )
    check.add_argument(
        "--repair", action="store_true", help="make damaged clips again from the raw folder"
    )
    check.add_argument(
        "--jobs", type=int, default=-1, metavar="N", help="worker processes, -1 for one a core"
    )
    check.set_defaults(run=commands.run_verify)

    clear = names.add_parser("prune", help="list caches that nothing names, ask, remove", **shown)
    clear.add_argument(
        "--cache", type=Path, default=Path("data/cache"), metavar="DIR", help="folder of caches"
    )
    clear.add_argument(
        "--model",
        type=Path,
        action="append",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folder of a model, or of models, that needs its cache; may be repeated "
        "(default: data/model)",
    )
    clear.add_argument("--yes", action="store_true", help="remove without asking")
    clear.set_defaults(run=commands.run_prune)

    listing = names.add_parser("list", help="print what the raw folder holds", **shown)
    add_raw(listing)
    listing.set_defaults(run=commands.run_list)

    checked = names.add_parser("audit", help="look for faults in the raw folder", **shown)
    add_raw(checked)
    checked.add_argument(
        "--out",
        type=Path,
        default=Path("data/audit.json"),
        metavar="FILE",
        help="gets every finding and every measured fact",
    )
    checked.add_argument(
        "--jobs", type=int, default=-1, metavar="N", help="worker processes, -1 for one a core"
    )
    checked.add_argument("--strict", action="store_true", help="exit 1 if anything is found")
    checked.set_defaults(run=commands.run_audit)

    sample = names.add_parser("sample", help="write a small synthetic corpus", **shown)
    sample.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to fill")
    sample.add_argument("--actors", type=int, default=8, metavar="N", help="number of actors")
    sample.add_argument(
        "--repetitions",
        type=int,
        default=1,
        metavar="N",
        help="takes of each emotion, intensity and statement, 1 or 2",
    )
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything")
    sample.add_argument(
        "--jobs", type=int, default=-1, metavar="N", help="worker processes, -1 for one a core"
    )
    sample.set_defaults(run=commands.run_sample)
    return top


def add_raw(command: argparse.ArgumentParser) -> None:
    """Add the options that say which clips are meant."""
    command.add_argument(
        "--raw", type=Path, default=Path("data/raw"), metavar="DIR", help="folder of raw clips"
    )
    command.add_argument(
        "--channel",
        choices=tuple(catalogue.CHANNELS),
        default=argparse.SUPPRESS,
        help="only speech or only song (default: both)",
    )


def main() -> int:
    """Parse the command line and run it."""
    arguments = parser().parse_args()
    return run(lambda: arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
