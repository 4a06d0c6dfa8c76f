"""Ending early with whole files: Ctrl-C asks for an end, and a second one insists."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.console import raise_terminated

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether work is to end early, and how far it came."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.seconds = 0.0

    @property
    def asked(self) -> bool:
        """Whether a signal came."""
        return self.number is not None

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within the block, let the first Ctrl-C or SIGTERM ask, and the second one interrupt.

        Raises
        ------
        KeyboardInterrupt, Terminated
            After the block, if it was asked for.
        """
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.number == signal.SIGTERM:
            raise_terminated(signal.SIGTERM, None)

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.number = number
