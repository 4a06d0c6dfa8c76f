"""Options of ``python -m pipeline plan``."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.planner.cases import CASES


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    command.add_argument(
        "--case",
        choices=tuple(CASES),
        default=argparse.SUPPRESS,
        help="one named corpus (default: all of them)",
    )
    for name, kind, meaning in (
        ("clips", float, "a corpus of this many clips instead, such as 1.1e6"),
        ("seconds", float, "length of a clip (default: 4)"),
        ("height", int, "of the video in pixels; 0 for audio alone (default: 720)"),
        ("width", int, "of the video in pixels (default: 16/9 of the height)"),
        ("frame-rate", float, "frames a second (default: 30)"),
        ("megabits", float, "of video a second (default: 0.1 bits a pixel; cameras take 0.3)"),
    ):
        command.add_argument(
            f"--{name}", type=kind, metavar="N", default=argparse.SUPPRESS, help=meaning
        )
    command.add_argument(
        "--variants", type=int, default=3, metavar="N", help="augmented variants of each clip"
    )
    command.add_argument(
        "--cores",
        type=int,
        metavar="N",
        default=argparse.SUPPRESS,
        help="that work at the same time (default: those of this machine)",
    )
    command.add_argument(
        "--write-gb-s",
        type=float,
        metavar="N",
        default=argparse.SUPPRESS,
        help="write bandwidth of the storage (default: as measured)",
    )
    command.add_argument(
        "--storage-tb",
        type=float,
        metavar="N",
        default=argparse.SUPPRESS,
        help="room for the cache (default: enough)",
    )
    command.add_argument("--price-core-hour", type=float, default=0.0, metavar="P", help="price")
    command.add_argument(
        "--price-gb-month", type=float, default=0.0, metavar="P", help="price of storage"
    )
    command.add_argument(
        "--rates",
        type=Path,
        default=Path("data/rates.json"),
        metavar="FILE",
        help="measured rates; those of the reference machine where there is no such file",
    )
    command.add_argument(
        "--measure", action="store_true", help="measure this machine first, and keep the rates"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a plan; no other command has to import what that needs."""
    from pipeline.planner import command

    return command.run(arguments)
