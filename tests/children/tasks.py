"""Tasks that leave a file, on workers of any kind; some go wrong on purpose."""

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from pipeline import guard
from pipeline.errors import InputError


@dataclass(frozen=True)
class Task:
    folder: Path
    number: int
    kind: str = ""

    @property
    def path(self):
        return self.folder / f"{self.number}.done"

    def is_done(self):
        return self.path.exists()

    def attempts(self):
        return len(list(self.folder.glob(f"{self.number}.attempt-*")))


def do(task):
    """Do as the kind of task says; each attempt leaves a file."""
    attempts = task.attempts()
    where = {"pid": os.getpid(), "thread": threading.get_ident(), "modules": sorted(sys.modules)}
    (task.folder / f"{task.number}.attempt-{attempts}").write_text(json.dumps(where))
    if task.kind == "die" or (task.kind == "die once" and not attempts):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    if task.kind == "refuse":
        raise InputError("expected something else")
    if task.kind == "bug":
        raise ZeroDivisionError("a bug")
    if task.kind == "guarded":
        guard.call("misbehaviour:sleep", 600, task.folder / f"{task.number}.guard")
    if task.kind == "slow":
        time.sleep(0.3)
    task.path.write_text("")


def facts(item):
    """What collect returns: JSON of the item."""
    if item == "nan":
        return {"value": float("nan")}
    if item == "path":
        return Path("x")
    return {"item": item, "pid": os.getpid()}


def facts_or_die_once(item):
    number, folder = item
    note = folder / f"{number}.note"
    if number == 3 and not note.exists():
        note.write_text("")
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    return number
