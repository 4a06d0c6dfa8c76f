"""The only reader of media: path to waveform, path to RGB pictures at given times.

Time zero of a file is its first picture where it has video, else its first sound sample, so that a
wav recorded with a video and the video's own track share one clock.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from pipeline.container import (
    MAX_SECONDS,
    SAMPLE_RATES_HZ,
    TRUNCATION_SECONDS,
    first_video,
    guarded,
    opened,
    origin_seconds,
    refuse_large,
    refuse_long,
    refuse_undecodable,
    seconds_of,
)
from pipeline.errors import MediaError

MAX_PICTURE_SIDE_PX = 640
"""Larger pictures are scaled down while they are converted: time and memory do not follow the
camera, and a face that fills a fifth of the picture still has the 112 pixels of a frame tensor."""

RESAMPLER = "soxr_hq"

MAX_UNTIMED_SAMPLES = 1 << 24
"""Most samples, over all channels, that wait for the first time stamp of their stream."""

MAX_HELD_SAMPLES = 2 * 48_000 * MAX_SECONDS
"""Most samples that are held at their own rate: stereo of 48 kHz and the greatest length."""

FALLBACK_GAP_SECONDS = 0.04
"""How long a picture is shown where the file says nothing about it."""


class Shown(NamedTuple):
    """A decoded frame and what its file says about time.

    Parameters
    ----------
    frame
        The frame. It outlives its file; a stream does not, so none is handed out.
    start_seconds, end_seconds
        When it appears, and when it goes if no other follows, since the first picture.
    gap_seconds
        Average time from picture to picture.
    stated_seconds
        Length of the stream by its header; 0 where it states none.
    """

    frame: av.VideoFrame
    start_seconds: float
    end_seconds: float
    gap_seconds: float
    stated_seconds: float


@contextmanager
def opened_sound(path: Path) -> Iterator[tuple[int, Iterator[NDArray[np.float32]]]]:
    """Open the first audio stream of a file, to be decoded block by block.

    Parameters
    ----------
    path
        Any file FFmpeg can open.

    Yields
    ------
    sample_rate_hz : int
    blocks : iterator of ndarray of float32, shape (channels, samples)
        Nominally in [-1, 1]. The first sample is at time zero of the file: sound that starts later
        is preceded by zeros, sound that starts earlier loses its head.

    Raises
    ------
    MediaError
        If there is no usable sound; while the blocks are read, if it changes on the way, is too
        long, or ends well before the header says.
    """
    with opened(path) as container:
        if not container.streams.audio:
            raise MediaError(
                f"expected sound in {path}, got no audio stream; add a wav of the same take"
            )
        stream = container.streams.audio[0]
        refuse_undecodable(path, stream)
        refuse_odd_rate(path, stream)
        timed = timed_blocks(path, container, stream)
        head, start_seconds = blocks_to_first_time(timed)
        if not head:
            raise MediaError(
                f"expected sound in {path}, got an empty audio stream; copy or download it again"
            )
        # A decoder may know better than the header.
        refuse_odd_rate(path, stream)
        blocks = itertools.chain(head, (block for block, _ in timed))
        late_seconds = (start_seconds or 0) - origin_seconds(container)
        yield stream.rate, placed_blocks(path, stream, blocks, late_seconds)


def refuse_odd_rate(path: Path, stream: av.audio.stream.AudioStream) -> None:
    """Raise if sound has a rate that no recording has."""
    slowest, fastest = SAMPLE_RATES_HZ
    if not slowest <= (stream.rate or 0) <= fastest:
        raise MediaError(
            f"expected sound of {slowest} to {fastest} Hz in {path}, got {stream.rate}; "
            "export it again"
        )


def timed_blocks(
    path: Path, container: av.container.InputContainer, stream: av.audio.stream.AudioStream
) -> Iterator[tuple[NDArray[np.float32], Fraction | None]]:
    """Decode sound to blocks, shape (channels, samples), with the time stamp of each, if any."""
    # Not planar: PyAV reads past the end of the planes of eight channels.
    resampler = av.AudioResampler(format="flt")
    for frame in guarded(path, container.decode(stream)):
        start_seconds = None if frame.pts is None else frame.pts * frame.time_base
        try:
            parts = resampler.resample(frame)
        except ValueError as error:
            raise MediaError(
                f"expected one rate and layout of sound in {path}, got a change on the way; "
                "export it again"
            ) from error
        for part in parts:
            channels = part.layout.nb_channels
            block = part.to_ndarray().reshape(-1, channels).T
            yield np.ascontiguousarray(block), start_seconds


def blocks_to_first_time(
    timed: Iterator[tuple[NDArray[np.float32], Fraction | None]],
) -> tuple[list[NDArray[np.float32]], Fraction | None]:
    """Take blocks up to the first with a time stamp, which stands for the start of them all."""
    head: list[NDArray[np.float32]] = []
    held = 0
    for block, start_seconds in timed:
        head.append(block)
        held += block.size
        if start_seconds is not None or held > MAX_UNTIMED_SAMPLES:
            return head, start_seconds
    return head, None


def placed_blocks(
    path: Path,
    stream: av.audio.stream.AudioStream,
    blocks: Iterator[NDArray[np.float32]],
    late_seconds: Fraction,
) -> Iterator[NDArray[np.float32]]:
    """Put silence before blocks that start late, or drop the head of those that start early."""
    rate, decoded = stream.rate, 0
    refuse_long(path, abs(late_seconds))
    late = round(late_seconds * rate)
    early = max(0, -late)
    for block in blocks:
        for first in range(0, late, rate):
            yield np.zeros((len(block), min(rate, late - first)), np.float32)
        late = 0
        decoded += block.shape[1]
        refuse_long(path, abs(late_seconds) + decoded / rate)
        yield block[:, early:]
        early = max(0, early - block.shape[1])
    refuse_truncated(path, "sound", seconds_of(stream), decoded / rate)


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """Decode the first audio stream at its own rate, all channels, as a whole.

    Parameters
    ----------
    path
        Any file FFmpeg can open.

    Returns
    -------
    waveform : ndarray of float32, shape (samples, channels)
        See :func:`opened_sound`.
    sample_rate_hz : int

    Raises
    ------
    MediaError
        If there is no usable sound, or more than ``MAX_HELD_SAMPLES``.
    """
    held: list[NDArray[np.float32]] = []
    samples = 0
    with opened_sound(path) as (rate, blocks):
        for block in blocks:
            held.append(block)
            samples += block.size
            if samples > MAX_HELD_SAMPLES:
                raise MediaError(
                    f"expected at most {MAX_HELD_SAMPLES / 1e9:.1f} billion samples of sound in "
                    f"{path}, got more; export it in stereo at 48 kHz, or cut it into parts"
                )
    return np.concatenate(held, axis=1).T, rate


def read_waveform(path: Path, sample_rate_hz: int) -> NDArray[np.float32]:
    """Decode sound to mono at a given rate, as ``librosa.load`` does.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    sample_rate_hz
        Rate of the result; resampled with soxr.

    Returns
    -------
    ndarray of float32, shape (samples,)
        Mean of the channels.

    Raises
    ------
    MediaError
        If there is no usable sound.

    Notes
    -----
    Mixed down and resampled block by block: memory follows the length of the result, whatever the
    file's rate and channels. The numbers are those of ``librosa.to_mono`` and ``librosa.resample``.
    """
    with opened_sound(path) as (rate, blocks):
        return resampled(mono_blocks(path, blocks), rate, sample_rate_hz)


def mono_blocks(path: Path, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Mix blocks, shape (channels, samples), down to (samples,), and refuse what is no number."""
    for block in blocks:
        mono = mean_of_channels(block)
        if not np.isfinite(mono).all():
            raise MediaError(
                f"expected finite samples in {path}, got NaN or infinity; export it again"
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
    blocks: Iterator[NDArray[np.float32]], rate_hz: int, wanted_hz: int
) -> NDArray[np.float32]:
    """Resample a waveform that comes in blocks, shape (samples,) each."""
    # Grows in place: a list of blocks would be there twice while it is joined.
    heard, samples = bytearray(), 0
    stream = soxr.ResampleStream(rate_hz, wanted_hz, 1, "float32", RESAMPLER)
    for block in blocks:
        samples += len(block)
        heard += (block if rate_hz == wanted_hz else stream.resample_chunk(block)).data
    if rate_hz != wanted_hz:
        heard += stream.resample_chunk(np.zeros(0, np.float32), last=True).data
        surplus = math.ceil(samples * (wanted_hz / rate_hz)) - len(heard) // 4
        heard += bytes(4 * max(0, surplus))
        del heard[len(heard) + 4 * min(0, surplus) :]
    return np.frombuffer(heard, np.float32)


def refuse_truncated(path: Path, what: str, stated_seconds: float, seconds: float) -> None:
    """Raise if a stream ended well before its header's length."""
    if seconds < stated_seconds - TRUNCATION_SECONDS:
        raise MediaError(
            f"expected {stated_seconds:.2f} s of {what} in {path}, got "
            f"{seconds:.2f} s; the file is cut short, copy it again"
        )


def read_pictures(
    path: Path, times_seconds: Sequence[float], threads: int = 1, reference_only: bool = False
) -> list[NDArray[np.uint8] | None]:
    """Decode the pictures that are on screen at given times, in any order.

    See :func:`pictures_at`.
    """
    order = sorted(range(len(times_seconds)), key=times_seconds.__getitem__)
    pictures: list[NDArray[np.uint8] | None] = [None] * len(order)
    ascending = [times_seconds[place] for place in order]
    for place, picture in zip(
        order, pictures_at(path, ascending, threads, reference_only), strict=True
    ):
        pictures[place] = picture
    return pictures


def pictures_at(
    path: Path, times_seconds: Sequence[float], threads: int = 1, reference_only: bool = False
) -> Iterator[NDArray[np.uint8] | None]:
    """Decode, one after the other, the pictures that are on screen at given times.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    times_seconds
        Times since the first picture, ascending.
    threads
        FFmpeg's decoding threads; 0 lets it choose.
    reference_only
        Whether to decode only the frames that others refer to, without smoothing their blocks.
        Takes half the time on video with B-frames; a picture may then be its neighbour's.

    Yields
    ------
    ndarray of uint8, shape (height, width, 3), or None
        RGB, upright, the long side at most ``MAX_PICTURE_SIDE_PX``; None for times before the
        first or after the last picture.

    Raises
    ------
    MediaError
        If there is no video, or it ends well before the header says and a time is missing.
    """
    waiting = deque(times_seconds)
    while waiting and waiting[0] < 0:
        waiting.popleft()
        yield None
    if not waiting:
        return
    shown: Shown | None = None
    for following in timed_frames(path, waiting[0], threads, reference_only):
        if shown is not None:
            # Every other frame is missing then: half a gap earlier, one stands for its neighbours.
            early = shown.gap_seconds if reference_only else 0.0
            yield from take_until(shown, following.start_seconds - early, waiting)
        shown = following
        if not waiting:
            return
    if shown is None:
        raise MediaError(
            f"expected pictures in {path}, got an empty video stream; copy or download it again"
        )
    yield from take_until(shown, shown.end_seconds, waiting)
    if waiting:
        refuse_truncated(path, "video", shown.stated_seconds, shown.end_seconds)
    yield from [None] * len(waiting)


def take_until(
    shown: Shown, end_seconds: float, waiting: deque[float]
) -> Iterator[NDArray[np.uint8]]:
    """Yield a frame as often as times before ``end_seconds`` wait for it, and take those away."""
    picture = None
    while waiting and waiting[0] < end_seconds:
        waiting.popleft()
        if picture is None:
            picture = upright_rgb(shown.frame)
        yield picture


def read_consecutive_pictures(
    path: Path, start_seconds: float, count: int, threads: int = 1
) -> list[NDArray[np.uint8] | None]:
    """Decode the first ``count`` pictures shown from a time on; missing ones are None."""
    pictures: list[NDArray[np.uint8] | None] = []
    shown: Shown | None = None
    for following in timed_frames(path, start_seconds, threads):
        # A frame lasts until the next one, whatever the file says about its duration.
        if shown is not None and following.start_seconds > start_seconds:
            pictures.append(upright_rgb(shown.frame))
        if len(pictures) == count:
            return pictures
        shown = following
    if shown is not None and shown.end_seconds > start_seconds:
        pictures.append(upright_rgb(shown.frame))
    return pictures + [None] * (count - len(pictures))


def every_picture(
    path: Path, max_side_px: int, threads: int = 0
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield each picture of a file with its time in seconds since the first, upright RGB."""
    for shown in timed_frames(path, 0.0, threads):
        # To be looked at: four times cheaper than by areas where nothing is scaled.
        yield shown.start_seconds, upright_rgb(shown.frame, max_side_px, "BILINEAR")


def picture_times(path: Path) -> NDArray[np.float64]:
    """Read when each picture of a file appears, in seconds, sorted, without decoding any.

    Raises
    ------
    MediaError
        If there is no video.
    """
    with opened(path) as container:
        stream = video_stream(container, path, threads=1)
        stamps = (
            packet.dts if packet.pts is None else packet.pts
            for packet in guarded(path, container.demux(stream))
        )
        times = [float(stamp * stream.time_base) for stamp in stamps if stamp is not None]
    return np.sort(np.array(times, np.float64))


def video_stream(
    container: av.container.InputContainer, path: Path, threads: int, reference_only: bool = False
) -> av.video.stream.VideoStream:
    """Return the first video stream, set up to decode with the given threads and shortcuts."""
    stream = first_video(container)
    if stream is None:
        raise MediaError(
            f"expected video in {path}, got no video stream; give a file with pictures"
        )
    refuse_large(path, stream)
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.codec_context.thread_count = threads
    if reference_only:
        stream.codec_context.skip_frame = "NONREF"
        context = stream.codec_context
        context.options = {**context.options, "skip_loop_filter": "all"}
    return stream


def timed_frames(
    path: Path, from_seconds: float, threads: int, reference_only: bool = False
) -> Iterator[Shown]:
    """Yield frames in the order of their times, beginning with one at ``from_seconds`` or before.

    Where a container cannot seek, or lands behind the time asked for, it is read from its start.
    """
    if from_seconds > 0:
        found = frames_from(path, from_seconds, threads, reference_only)
        first = next(found, None)
        if first is not None and first.start_seconds <= from_seconds:
            yield first
            yield from found
            return
        found.close()
    yield from frames_from(path, 0.0, threads, reference_only)


def frames_from(
    path: Path, from_seconds: float, threads: int, reference_only: bool
) -> Iterator[Shown]:
    """Yield frames from where a seek lands; none where the container cannot seek."""
    with opened(path) as container:
        stream = video_stream(container, path, threads, reference_only)
        origin = origin_seconds(container)
        gap = float(1 / stream.average_rate) if stream.average_rate else FALLBACK_GAP_SECONDS
        stated = seconds_of(stream)
        if from_seconds > 0:
            target = (Fraction(from_seconds) + origin) / stream.time_base
            try:
                container.seek(int(target), stream=stream, backward=True)
            except av.error.FFmpegError:
                return
        last = -1.0
        end = 0.0
        for frame in guarded(path, container.decode(stream)):
            start = end if frame.pts is None else float(frame.pts * frame.time_base - origin)
            end = start + (float(frame.duration * frame.time_base) if frame.duration else gap)
            if start > last:
                last = start
                yield Shown(frame, start, end, gap, stated)


def upright_rgb(
    frame: av.VideoFrame, max_side_px: int = MAX_PICTURE_SIDE_PX, interpolation: str = "AREA"
) -> NDArray[np.uint8]:
    """Convert a frame to RGB, bounded in size and turned as its metadata says."""
    shrink = min(1.0, max_side_px / max(frame.width, frame.height))
    width, height = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
    scaled = frame.reformat(width, height, "rgb24", interpolation=interpolation)
    # The display matrix counts counterclockwise, as numpy's rot90 does.
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), round(frame.rotation / 90)))
