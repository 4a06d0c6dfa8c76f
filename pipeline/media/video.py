"""The only reader of video: path to frames at given times, counted from its first frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeAlias

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipeline.errors import MediaError
from pipeline.media.container import (
    Damage,
    MissingStreamError,
    decoded,
    first_video,
    guarded,
    opened,
    origin_seconds,
    refuse_large,
    refuse_truncated,
    seconds_of,
)
from pipeline.spec import FeatureSpec

PLANES_SMALLER = (1, 2, 2)
"""In yuv420p, four pixels share their colour."""


Frame: TypeAlias = av.VideoFrame
"""What other packages call a decoded frame; only this one imports PyAV to read video."""


class Timed(NamedTuple):
    """A decoded frame and what its file says about time.

    Parameters
    ----------
    frame
        The frame. It outlives its file; a stream does not, so none is handed out.
    start_seconds, end_seconds
        When it appears, and when it goes if no other follows, since the first frame.
    gap_seconds
        Average time from frame to frame.
    stated_seconds
        Length of the stream by its header; 0 where it states none.
    """

    frame: Frame
    start_seconds: float
    end_seconds: float
    gap_seconds: float
    stated_seconds: float


def frames_at(
    path: Path, times_seconds: Sequence[float], spec: FeatureSpec, threads: int = 1
) -> Iterator[NDArray[np.uint8] | None]:
    """Decode, one after the other, the frames that are on screen at given times.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    times_seconds
        Times since the first frame, ascending.
    spec
        Gives the largest side and the scaler. Where it decodes reference frames only, smoothing
        their blocks is left out too: half the time on video with B-frames; a frame may then be its
        neighbour's.
    threads
        FFmpeg's decoding threads; 0 lets it choose.

    Yields
    ------
    ndarray of uint8, shape (height, width, 3), or None
        RGB, upright, the long side at most ``spec.decoded_side_px``; None for times before the
        first or after the last frame.

    Raises
    ------
    MediaError
        If there is no video, or it ends well before the header says and a time is missing.
    """
    reference_only = spec.decode == "reference"
    first = next((time for time in times_seconds if time >= 0), 0.0)
    coming = timed_frames(path, first, threads, reference_only, spec.untimed_frame_seconds)
    return frames_among(coming, times_seconds, path, spec)


def frames_among(
    coming: Iterator[Timed],
    times_seconds: Sequence[float],
    path: Path,
    spec: FeatureSpec,
    damage: Damage | None = None,
) -> Iterator[NDArray[np.uint8] | None]:
    """Choose the frames that are on screen at given times among those of a file.

    Parameters
    ----------
    coming
        Frames of `path`, decoded as the spec says, the first of them at or before the first time
        that is not negative. Taken only as far as they are needed.
    times_seconds, path, spec
        See :func:`frames_at`, which this is the second half of.
    damage
        Takes note where the video is cut short; None refuses it.
    """
    waiting = deque(times_seconds)
    while waiting and waiting[0] < 0:
        waiting.popleft()
        yield None
    if not waiting:
        return
    to_rgb = RgbConverter(spec.decoded_side_px, spec.decoded_scaler)
    last: Timed | None = None
    for following in coming:
        if last is not None:
            # Every other frame is missing then: half a gap earlier, one stands for its neighbours.
            early = last.gap_seconds if spec.decode == "reference" else 0.0
            yield from take_until(last, following.start_seconds - early, waiting, to_rgb)
        last = following
        if not waiting:
            return
    if last is None:
        raise MediaError(
            f"expected frames in {path}, got an empty video stream; copy or download it again"
        )
    yield from take_until(last, last.end_seconds, waiting, to_rgb)
    if waiting:
        refuse_truncated(path, "video", last.stated_seconds, last.end_seconds, damage)
    yield from [None] * len(waiting)


def take_until(
    timed: Timed, end_seconds: float, waiting: deque[float], to_rgb: RgbConverter
) -> Iterator[NDArray[np.uint8]]:
    """Yield a frame as often as times before ``end_seconds`` wait for it, and take those away."""
    frame = None
    while waiting and waiting[0] < end_seconds:
        waiting.popleft()
        if frame is None:
            frame = to_rgb(timed.frame)
        yield frame


def read_consecutive_frames(
    path: Path, start_seconds: float, count: int, spec: FeatureSpec, threads: int = 1
) -> list[NDArray[np.uint8] | None]:
    """Decode the first ``count`` frames shown from a time on; missing ones are None."""
    frames: list[NDArray[np.uint8] | None] = []
    to_rgb = RgbConverter(spec.decoded_side_px, spec.decoded_scaler)
    last: Timed | None = None
    for following in timed_frames(
        path, start_seconds, threads, untimed_seconds=spec.untimed_frame_seconds
    ):
        # A frame lasts until the next one, whatever the file says about its duration.
        if last is not None and following.start_seconds > start_seconds:
            frames.append(to_rgb(last.frame))
        if len(frames) == count:
            return frames
        last = following
    if last is not None and last.end_seconds > start_seconds:
        frames.append(to_rgb(last.frame))
    return frames + [None] * (count - len(frames))


def every_rgb_frame(
    path: Path, max_side_px: int, threads: int = 0
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield each frame of a file with its time in seconds since the first, upright RGB."""
    # To be looked at: cheaper than by areas.
    to_rgb = RgbConverter(max_side_px, "BILINEAR")
    for timed in timed_frames(path, 0.0, threads):
        yield timed.start_seconds, to_rgb(timed.frame)


def every_yuv_frame(
    path: Path,
    smallest_height_px: int,
    largest_side_px: int,
    threads: int = 0,
    damage: Damage | None = None,
) -> Iterator[tuple[float, Frame]]:
    """Yield each frame of a file as an encoder takes it, with its time in seconds since the first.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    smallest_height_px, largest_side_px
        Smaller frames are enlarged, larger ones shrunk.
    threads
        FFmpeg's decoding threads; 0 lets it choose.
    damage
        See :func:`timed_frames`.

    Yields
    ------
    time : float
    frame : Frame
        yuv420p, upright, of even sides, all of one size: as decoded where it is that already. Its
        pixels have the shape that :func:`pixel_shape` tells.
    """
    size = None
    for timed in timed_frames(path, 0.0, threads, damage=damage):
        size = size or fitted(timed.frame, smallest_height_px, largest_side_px)
        yield timed.start_seconds, upright_yuv(timed.frame, *size)


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
    shape = pixel_shape(frame)
    set_pixel_shape(upright, 1 / shape if turns % 2 else shape)
    return upright


def pixel_shape(frame: Frame) -> Fraction:
    """Width of a frame's pixels by their height, as the file of :func:`timed_frames` says."""
    return frame.opaque or Fraction(1)


def set_pixel_shape(frame: Frame, shape: Fraction) -> None:
    """Let a frame, and what it is converted to, tell the shape of its pixels; PyAV lacks a name."""
    if shape != 1:
        # A new object for each: it is gone with the first frame that holds it.
        frame.opaque = Fraction(shape)


def planes(frame: Frame) -> list[NDArray[np.uint8]]:
    """Return light and both colours of a yuv420p frame, without copying them.

    Each has the shape of the frame, divided by its number in ``PLANES_SMALLER``.
    """
    return [
        np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width]
        for plane in frame.planes
    ]


def quarter_turns(frame: Frame) -> int:
    """How often a frame is to be turned by 90 degrees, counterclockwise."""
    # The display matrix counts counterclockwise, as numpy's rot90 does.
    return round(frame.rotation / 90)


def presentation_times(path: Path) -> NDArray[np.float64]:
    """Read when each frame of a file appears, in seconds, sorted, without decoding any.

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
        raise MissingStreamError(
            f"expected video in {path}, got no video stream; name a file with one"
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
    path: Path,
    from_seconds: float,
    threads: int,
    reference_only: bool = False,
    untimed_seconds: float = 0.04,
    damage: Damage | None = None,
) -> Iterator[Timed]:
    """Yield frames in the order of their times, beginning with one at ``from_seconds`` or before.

    Where a container cannot seek, or lands behind the time asked for, it is read from its start.
    A frame whose duration the file does not say lasts for ``untimed_seconds``. With ``damage``
    damaged packets are left out and noted there.
    """
    if from_seconds > 0:
        found = frames_from(path, from_seconds, threads, reference_only, untimed_seconds, damage)
        first = next(found, None)
        if first is not None and first.start_seconds <= from_seconds:
            yield first
            yield from found
            return
        found.close()
    yield from frames_from(path, 0.0, threads, reference_only, untimed_seconds, damage)


def frames_from(
    path: Path,
    from_seconds: float,
    threads: int,
    reference_only: bool,
    untimed_seconds: float,
    damage: Damage | None,
) -> Generator[Timed, None, None]:
    """Yield frames from where a seek lands; none where the container cannot seek."""
    with opened(path) as container:
        stream = video_stream(container, path, threads, reference_only)
        origin = origin_seconds(container)
        gap = float(1 / stream.average_rate) if stream.average_rate else untimed_seconds
        shape = stream.sample_aspect_ratio or Fraction(1)
        stated = seconds_of(stream)
        if from_seconds > 0:
            target = (Fraction(from_seconds) + origin) / stream.time_base
            try:
                container.seek(int(target), stream=stream, backward=True)
            except av.error.FFmpegError:
                return
        last = -1.0
        end = 0.0
        for frame in decoded(path, container, stream, damage):
            start = end if frame.pts is None else float(frame.pts * frame.time_base - origin)
            end = start + (float(frame.duration * frame.time_base) if frame.duration else gap)
            if start > last:
                last = start
                set_pixel_shape(frame, shape)
                yield Timed(frame, start, end, gap, stated)


class RgbConverter:
    """Converts frames of one video to RGB, bounded in size and turned as their metadata says.

    Parameters
    ----------
    max_side_px
        Frames with a longer side are scaled down to it.
    scaler
        FFmpeg's name of the interpolation.

    Notes
    -----
    Scales YUV and converts the result: half the time of FFmpeg's scaler doing both at once, and
    closer to scaling full-size RGB (mean error 0.4 instead of 0.9 of 255 on 1280x720).
    """

    def __init__(self, max_side_px: int, scaler: str) -> None:
        self.max_side_px, self.scaler = max_side_px, scaler
        # Each keeps what it has worked out for one pair of sizes and formats.
        self.scaling, self.conversion = VideoReformatter(), VideoReformatter()
        self.size: tuple[int, int] | None = None

    def __call__(self, frame: Frame) -> NDArray[np.uint8]:
        """Return a frame as RGB, shape (height, width, 3)."""
        turns = quarter_turns(frame)
        if self.size is None:
            part = min(1.0, self.max_side_px / max(frame.width, frame.height))
            self.size = max(1, round(part * frame.width)), max(1, round(part * frame.height))
        # A frame of another size, as calls have that adapt to the network, fills the first one's:
        # places in the picture are of one size.
        width, height = self.size
        if (frame.width, frame.height) != self.size and frame.format.name == "yuv420p":
            frame = self.scaling.reformat(
                frame, width, height, "yuv420p", interpolation=self.scaler
            )
        rgb = self.conversion.reformat(frame, width, height, "rgb24", interpolation=self.scaler)
        return np.ascontiguousarray(np.rot90(rgb.to_ndarray(), turns))
