"""Options of ``python -m pipeline data``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pipeline.corpora import known
from pipeline.corpora.actors import parse_actors
from pipeline.corpora.ravdess import CHANNELS

SERVER_VARIABLE = "DATA_SERVER"


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    command.add_argument(
        "--raw",
        type=Path,
        default=Path("data/raw"),
        metavar="DIR",
        help="folder of raw clips; the corpus gets a folder of its name in it",
    )
    command.add_argument(
        "--corpus", choices=tuple(known.CORPORA), default="ravdess", help="what to fetch"
    )
    command.add_argument(
        "--actors", type=parse_actors, metavar="LIST", help="only these, such as 1-4"
    )
    command.add_argument(
        "--channel",
        choices=tuple(CHANNELS),
        default=argparse.SUPPRESS,
        help="only speech or only song (default: both)",
    )
    command.add_argument("--audio-only", action="store_true", help="without videos")
    command.add_argument("--yes", action="store_true", help="fetch without a question")
    command.add_argument("--keep", action="store_true", help="keep the archives")
    command.add_argument(
        "--server",
        default=os.environ.get(SERVER_VARIABLE),
        metavar="URL",
        help=f"a mirror that speaks the same API (default: the corpus' own, or {SERVER_VARIABLE})",
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch a corpus; no other command has to import what that needs."""
    from pipeline.download import command

    arguments.server = arguments.server and arguments.server.rstrip("/")
    return command.run(arguments)
