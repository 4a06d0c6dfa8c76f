"""One clip in a worker: raw files to rows, or the reason why there are none.

Workers import this module and what it needs, and nothing that reads or writes shards.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2

from pipeline.cache.entries import Source
from pipeline.corpora import sources
from pipeline.corpora.catalogue import Clip
from pipeline.errors import MediaError
from pipeline.features import extract as features
from pipeline.features.extract import Row
from pipeline.spec import FeatureSpec


@dataclass(frozen=True)
class Extraction:
    """What a worker returns for one clip: rows, or the reason why there are none."""

    clip: Clip
    sources: tuple[Source, ...]
    rows: list[Row]
    reason: str | None = None


def extract(clip: Clip, root: Path, spec: FeatureSpec) -> Extraction:
    """Extract one clip in a worker; a file that cannot be read is a result, not an error."""
    cv2.setNumThreads(1)
    try:
        described = tuple(sources.describe(path, root) for path in clip.sources)
    except OSError as error:
        reason = f"expected a readable file, got: {error.strerror}; check its permissions"
        return Extraction(clip, (), [], reason)
    try:
        return Extraction(clip, described, features.extract_clip(clip, spec))
    except MediaError as error:
        return Extraction(clip, described, [], str(error))
