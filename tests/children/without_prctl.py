"""A child that no system kills when its parent vanishes, as on macOS."""

import ctypes
import os

from misbehaviour import hang_in_c  # noqa: F401

from pipeline import guard

guard.BACKSTOP_SECONDS = 0.5
ctypes.CDLL(None).prctl(guard.PR_SET_PDEATHSIG, 0)


def pid():
    return os.getpid()
