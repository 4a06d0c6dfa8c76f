"""Corpora by name, and the rates of a reference machine."""

from __future__ import annotations

from pipeline.planner.estimate import Case, Rates

YOUTUBE_HOURS_A_MINUTE = 500
YOUTUBE_CLIP_SECONDS = 10.0

CASES = {
    "ravdess": Case("RAVDESS", 2452, 3.9, 1280, 720, 29.97, 9.0),
    "crema_d": Case("CREMA-D", 7442, 2.5, 480, 360, 29.97, 1.05),
    # Chung, Nagrani & Zisserman 2018, "VoxCeleb2: Deep Speaker Recognition": 2,440 hours.
    "voxceleb2": Case("VoxCeleb2", 1_128_282, 2440 * 3600 / 1_128_282, 224, 224, 25.0, 0.4),
    "youtube": Case(
        "a day of YouTube",
        round(YOUTUBE_HOURS_A_MINUTE * 60 * 24 * 3600 / YOUTUBE_CLIP_SECONDS),
        YOUTUBE_CLIP_SECONDS,
        1280,
        720,
        30.0,
        2.8,
    ),
}
"""Corpora, with the mean length and the mean bit rate of their clips."""

REFERENCE = Rates(
    clip=0.014,
    video=0.023,
    megapixel=0.0007,
    megabit=0.011,
    variant=0.030,
    startup=2.7,
    write_bytes=5e8,
)
"""Of the two cores that docs/results.md was measured on; the disk is an assumption."""
