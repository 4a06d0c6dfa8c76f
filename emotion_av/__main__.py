"""Command line in front of all packages: ``emotion-av COMMAND``, or ``python -m emotion_av``.

A command's own module is imported when that command is named, and no other: TensorFlow takes
seconds, and most commands do without it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from emotion_av import __version__

PROG = "emotion-av"


class Command(NamedTuple):
    """Where a command is carried out, and by which words; what it does, in one line."""

    module: str
    words: tuple[str, ...]
    help: str


def of_pipeline(name: str, said: str) -> Command:
    """Return a command of ``python -m pipeline``."""
    return Command("pipeline.__main__", (name,), said)


def of_train(name: str, said: str) -> Command:
    """Return a command of ``python -m train``."""
    return Command("train.__main__", (name,), said)


COMMANDS = {
    "sample": of_pipeline("sample", "write a small synthetic corpus"),
    "data": of_pipeline("data", "fetch a published corpus"),
    "face-model": of_pipeline("face-model", "fetch the file that --detector yunet needs"),
    "list": of_pipeline("list", "print what the raw folder holds"),
    "audit": of_pipeline("audit", "look for faults in the raw folder"),
    "plan": of_pipeline("plan", "how long and how large a corpus would be"),
    "features": of_pipeline("features", "raw clips to HDF5 shards"),
    "verify": of_pipeline("verify", "read a cache and name what is damaged"),
    "index": of_pipeline("index", "join what several runs cached into one index"),
    "prune": of_pipeline("prune", "list caches, remove those that are named"),
    "train": of_train("fit", "shards to a trained, tested model"),
    "evaluate": of_train("evaluate", "a trained model on actors of a cache"),
    "crossval": of_train("crossval", "every fold of a protocol, summarized"),
    "report": of_train("report", "one HTML page of a cache and a model"),
    "study": of_train("study", "named settings over splits and seeds, in one table"),
    "infer": Command("infer.__main__", (), "recordings to predictions and annotated videos"),
    "live": Command("infer.live.__main__", (), "predict a camera, a stream or a file live"),
    "app": Command("infer.app.__main__", (), "serve a page on this machine"),
    "explain": Command("infer.explain", (), "draw where the model looks"),
    "export": Command("infer.export.__main__", (), "write a trained model for other runtimes"),
    "doctor": Command("emotion_av.doctor", (), "what is installed here, and what is missing"),
}


def usage() -> str:
    """Return what ``--help`` prints."""
    lines = [f"usage: {PROG} COMMAND [options]", ""]
    lines += [f"  {name:11} {command.help}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", f"'{PROG} COMMAND --help' lists a command's options."])


def main(words: Sequence[str] | None = None) -> int:
    """Carry out the command that the words name, and return its exit code."""
    name, *rest = (sys.argv[1:] if words is None else words) or ["--help"]
    if name == "--version":
        print(f"{PROG} {__version__}")
        return 0
    if name in ("--help", "-h"):
        print(usage())
        return 0
    command = COMMANDS.get(name)
    if command is None:
        said = f"expected a command, got '{name}'; '{PROG} --help' lists them"
        print(f"error: {said}", file=sys.stderr)
        return 2
    # A package with commands of its own adds the name to what it is called.
    prog = PROG if command.words else f"{PROG} {name}"
    return importlib.import_module(command.module).main([*command.words, *rest], prog)


if __name__ == "__main__":
    sys.exit(main())
