"""``report``: its options; the page itself is imported when it is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline import atomic
from pipeline.corpora.sources import printable

DEFAULTS = {
    "cache": Path("data/cache"),
    "model": Path("data/model"),
    "audit": Path("data/audit.json"),
}


def add_command(subparsers: argparse._SubParsersAction) -> None:
    """Add ``report`` to the trainer's command line."""
    command = subparsers.add_parser("report", help="one HTML page of a cache and a model")
    what = {"cache": "folder of caches, or one cache", "model": "folder of the model"}
    what["audit"] = "what 'make audit' wrote"
    for name, default in DEFAULTS.items():
        command.add_argument(
            f"--{name}",
            type=Path,
            default=argparse.SUPPRESS,
            metavar="FILE" if name == "audit" else "DIR",
            help=f"{what[name]} (default: {default}, where it is there)",
        )
    command.add_argument(
        "--raw",
        type=Path,
        metavar="DIR",
        help="raw folder, for the players (default: the one that the cache was made from)",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("data/report.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    command.set_defaults(run=run_report)


def run_report(arguments: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    from train.page import document

    material = document.gather(arguments)
    text = document.page(material)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    content = text.encode("utf-8", "backslashreplace")
    atomic.write_durably(arguments.out, content)
    for note in material.notes:
        print(note)
    print(f"report: {printable(arguments.out)} ({len(content) / 1e6:.1f} MB)")
    return 0
