"""Command line of the doctor: what is installed on this machine, and what each command lacks."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from emotion_av import __version__, steps
from pipeline.console import Parser, run

PROG = "python -m emotion_av doctor"

PIPELINE = {
    # Before PyAV, see infer/__init__.py.
    "opencv-python": "cv2",
    "av": "av",
    "numpy": "numpy",
    "scipy": "scipy.signal",
    "h5py": "h5py",
    "librosa": "librosa",
    "soxr": "soxr",
    "soundfile": "soundfile",
    "joblib": "joblib",
    "threadpoolctl": "threadpoolctl",
    "filelock": "filelock",
    "requests": "requests",
    "urllib3": "urllib3",
    "pooch": "pooch",
    "tqdm": "tqdm",
}
"""Distribution and module of what extracts features."""

INFERENCE = {"onnxruntime": "onnxruntime", "pympi-ling": "pympi", "matplotlib": "matplotlib.pyplot"}
"""What inference imports besides."""

TRAINING = {
    "scikit-learn": "sklearn.metrics",
    "tensorflow": "tensorflow",
    "tensorboard": "tensorboard",
    "onnx": "onnx",
    "tf2onnx": "tf2onnx",
}
"""What training imports besides."""

OPTIONAL = {
    "gradio": "make setup-app, or pip install gradio",
    "distributed": "make setup-cluster, or pip install distributed",
    "ray": "make setup-cluster, or pip install ray",
    "sounddevice": "pip install sounddevice, and PortAudio",
}
"""What some options need, and how to get it."""

SAME = {"opencv-python": ("opencv-python-headless", "opencv-contrib-python")}
"""Other distributions of the same module."""

DETECTOR = """
from pipeline.features import detectors
answer = detectors.default_detector()
detectors.require(answer)
"""
YUNET = """
from pipeline.features import detectors
answer = detectors.model_path() if detectors.model_path().exists() else ""
"""
GPUS = """
import tensorflow
answer = len(tensorflow.config.list_physical_devices("GPU"))
"""

BROWSERS = ("firefox", "chromium", "chromium-browser", "google-chrome", "microsoft-edge", "safari")
SETUP = "make setup, or pip install ."
SMALLEST_DISK_GIB = 1.0
ADDITIONS = 10_000_000


class Row(NamedTuple):
    """A line of the table; a fault is what the fixed commands cannot do without."""

    name: str
    found: str
    remedy: str = ""
    fault: bool = False


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or of one with the same module."""
    for name in (distribution, *SAME.get(distribution, ())):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def seconds_of_additions(count: int = ADDITIONS) -> float:
    """Measure how long this machine takes for additions in a loop of Python, in seconds."""
    started = time.perf_counter()
    total = 0
    for number in range(count):
        total += number
    return time.perf_counter() - started


def machine(data: Path) -> Iterator[Row]:
    """Look at what is no library."""
    good = (3, 10) <= sys.version_info[:2] <= (3, 13)
    yield Row("Python", platform.python_version(), "" if good else "use 3.10 to 3.13", not good)
    yield Row("system", f"{platform.system()} {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Row("cores", str(cores))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Row("memory", f"{memory / 2**30:.1f} GiB")
    taken = seconds_of_additions()
    yield Row("speed", f"{taken:.2f} s for ten million additions")
    yield disk(data)
    shown = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    page = "'live --serve 8000' shows a page instead of a window"
    yield Row("display", "yes" if shown else "none", "" if shown else page)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    found = "yes" if sys.platform == "darwin" else found
    yield Row("browser", found or "none", "" if found else "open the page's address elsewhere")


def disk(data: Path) -> Row:
    """Look at the place of raw clips, caches and models, or where it would be made."""
    place = next(path for path in (data, *data.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 2**30
    if not os.access(place, os.W_OK):
        return Row("disk", f"{place} cannot be written", "name another folder by --data", True)
    small = free < SMALLEST_DISK_GIB
    remedy = "free some, or name another folder by --data" if small else ""
    return Row("disk", f"{free:.1f} GiB free at {place}", remedy, small)


def libraries(failed: Mapping[str, str]) -> Iterator[Row]:
    """List what is installed; ``failed`` says why something cannot be imported."""
    for name in (*PIPELINE, *INFERENCE, *TRAINING):
        if name in failed:
            installed = version(name)
            found = f"{installed}: {failed[name]}" if installed else "not installed"
            yield Row(name, found, SETUP, True)
        else:
            yield Row(name, version(name) or "yes")
    for name, remedy in OPTIONAL.items():
        installed = version(name)
        yield Row(name, installed or "not installed", "" if installed else f"optional: {remedy}")


def devices(tried: Mapping[str, steps.Tried]) -> Iterator[Row]:
    """Say which GPUs and face detectors can be used."""
    gpus = tried["GPU"]
    seen = "none seen by TensorFlow" if gpus.answer == "0" else f"{gpus.answer} seen by TensorFlow"
    yield Row("GPU", "not known without TensorFlow" if gpus.error else seen)
    detector, yunet = tried["face detector"], tried["yunet"]
    yield Row(
        "face detector",
        f"none: {detector.error}" if detector.error else detector.answer,
        SETUP if detector.error else "",
        detector.error is not None,
    )
    yield Row(
        "face model", yunet.answer or "none", "" if yunet.answer else "optional: make face-model"
    )


def commands(failed: Mapping[str, str]) -> Iterator[Row]:
    """Say for each command what it lacks; ``failed`` holds what cannot be used."""
    infer = {**PIPELINE, **INFERENCE, "face detector": ""}
    needs = {
        "sample list audit plan data features verify index prune": {*PIPELINE, "face detector"},
        "train evaluate crossval report study explain export": {*infer, *TRAINING},
        "infer live": {*infer},
    }
    for names, wanted in needs.items():
        missing = [name for name in failed if name in wanted]
        found = f"missing: {', '.join(missing)}" if missing else "ready"
        yield Row(names, found, SETUP if missing else "", bool(missing))
    options = {"app": "gradio", "--backend dask": "distributed", "--backend ray": "ray"}
    options["live, the microphone"] = "sounddevice"
    for names, library in options.items():
        missing = [name for name in failed if name in infer and names == "app"]
        missing += [library] * (version(library) is None)
        found = f"missing: {', '.join(missing)}" if missing else "ready"
        yield Row(names, found, OPTIONAL[library] if missing else "")


def table(rows: Sequence[Row]) -> str:
    """Lay rows out in columns."""
    first = max(len(row.name) for row in rows)
    second = max((len(row.found) for row in rows if row.remedy), default=0)
    lines = [f"  {row.name:{first}}  {row.found:{second}}  {row.remedy}".rstrip() for row in rows]
    return "\n".join(lines)


def examine(arguments: argparse.Namespace) -> int:
    """Look at everything, print it, and return 1 if the fixed commands lack something."""
    note = "importing every library, which takes TensorFlow some seconds"
    print(note, file=sys.stderr, flush=True)
    modules = {**PIPELINE, **INFERENCE, **TRAINING}
    tasks = {name: f"import {module}" for name, module in modules.items()}
    tasks |= {"face detector": DETECTOR, "yunet": YUNET, "GPU": GPUS}
    tried = {step.name: step for step in steps.attempt(tasks)}
    failed = {name: step.error for name, step in tried.items() if step.error is not None}
    parts = {
        f"machine, for emotion-av {__version__}": [*machine(arguments.data), *devices(tried)],
        "libraries": list(libraries(failed)),
        "commands": list(commands(failed)),
    }
    for title, rows in parts.items():
        print(f"{title}\n{table(rows)}\n")
    faults = [row.name for rows in parts.values() for row in rows if row.fault]
    if faults:
        print(f"in the way: {'; '.join(faults)}")
        return 1
    print("features, train and infer have all they need")
    return 0


def parser(prog: str = PROG) -> argparse.ArgumentParser:
    """Describe every option."""
    top = Parser(
        prog=prog,
        description="Print what this machine has, and what each command lacks.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    top.add_argument(
        "--data", type=Path, default=Path("data"), metavar="DIR", help="folder of all results"
    )
    return top


def main(words: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Parse the command line, or other words, and run it."""
    return run(lambda: examine(parser(prog).parse_args(words)), "the same command begins anew")
