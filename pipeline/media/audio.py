"""The only reader of audio: path to waveform.

Time zero of a file is its first frame where it has video, else its first audio sample, so that a
wav recorded with a video and the video's own track share one clock.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from pipeline.errors import MediaError
from pipeline.media.container import (
    SAMPLE_RATES_HZ,
    Damage,
    MissingStreamError,
    decoded,
    opened,
    origin_seconds,
    refuse_long,
    refuse_truncated,
    refuse_undecodable,
    seconds_of,
    stated_end_seconds,
)

MAX_UNTIMED_SAMPLES = 1 << 24
"""Most samples, over all channels, that wait for the first time stamp of their stream."""

HOLE_SECONDS = 0.1
"""Longest time from the end of a block to the next one's stamp that is no hole: stamps are rounded,
and some muxers guess them."""

LOUDEST = 1e9
"""Of a float wav, whose samples should be within 1: powers of spectra stay finite below it."""

TimedBlock: TypeAlias = tuple[NDArray[np.float32], Fraction | None]
"""Samples, shape (channels, samples), and the time stamp of the first, if there is one."""


@contextmanager
def opened_audio(
    path: Path, damage: Damage | None = None
) -> Iterator[tuple[int, Iterator[NDArray[np.float32]]]]:
    """Open the first audio stream of a file, to be decoded block by block.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    damage
        Takes what is damaged, which is left out; None refuses it.

    Yields
    ------
    sample_rate_hz : int
    blocks : iterator of ndarray of float32, shape (channels, samples)
        Nominally in [-1, 1]. The first sample is at time zero of the file: audio that starts later
        is preceded by zeros, audio that starts earlier loses its head. Zeros fill its holes.

    Raises
    ------
    MediaError
        If there is no usable audio; while the blocks are read, if it changes on the way, is too
        long, or ends well before the header says.
    """
    with opened(path) as container:
        if not container.streams.audio:
            raise MissingStreamError(
                f"expected audio in {path}, got no audio stream; add a wav of the same take"
            )
        stream = container.streams.audio[0]
        refuse_undecodable(path, stream)
        refuse_odd_rate(path, stream)
        timed = timed_blocks(path, container, stream, damage)
        head = up_to_first_time(timed)
        if not head:
            raise MediaError(
                f"expected audio in {path}, got an empty audio stream; copy or download it again"
            )
        # A decoder may know better than the header.
        refuse_odd_rate(path, stream)
        late_seconds = (head[-1][1] or 0) - origin_seconds(container)
        blocks = without_holes(
            itertools.chain(head, timed), stream.rate, stated_end_seconds(container)
        )
        yield stream.rate, placed_blocks(path, stream, blocks, late_seconds, damage)


def refuse_odd_rate(path: Path, stream: av.audio.stream.AudioStream) -> None:
    """Raise if audio has a rate that no recording has."""
    slowest, fastest = SAMPLE_RATES_HZ
    if not slowest <= (stream.rate or 0) <= fastest:
        raise MediaError(
            f"expected audio of {slowest} to {fastest} Hz in {path}, got {stream.rate}; "
            "export it again"
        )


def timed_blocks(
    path: Path,
    container: av.container.InputContainer,
    stream: av.audio.stream.AudioStream,
    damage: Damage | None = None,
) -> Iterator[TimedBlock]:
    """Decode audio to blocks with their time stamps."""
    # Not planar: PyAV reads past the end of the planes of eight channels.
    resampler = av.AudioResampler(format="flt")
    for frame in decoded(path, container, stream, damage):
        start_seconds = None if frame.pts is None else frame.pts * frame.time_base
        try:
            parts = resampler.resample(frame)
        except ValueError as error:
            raise MediaError(
                f"expected one rate and layout of audio in {path}, got a change on the way; "
                "export it again"
            ) from error
        for part in parts:
            channels = part.layout.nb_channels
            block = part.to_ndarray().reshape(-1, channels).T
            yield np.ascontiguousarray(block), start_seconds


def up_to_first_time(timed: Iterator[TimedBlock]) -> list[TimedBlock]:
    """Take blocks up to the first with a time stamp, which stands for the start of them all."""
    head: list[TimedBlock] = []
    held = 0
    for block, start_seconds in timed:
        head.append((block, start_seconds))
        held += block.size
        if start_seconds is not None or held > MAX_UNTIMED_SAMPLES:
            break
    return head


def without_holes(
    timed: Iterable[TimedBlock], rate: int, stated_end_seconds: float
) -> Iterator[NDArray[np.float32]]:
    """Put silence where time stamps say that some audio is missing.

    Parameters
    ----------
    timed
        Blocks and their time stamps.
    rate
        Samples a second.
    stated_end_seconds
        Time stamp at which the file ends by its header. A later one is damaged.
    """
    # Where the audio ends up to now; not known before the first time stamp.
    end_seconds = math.inf
    for block, stamp in timed:
        start_seconds = end_seconds
        if stamp is not None and math.isinf(end_seconds):
            start_seconds = float(stamp)
        elif stamp is not None and end_seconds + HOLE_SECONDS < stamp < stated_end_seconds:
            start_seconds = float(stamp)
            yield from silence(len(block), round((start_seconds - end_seconds) * rate), rate)
        yield block
        end_seconds = start_seconds + block.shape[1] / rate


def silence(channels: int, samples: int, rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield zeros, shape (channels, samples), at most a second at a time."""
    for first in range(0, samples, rate):
        yield np.zeros((channels, min(rate, samples - first)), np.float32)


def placed_blocks(
    path: Path,
    stream: av.audio.stream.AudioStream,
    blocks: Iterator[NDArray[np.float32]],
    late_seconds: Fraction,
    damage: Damage | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Put silence before blocks that start late, or drop the head of those that start early."""
    rate, taken = stream.rate, 0
    refuse_long(path, float(abs(late_seconds)))
    late = round(late_seconds * rate)
    early = max(0, -late)
    for block in blocks:
        yield from silence(len(block), late, rate)
        late = 0
        taken += block.shape[1]
        refuse_long(path, abs(late_seconds) + taken / rate)
        yield block[:, early:]
        early = max(0, early - block.shape[1])
    refuse_truncated(path, "audio", seconds_of(stream), taken / rate, damage)


def read_waveform(
    path: Path, sample_rate_hz: int, resampler: str = "soxr_hq"
) -> NDArray[np.float32]:
    """Decode audio to mono at a given rate, as ``librosa.load`` does.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    sample_rate_hz
        Rate of the result.
    resampler
        A recipe of soxr's.

    Returns
    -------
    ndarray of float32, shape (samples,)
        Mean of the channels.

    Raises
    ------
    MediaError
        If there is no usable audio.

    Notes
    -----
    Mixed down and resampled block by block: memory follows the length of the result, whatever the
    file's rate and channels. The numbers are those of ``librosa.to_mono`` and ``librosa.resample``.
    """
    # Grows in place: a list of blocks would be there twice while it is joined.
    held = bytearray()
    for block in waveform_blocks(path, sample_rate_hz, resampler):
        held += block.data
    if not held:
        raise MediaError(
            f"expected audio beside the video in {path}, got audio that ends before the first "
            "frame; export it again or add a wav of the same take"
        )
    return np.frombuffer(held, np.float32)


def waveform_blocks(
    path: Path, sample_rate_hz: int, resampler: str = "soxr_hq", damage: Damage | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode what :func:`read_waveform` does, block by block, shape (samples,) each.

    See :func:`opened_audio` for ``damage``.
    """
    with opened_audio(path, damage) as (rate, blocks):
        yield from resampled(mono_blocks(path, blocks), rate, sample_rate_hz, resampler)


def mono_blocks(path: Path, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Mix blocks, shape (channels, samples), down to (samples,), and refuse what is no number."""
    for block in blocks:
        mono = mean_of_channels(block)
        # A comparison with NaN is false.
        if not (np.abs(mono) < LOUDEST).all():
            raise MediaError(
                f"expected samples of about -1 to 1 in {path}, got {LOUDEST:g}, infinity or NaN; "
                "export it again"
            )
        yield mono


def mean_of_channels(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over channels, shape (samples,); added in their order, whatever the block's length."""
    total = block[0].copy()
    for channel in block[1:]:
        total += channel
    total /= len(block)
    return total


def resampled(
    blocks: Iterator[NDArray[np.float32]], rate_hz: int, wanted_hz: int, resampler: str
) -> Iterator[NDArray[np.float32]]:
    """Resample a waveform that comes in blocks, shape (samples,) each."""
    if rate_hz == wanted_hz:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate_hz, wanted_hz, 1, "float32", resampler)
    taken = given = 0
    for block in blocks:
        taken += len(block)
        made = stream.resample_chunk(block)
        given += len(made)
        yield made
    # What the filter still holds, cut or padded to the length that the rates give.
    made = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    left = max(0, math.ceil(taken * (wanted_hz / rate_hz)) - given)
    yield np.pad(made[:left], (0, max(0, left - len(made))))
