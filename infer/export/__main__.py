"""Command line of exports: ``python -m infer.export``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.console import Parser, run
from pipeline.errors import InputError
from train import description, runtime

PROG = "python -m infer.export"
FORMATS = ("onnx", "litert", "saved_model")


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Write a trained model in a format that needs no Keras.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument("--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder")
    top.add_argument("--format", choices=FORMATS, default="onnx", help="what to write")
    top.add_argument("--int8", action="store_true", help="store weights in 8 bits")
    top.add_argument(
        "--cache", type=Path, default=Path("data/cache"), metavar="DIR", help="rows to compare on"
    )
    return top


def export_command(arguments: argparse.Namespace) -> int:
    """Export, compare, print."""
    description.read(arguments.model)
    runtime.start_tensorflow()
    from infer.export import convert
    from train import artefact
    from train.export import cached_rows

    trained = artefact.load(arguments.model)
    path = convert.export(trained.model, arguments.model, arguments.format, arguments.int8)
    print(f"{path}: {convert.size_of(path) / 1e6:.1f} MB")
    try:
        tensors, label = cached_rows(arguments.cache, trained.spec.digest)
    except InputError as error:
        print(f"compared on made-up rows alone: {error}")
        return 0
    if set(trained.model.input) != set(tensors):
        print("compared on made-up rows alone: cached ones lack the speaker reference")
        return 0
    print(convert.judged(trained.model, convert.RUNNERS[arguments.format](path), tensors, label))
    return 0


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""
    return run(lambda: export_command(parser(prog).parse_args(words)))


if __name__ == "__main__":
    sys.exit(main())
