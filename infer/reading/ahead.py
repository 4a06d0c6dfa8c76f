"""Doing the next things while the last ones are used: one thread that works ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], count: int) -> Iterator[Item]:
    """Let a thread make a few items before they are asked for.

    Parameters
    ----------
    items
        Anything but None, each made in the thread.
    count
        How many may wait: bounds memory.

    Yields
    ------
    object
        The items in their order. What making one raises is raised when it is asked for.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1) as thread:
        try:
            waiting.extend(thread.submit(next, items, None) for _ in range(count))
            while (item := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, items, None))
                yield item
        finally:
            for future in waiting:
                future.cancel()
