"""One clip in a child process: raw files to rows, or the reason why there are none.

The child imports this module, and with it OpenCV, FFmpeg and librosa; nobody else does.
"""

from __future__ import annotations

from pathlib import Path

import cv2

from pipeline.cache.facts import ClipEntry
from pipeline.cache.format import CachedRow, ClipRows
from pipeline.corpora import sources
from pipeline.corpora.clip import Clip
from pipeline.errors import MediaError
from pipeline.features.extract import extract_clip
from pipeline.spec import FeatureSpec

cv2.setNumThreads(1)


def extract(clip: Clip, shard: str, root: Path, spec: FeatureSpec) -> ClipRows:
    """Extract one clip of a shard; a file that cannot be read is a result, not an error."""
    identity = clip.id, clip.actor, clip.emotion, shard
    try:
        described = tuple(sources.describe(path, root) for path in clip.sources)
    except OSError as error:
        reason = f"expected a readable file, got: {error.strerror}; check its permissions"
        return ClipEntry(*identity, (), reason=reason, transient=True), ()
    try:
        rows = extract_clip(clip, spec)
    except MediaError as error:
        return ClipEntry(*identity, described, reason=str(error)), ()
    entry = ClipEntry(
        *identity,
        described,
        face_found=rows[0].face_found,
        has_audio=rows[0].has_audio,
        has_video=rows[0].has_video,
    )
    return entry, [CachedRow(*row.features) for row in rows]
