"""Work that goes wrong on purpose; children and workers find this module through PYTHONPATH.

The hooks of child processes are in no other module: importing this one costs nothing.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

STARTED_SECONDS = time.monotonic()


def echo(value):
    return value


def pid():
    return os.getpid()


def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)


def die_once(note):
    """Leave a note and die; live where the note is there."""
    note = Path(note)
    if not note.exists():
        note.write_text("")
        die()
    return "alive"


def hang_in_c(note=None):
    """Sleep in C with the interpreter lock held: no Python code of this process runs any more."""
    if note:
        Path(note).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)


def sleep(seconds, note=None):
    if note:
        Path(note).write_text(str(os.getpid()))
    time.sleep(seconds)
    return seconds


def fail(text="no reason"):
    raise ZeroDivisionError(text)


class Mute(Exception):
    def __init__(self, first, second):
        super().__init__(first)

    def __str__(self):
        raise RuntimeError("no words")


def fail_without_words():
    raise Mute(1, threading.Lock())


def run_out_of_memory():
    raise MemoryError(threading.Lock())


def leave(code):
    sys.exit(code)


def talk():
    print("from Python")
    sys.stdout.flush()
    libc = ctypes.CDLL(None)
    libc.puts(b"from C")
    libc.fflush(None)
    os.write(1, b"to the descriptor")
    return sys.stdin.read()


def big(count):
    return b"x" * count


def unpicklable():
    return threading.Lock()


class Poisoned:
    def __reduce__(self):
        return fail, ("while it is read",)


def poisoned():
    return Poisoned()
