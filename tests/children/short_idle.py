"""A child that waits for work no longer than a moment."""

import os

from pipeline import guard

guard.IDLE_SECONDS = 0.3


def pid():
    return os.getpid()
