"""What a worker of the pipeline weighs; imports nothing that a worker does not."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from pipeline import workers
from pipeline.cache import extraction
from pipeline.corpora.catalogue import Catalog, Clip
from pipeline.spec import FeatureSpec


def extract_and_weigh(clip: Clip, root: Path) -> tuple[float, bool]:
    """Extract a clip in a worker and report on its process: peak in MB, and TensorFlow in it."""
    extraction.extract(clip, root, FeatureSpec())
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(line for line in status if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1000, "tensorflow" in sys.modules


def worker_memory(found: Catalog, jobs: int) -> tuple[float, bool]:
    """Peak memory of a worker in MB after clips with variants, and whether it has TensorFlow."""
    weigh = partial(extract_and_weigh, root=found.root)
    results = list(workers.in_order(weigh, found.clips, jobs, 0.0))
    return max(peak for peak, _ in results), any(loaded for _, loaded in results)
