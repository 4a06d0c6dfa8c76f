"""Print one table of everything that is claimed about speed: ``python -m bench``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from pipeline.console import Parser, run
from pipeline.errors import InputError
from train import runtime

PARTS = ("extraction", "memory", "scale", "loading", "step", "inference")


def parser() -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "parts", nargs="*", default=PARTS, metavar="PART", help=f"out of {', '.join(PARTS)}"
    )
    top.add_argument(
        "--folder",
        type=Path,
        default=Path("data/bench"),
        metavar="DIR",
        help="where the measured files are made and kept",
    )
    top.add_argument(
        "--model",
        type=Path,
        default=Path("data/model"),
        metavar="DIR",
        help="model that inference is measured with",
    )
    top.add_argument(
        "--out",
        type=Path,
        default=Path("bench/results.json"),
        metavar="FILE",
        help="results as JSON",
    )
    return top


def line(result: dict) -> str:
    """Format one result."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:,.2f}" if value < 100 else f"{value:,.0f}"

    return (
        f"{result['what']:<52}{number(result['ours']):>9}  {result['against']:<38}"
        f"{number(result['theirs']):>9}{number(result['ratio']):>8}  {result['target']}"
    )


def bench(arguments: argparse.Namespace) -> int:
    """Measure the chosen parts, print each result as it comes, write them all."""
    if unknown := set(arguments.parts) - set(PARTS):
        raise InputError(
            f"expected parts out of {', '.join(PARTS)}, got "
            f"{', '.join(sorted(unknown))}; choose those"
        )
    arguments.folder.mkdir(parents=True, exist_ok=True)
    print(
        line(
            {
                "what": "what",
                "ours": None,
                "against": "against",
                "theirs": None,
                "ratio": None,
                "target": "target",
            }
        )
    )
    # What is not measured now stays as it was last measured.
    results = [kept for kept in read_results(arguments.out) if kept["part"] not in arguments.parts]
    device = None
    for part in PARTS:
        if part not in arguments.parts:
            continue
        # Feature workers are measured before TensorFlow is started beside them.
        if part not in ("extraction", "memory", "scale") and device is None:
            if "step" in arguments.parts and importlib.util.find_spec("torch"):
                # Triton, which comes with PyTorch, crashes if TensorFlow is there before it.
                importlib.import_module("torch._dynamo")
            device = runtime.start_tensorflow()
        for result in measure(part, arguments):
            results.append({"part": part, **result})
            print(line(result), flush=True)
    device = device or runtime.start_tensorflow()
    from train import artefact

    machine = {
        "device": device,
        "processor": platform.machine(),
        "python": platform.python_version(),
        "libraries": artefact.library_versions(),
    }
    results.sort(key=lambda result: PARTS.index(result["part"]))
    arguments.out.write_text(
        json.dumps({"machine": machine, "results": results}, indent=1), encoding="utf-8"
    )
    print(f"results: {arguments.out}")
    return 0


def measure(part: str, arguments: argparse.Namespace) -> Iterator[dict]:
    """Yield the results of one part as they come."""
    if part == "extraction":
        from bench import extraction

        return extraction.measure(arguments.folder)
    if part == "memory":
        from bench import memory

        return memory.measure(arguments.folder)
    if part == "scale":
        from bench import scale

        return scale.measure(arguments.folder)
    if part == "loading":
        from bench import loading

        return loading.measure(arguments.folder)
    if part == "step":
        from bench import step

        return step.measure()
    from bench import inference

    return inference.measure(arguments.folder, arguments.model)


def read_results(path: Path) -> list[dict]:
    """Read the results of an earlier run; none if there are none."""
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.is_file() else []


def main() -> int:
    """Parse the command line and run it."""
    arguments = parser().parse_args()
    return run(lambda: bench(arguments))


if __name__ == "__main__":
    sys.exit(main())
