"""Small pieces of code, tried in another process: one that raises or crashes ends no more than it.

What is imported here may fail in any way: a missing file of the system, another version of another
library, an instruction that the processor lacks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

CHILD = """
import json, os, sys
# What libraries print, by way of Python or not, is no answer.
answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
os.dup2(2, 1)
for name, code in json.load(sys.stdin):
    scope = {}
    exec(code, scope)
    print(json.dumps([name, str(scope.get("answer", ""))]), file=answers, flush=True)
"""


class Tried(NamedTuple):
    """What became of a step: its answer, or why it failed."""

    name: str
    answer: str = ""
    error: str | None = None


def attempt(steps: Mapping[str, str]) -> Iterator[Tried]:
    """Carry out steps in order, in one process for as long as none fails.

    Parameters
    ----------
    steps
        Code of each, by name. What it calls ``answer`` is its answer.

    Yields
    ------
    Tried
        For each step.
    """
    left = list(steps.items())
    while left:
        done, reason = run(left)
        for name, answer in done:
            yield Tried(name, answer)
        left = left[len(done) :]
        if left:
            yield Tried(left.pop(0)[0], error=reason)


def run(steps: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], str]:
    """Return the answers before the first failure, and what the failure was."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # TensorFlow's build facts are no reason for anything.
    quiet = {"PYTHONPATH": path, "PYTHONSAFEPATH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        child = subprocess.run(
            [sys.executable, "-c", CHILD],
            input=json.dumps(steps),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **quiet},
            check=False,
        )
        errors.seek(0)
        said = [line.strip() for line in errors if line.strip()]
    done = [(name, answer) for name, answer in map(json.loads, child.stdout.splitlines())]
    if child.returncode < 0:
        return done, f"ended by {signal.Signals(-child.returncode).name}"
    return done, said[-1] if said else f"exit code {child.returncode}"
