"""The arithmetic of a plan: a corpus, a spec and the rates of a machine to hours and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.spec import FeatureSpec

CLIP_NOTE_BYTES = 1400
"""What manifest and index say of a clip, about."""

DECODE, FEATURES, WRITING, STORAGE = "decoding", "features", "write bandwidth", "storage"
"""What may bind: the two halves of the work on a clip, how fast bytes are written, their room."""


@dataclass(frozen=True)
class Case:
    """A corpus of equal clips.

    Parameters
    ----------
    title
        What it is.
    clips
        How many.
    seconds
        Length of each.
    width_px, height_px, frame_rate
        Of the video; a height of 0 is audio alone.
    megabits
        Of video a second.
    """

    title: str
    clips: int
    seconds: float
    width_px: int
    height_px: int
    frame_rate: float
    megabits: float

    @property
    def hours(self) -> float:
        """Length of all clips."""
        return self.clips * self.seconds / 3600


@dataclass(frozen=True)
class Rates:
    """What a machine needs, in seconds of one of its cores with all of them at work.

    Parameters
    ----------
    clip
        For each clip: audio, checks, and its clean row.
    video
        Further for each clip with video: faces, and the frames of its row.
    megapixel, megabit
        For each million pixels, and each million bits, that are decoded.
    variant
        For each augmented row.
    startup
        Until the workers begin, in all.
    write_bytes
        Bytes written a second, the whole machine.
    """

    clip: float
    video: float
    megapixel: float
    megabit: float
    variant: float
    startup: float
    write_bytes: float


@dataclass(frozen=True)
class Estimate:
    """A plan for one case.

    Parameters
    ----------
    rows, cache_bytes
        What the cache holds.
    core_seconds
        Work on all clips; ``decode_share`` of it, from 0 to 1, is decoding.
    decode_share
        See there.
    work_seconds, write_seconds
        How long the work takes on all cores, and how long the disk writes; they overlap.
    seconds
        How long it takes: startup, and the longer of both.
    binds
        What limits it: one of ``DECODE``, ``FEATURES``, ``WRITING`` and ``STORAGE``.
    """

    rows: int
    cache_bytes: int
    core_seconds: float
    decode_share: float
    work_seconds: float
    write_seconds: float
    seconds: float
    binds: str

    @property
    def needed_write_bytes(self) -> float:
        """Bytes a second that would have to be written so that the disk does not slow the cores."""
        return self.cache_bytes / self.work_seconds if self.work_seconds else 0.0


def decoded_seconds(case: Case, spec: FeatureSpec) -> float:
    """Length of video that is decoded of a clip: all that comes before the window's last frame.

    The window is where the voice is, which is in the middle of the clip on the average.
    """
    stretch = spec.window_seconds * spec.frames_margin
    return min(case.seconds, (case.seconds + stretch) / 2)


def cache_bytes(clips: int, spec: FeatureSpec) -> int:
    """Size of a cache: the tensors, and what is noted of each clip."""
    return clips * (len(spec.row_names) * spec.row_bytes + CLIP_NOTE_BYTES)


def estimate(
    case: Case, spec: FeatureSpec, rates: Rates, cores: int, storage_bytes: float | None = None
) -> Estimate:
    """Plan the extraction of a corpus.

    Parameters
    ----------
    case
        The corpus.
    spec
        Gives rows a clip, bytes a row and the stretch that is decoded.
    rates
        Of the machine.
    cores
        How many of them work.
    storage_bytes
        Room for the cache; None if there is enough.
    """
    second = case.width_px * case.height_px * case.frame_rate / 1e6 * rates.megapixel
    second += (case.megabits if case.height_px else 0.0) * rates.megabit
    decoding = second * decoded_seconds(case, spec)
    features = (
        rates.clip + (rates.video if case.height_px else 0.0) + rates.variant * len(spec.variants)
    )
    core_seconds = case.clips * (decoding + features)
    size = cache_bytes(case.clips, spec)
    work, writing = core_seconds / cores, size / rates.write_bytes
    if storage_bytes is not None and size > storage_bytes:
        binds = STORAGE
    elif writing > work:
        binds = WRITING
    else:
        binds = DECODE if decoding > features else FEATURES
    return Estimate(
        rows=case.clips * len(spec.row_names),
        cache_bytes=size,
        core_seconds=core_seconds,
        decode_share=case.clips * decoding / core_seconds if core_seconds else 0.0,
        work_seconds=work,
        write_seconds=writing,
        seconds=rates.startup + max(work, writing),
        binds=binds,
    )


def cost(
    found: Estimate, price_core_hour: float, price_gigabyte_month: float
) -> tuple[float, float]:
    """Price of the work, and of a month of storage, in the unit of the prices.

    Cores are paid for as long as they are held, also while they wait for the disk.
    """
    held = found.core_seconds * max(1.0, found.write_seconds / max(found.work_seconds, 1e-9))
    return price_core_hour * held / 3600, price_gigabyte_month * found.cache_bytes / 1e9
