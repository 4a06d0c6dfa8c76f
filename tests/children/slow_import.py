"""A module that takes its time to be imported."""

import time

time.sleep(1.5)


def echo(value):
    return value
