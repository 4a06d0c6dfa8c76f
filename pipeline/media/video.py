"""The only reader of video: path to pictures at given times, counted from its first picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MediaError
from pipeline.media.container import (
    first_video,
    guarded,
    opened,
    origin_seconds,
    refuse_large,
    refuse_truncated,
    seconds_of,
)

MAX_PICTURE_SIDE_PX = 640
"""Larger pictures are scaled down while they are converted: time and memory do not follow the
camera, and a face that fills a fifth of the picture still has the 112 pixels of a frame tensor."""

FALLBACK_GAP_SECONDS = 0.04
"""How long a picture is shown where the file says nothing about it."""

PLANES_SMALLER = (1, 2, 2)
"""In yuv420p, four pixels share their colour."""


Frame = av.VideoFrame
"""For those who hold frames and leave media files to this room."""


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

    frame: Frame
    start_seconds: float
    end_seconds: float
    gap_seconds: float
    stated_seconds: float


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


def every_frame(
    path: Path, smallest_height_px: int, largest_side_px: int, threads: int = 0
) -> Iterator[tuple[float, Frame]]:
    """Yield each frame of a file as an encoder takes it, with its time in seconds since the first.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    smallest_height_px, largest_side_px
        Smaller pictures are enlarged, larger ones shrunk.
    threads
        FFmpeg's decoding threads; 0 lets it choose.

    Yields
    ------
    time : float
    frame : Frame
        yuv420p, upright, of even sides, all of one size: as decoded where it is that already.
    """
    size = None
    for shown in timed_frames(path, 0.0, threads):
        size = size or fitted(shown.frame, smallest_height_px, largest_side_px)
        yield shown.start_seconds, upright_yuv(shown.frame, *size)


def fitted(frame: Frame, smallest_height_px: int, largest_side_px: int) -> tuple[int, int]:
    """Return width and height of a frame to be shown, before it is turned upright."""
    height = frame.width if quarter_turns(frame) % 2 else frame.height
    scale = max(1.0, smallest_height_px / height)
    scale = min(scale, largest_side_px / max(frame.width, frame.height))
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    return width, height


def upright_yuv(frame: Frame, width_px: int, height_px: int) -> Frame:
    """Convert a frame to yuv420p of a size, then turn it as its metadata says."""
    # Frames that are RGB have no matrix to keep.
    named = {"dst_colorspace": "ITU601", "dst_color_range": "MPEG"} if frame.format.is_rgb else {}
    scaled = frame.reformat(width_px, height_px, "yuv420p", interpolation="BICUBIC", **named)
    turns = quarter_turns(frame)
    if not turns % 4:
        return scaled
    turned = [np.rot90(plane, turns) for plane in planes(scaled)]
    stacked = np.concatenate([plane.ravel() for plane in turned])
    upright = Frame.from_ndarray(stacked.reshape(-1, turned[0].shape[1]), "yuv420p")
    upright.colorspace, upright.color_range = scaled.colorspace, scaled.color_range
    return upright


def planes(frame: Frame) -> list[NDArray[np.uint8]]:
    """Return light and both colours of a yuv420p frame, without copying them.

    Each has the shape of the picture, divided by its number in ``PLANES_SMALLER``.
    """
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]


def quarter_turns(frame: Frame) -> int:
    """How often a frame is to be turned by 90 degrees, counterclockwise."""
    # The display matrix counts counterclockwise, as numpy's rot90 does.
    return round(frame.rotation / 90)


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
    frame: Frame, max_side_px: int = MAX_PICTURE_SIDE_PX, interpolation: str = "AREA"
) -> NDArray[np.uint8]:
    """Convert a frame to RGB, bounded in size and turned as its metadata says."""
    shrink = min(1.0, max_side_px / max(frame.width, frame.height))
    width, height = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
    scaled = frame.reformat(width, height, "rgb24", interpolation=interpolation)
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), quarter_turns(frame)))
