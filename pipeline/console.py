"""Progress bars, on a screen and in a log file."""

from __future__ import annotations

import sys
from typing import Any

import tqdm

LOG_SECONDS = 30.0


def bar(*items: Any, **options: Any) -> tqdm.tqdm:
    """Return tqdm's bar; where nobody watches it move, it is printed every half minute."""
    if not sys.stderr.isatty():
        options = {"mininterval": LOG_SECONDS, "maxinterval": LOG_SECONDS, **options}
    return tqdm.tqdm(*items, **options)
