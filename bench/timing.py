"""How a time is taken: alternately, several times, medians, ratios within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def medians(rounds: int, **works: Callable[[], object]) -> dict[str, float]:
    """Median wall time of several pieces of work, run in turn so that noise meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in times.items()}
