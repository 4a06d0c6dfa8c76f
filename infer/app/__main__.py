"""Command line of the page: ``python -m infer.app``."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

# Before PyAV, see infer/__init__.py.
import cv2  # noqa: F401
import numpy as np

from infer import Predictor, load
from infer.prediction.model import BACKENDS
from pipeline.console import Parser, run
from pipeline.errors import InputError

PROG = "python -m infer.app"


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Serve a page that predicts recordings and shows them, on this machine alone.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "--model", type=Path, default=Path("data/model"), metavar="DIR", help="folder of the model"
    )
    top.add_argument(
        "--port", type=int, default=argparse.SUPPRESS, help="of 127.0.0.1 (default: a free one)"
    )
    top.add_argument(
        "--max-minutes", type=float, default=10.0, metavar="N", help="longest recording"
    )
    top.add_argument("--max-mb", type=float, default=500, metavar="N", help="largest file")
    top.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the model")
    return top


def serve(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    predictor = load(arguments.model, arguments.backend)
    # Before the library is imported: it would send figures about its use.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    try:
        from infer.app import page, serving
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "starlette"):
            raise
        raise InputError(
            "expected Gradio for the page, got none; run 'make setup-app' first, or install the "
            "extra [app]"
        ) from error
    limits = page.Limits(60 * arguments.max_minutes, arguments.max_mb)
    with serving.serving(predictor, getattr(arguments, "port", None), limits) as address:
        print(f"serving {address} until Ctrl-C", flush=True)
        threading.Thread(target=warm_up, args=(predictor,), daemon=True).start()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()
    return 0


def warm_up(predictor: Predictor) -> None:
    """Predict noise, so that what libraries load and compile on first use is ready.

    A model with a speaker reference cannot.
    """
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (50, 120, 160, 3), np.uint8)
    with contextlib.suppress(InputError):
        predictor.predict(frames=frames, audio=rng.normal(0, 0.1, 32_000), rate=16_000)


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""
    return run(lambda: serve(parser(prog).parse_args(words)), "the same command begins anew")


if __name__ == "__main__":
    sys.exit(main())
