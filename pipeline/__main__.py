"""Command line of the pipeline: raw folders to caches."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import commands
from pipeline.backends import BACKENDS
from pipeline.console import Parser, add_verbose, run, show_log
from pipeline.corpora import folders, known
from pipeline.corpora.actors import parse_actors
from pipeline.corpora.ravdess import CHANNELS
from pipeline.corpora.scan import AUTO
from pipeline.download import options as download
from pipeline.planner import options as planner
from pipeline.spec import CASCADE, DETECTORS, FeatureSpec

PROG = "python -m pipeline"
CACHE = Path("data/cache")


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every command and option."""
    top = Parser(prog=prog, description=__doc__)
    names = top.add_subparsers(dest="command", required=True)
    shown: dict[str, Any] = {"formatter_class": argparse.ArgumentDefaultsHelpFormatter}

    data = names.add_parser("data", help="fetch a published corpus", **shown)
    download.add_options(data)

    features = names.add_parser("features", help="raw clips to HDF5 shards", **shown)
    add_raw(features)
    add_cache(features, "folder of caches; this one gets a folder named by its digest")
    add_workers(features)
    add_spec(features)
    add_build(features)
    features.set_defaults(run=commands.run_features)

    join = names.add_parser("index", help="join what several runs cached into one index", **shown)
    add_cache(join, "one cache, or a folder of caches: all of them")
    join.set_defaults(run=commands.run_index)

    check = names.add_parser("verify", help="read a cache and name what is damaged", **shown)
    add_raw(check)
    add_cache(check, "one cache, or a folder of caches: all of them")
    add_workers(check)
    check.add_argument(
        "--repair", action="store_true", help="make damaged shards again from the raw folder"
    )
    check.set_defaults(run=commands.run_verify)

    prune = names.add_parser("prune", help="list caches, remove those that are named", **shown)
    add_cache(prune, "folder of caches")
    prune.add_argument("names", nargs="*", metavar="NAME", help="caches to remove")
    prune.add_argument(
        "--models",
        type=Path,
        nargs="+",
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="folders below which models are searched for that need a cache (default: data)",
    )
    prune.add_argument(
        "--despite-models", action="store_true", help="remove a cache although a model names it"
    )
    prune.set_defaults(run=commands.run_prune)

    listing = names.add_parser("list", help="print what the raw folder holds", **shown)
    add_raw(listing)
    listing.set_defaults(run=commands.run_list)

    audit = names.add_parser("audit", help="look for faults in the raw folder", **shown)
    add_raw(audit)
    add_workers(audit)
    audit.add_argument(
        "--out",
        type=Path,
        default=Path("data/audit.json"),
        metavar="FILE",
        help="gets every finding and every measured fact",
    )
    audit.add_argument("--strict", action="store_true", help="exit 1 if anything is found")
    audit.set_defaults(run=commands.run_audit)

    plan = names.add_parser("plan", help="how long and how large a corpus would be", **shown)
    planner.add_options(plan)

    face_model = names.add_parser(
        "face-model", help="fetch the file that --detector yunet needs", **shown
    )
    face_model.add_argument(
        "--url",
        metavar="URL",
        help="where to fetch it, instead of the OpenCV zoo; its hash is pinned",
    )
    face_model.set_defaults(run=commands.run_face_model)

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
    for command in names.choices.values():
        add_verbose(command)
    return top


def add_raw(command: argparse.ArgumentParser) -> None:
    """Add the options that say which clips are meant."""
    command.add_argument(
        "--raw", type=Path, default=Path("data/raw"), metavar="DIR", help="folder of raw clips"
    )
    command.add_argument(
        "--channel",
        choices=tuple(CHANNELS),
        default=argparse.SUPPRESS,
        help="only speech or only song (default: both)",
    )
    command.add_argument(
        "--corpus",
        choices=(AUTO, *known.CORPORA, folders.NAME),
        default=AUTO,
        help="whose names the files have; auto recognises it",
    )
    command.add_argument(
        "--speaker",
        default=argparse.SUPPRESS,
        metavar="REGEX",
        help="for a folder for each emotion: its group is the speaker, searched in the path below "
        "the raw folder, such as '/([a-z]+)_'",
    )
    command.add_argument(
        "--labels",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="CSV of two columns: your words for emotions in clips.csv or folders' names, and ours",
    )


def add_cache(command: argparse.ArgumentParser, meaning: str) -> None:
    """Add the option that names a cache."""
    command.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help=meaning)


def add_workers(command: argparse.ArgumentParser) -> None:
    """Add the options that say who does the work."""
    command.add_argument(
        "--jobs", type=int, default=-1, metavar="N", help="worker processes, -1 for one a core"
    )
    command.add_argument(
        "--backend",
        choices=BACKENDS,
        default="loky",
        help="what does the tasks: processes, threads, or a cluster",
    )
    command.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="of a dask scheduler or a ray cluster; without it one is started here",
    )


def add_spec(command: argparse.ArgumentParser) -> None:
    """Add the options that change what is cached."""
    command.add_argument(
        "--recipe",
        choices=("default", "published"),
        default="default",
        help="published: first 44 columns at hop 512, first 20 frames, whole frames",
    )
    command.add_argument(
        "--window-seconds",
        type=float,
        metavar="S",
        default=argparse.SUPPRESS,
        help="stretch of a clip that is cached, in seconds (default: "
        f"{FeatureSpec().window_seconds}; published: 1.02)",
    )
    command.add_argument(
        "--variants",
        type=int,
        default=3,
        metavar="N",
        help="augmented variants cached beside each clean clip",
    )
    command.add_argument(
        "--detector",
        choices=DETECTORS,
        default=argparse.SUPPRESS,
        help=f"of faces (default: {FeatureSpec().detector}, or {CASCADE} where it is not "
        "installed)",
    )


def add_build(command: argparse.ArgumentParser) -> None:
    """Add the options that say how a cache is filled."""
    command.add_argument(
        "--actors",
        type=parse_actors,
        metavar="LIST",
        help="only these, such as 1-12; several machines may fill one cache, each with its own "
        "actors, and 'index' joins them",
    )
    command.add_argument(
        "--clip-timeout",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="time a clip may take before it is given up; 0 for no limit",
    )
    command.add_argument(
        "--skip-bad", action="store_true", help="exit 0 although some clips could not be read"
    )
    command.add_argument(
        "--retry-bad", action="store_true", help="try clips again that could not be read"
    )
    command.add_argument(
        "--check-content",
        action="store_true",
        help="read every raw file, even if its size and time stamp are as they were",
    )
    command.add_argument(
        "--remove",
        action="store_true",
        help="delete cached clips that the raw folder lacks, and shards that newer ones replace",
    )
    command.add_argument(
        "--wait", action="store_true", help="wait for another run on the same cache to end"
    )
    command.add_argument(
        "--explain",
        metavar="CLIP",
        help="say where a clip is cached, or why it is made; do nothing",
    )


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""

    def command() -> int:
        arguments = parser(prog).parse_args(words)
        show_log(arguments.verbose)
        return arguments.run(arguments)

    return run(command)


if __name__ == "__main__":
    sys.exit(main())
