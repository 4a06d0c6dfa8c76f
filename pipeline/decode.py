"""The only opener of media: path to waveform, path to RGB pictures at given times.

Time zero of a file is its first picture where it has video, else its first sound sample, so that a
wav recorded with a video and the video's own track share one clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MediaError

MAX_PICTURE_SIDE_PX = 640
"""Larger pictures are scaled down while they are converted: time and memory do not follow the
camera, and a face that fills a fifth of the picture still has the 112 pixels of a frame tensor."""

TRUNCATION_SECONDS = 0.5
"""A stream that ends this much before its header says is a broken copy, not a rounding error."""

RESAMPLER = "soxr_hq"


@dataclass(frozen=True)
class Media:
    """What a file holds.

    Parameters
    ----------
    has_video, has_audio
        Whether there is such a stream.
    duration_seconds
        Length that the header states; 0 where it states none.
    frame_rate
        Average pictures per second; 0 without video.
    width_px, height_px
        Size as shown, after rotation; 0 without video.
    """

    has_video: bool
    has_audio: bool
    duration_seconds: float
    frame_rate: float
    width_px: int
    height_px: int


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file, turning every refusal of FFmpeg into a :class:`MediaError`."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "nothing"
        raise MediaError(f"expected a media file at {path}, got {kind}; check the path")
    if path.stat().st_size == 0:
        raise MediaError(f"expected sound or video in {path}, got 0 bytes; copy it again")
    try:
        # Playlists and the like may name other files or addresses: only plain files are opened.
        with av.open(str(path), options={"protocol_whitelist": "file"}) as container:
            if not container.streams.video and not container.streams.audio:
                raise MediaError(
                    f"expected sound or video in {path}, got neither; "
                    "check that the file is what its name says"
                )
            yield container
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise MediaError(
            f"expected readable sound or video in {path}, got: {reason}; copy or download it again"
        ) from error


def probe(path: Path) -> Media:
    """Read what a file holds from its header.

    Raises
    ------
    MediaError
        If the file does not exist or FFmpeg cannot open it.
    """
    with opened(path) as container:
        video = container.streams.video[0] if container.streams.video else None
        size = (0, 0)
        if video is not None:
            first = next(container.decode(video), None)
            if first is None:
                raise MediaError(
                    f"expected pictures in {path}, got an empty video stream; "
                    "copy or download it again"
                )
            upright = first.rotation % 180 == 0
            size = (first.width, first.height) if upright else (first.height, first.width)
        return Media(
            has_video=video is not None,
            has_audio=bool(container.streams.audio),
            duration_seconds=(container.duration or 0) / av.time_base,
            frame_rate=float(video.average_rate or 0) if video is not None else 0.0,
            width_px=size[0],
            height_px=size[1],
        )


def origin_seconds(container: av.container.InputContainer) -> Fraction:
    """Time stamp that counts as zero: the first picture's, else the first sample's."""
    stream = (container.streams.video or container.streams.audio)[0]
    return (stream.start_time or 0) * Fraction(stream.time_base or 1)


def read_sound(path: Path) -> tuple[NDArray[np.float32], int]:
    """Decode the first audio stream at its own rate, all channels.

    Parameters
    ----------
    path
        Any file FFmpeg can open.

    Returns
    -------
    waveform : ndarray of float32, shape (samples, channels)
        Nominally in [-1, 1]. Sample 0 is at time zero of the file: sound that starts later is
        preceded by zeros, sound that starts earlier loses its head.
    sample_rate_hz : int

    Raises
    ------
    MediaError
        If there is no sound, or it ends well before the header says.
    """
    with opened(path) as container:
        if not container.streams.audio:
            raise MediaError(
                f"expected sound in {path}, got no audio stream; add a wav of the same take"
            )
        stream = container.streams.audio[0]
        first_pts = None
        resampler = av.AudioResampler(format="fltp")
        blocks: list[NDArray[np.float32]] = []
        for frame in container.decode(stream):
            if first_pts is None and frame.pts is not None:
                first_pts = frame.pts * frame.time_base
            blocks += [part.to_ndarray().T for part in resampler.resample(frame)]
        if not blocks:
            raise MediaError(
                f"expected sound in {path}, got an empty audio stream; copy or download it again"
            )
        waveform = np.concatenate(blocks).astype(np.float32, copy=False)
        rate = stream.rate
        refuse_truncated(path, stream, len(waveform) / rate)
        late_samples = round(((first_pts or 0) - origin_seconds(container)) * rate)
    if late_samples > 0:
        waveform = np.pad(waveform, ((late_samples, 0), (0, 0)))
    return waveform[max(0, -late_samples) :], rate


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
    """
    sound, rate = read_sound(path)
    if not np.isfinite(sound).all():
        raise MediaError(f"expected finite samples in {path}, got NaN or infinity; export it again")
    mono = librosa.to_mono(sound.T)
    return librosa.resample(mono, orig_sr=rate, target_sr=sample_rate_hz, res_type=RESAMPLER)


def refuse_truncated(path: Path, stream: av.stream.Stream, decoded_seconds: float) -> None:
    """Raise if a stream ended well before its header's length."""
    stated = float((stream.duration or 0) * (stream.time_base or 0))
    if decoded_seconds < stated - TRUNCATION_SECONDS:
        raise MediaError(
            f"expected {stated:.2f} s of {stream.type} in {path}, got "
            f"{decoded_seconds:.2f} s; the file is cut short, copy it again"
        )


def read_pictures(
    path: Path, times_seconds: Sequence[float], threads: int = 1, reference_only: bool = False
) -> list[NDArray[np.uint8] | None]:
    """Decode the pictures that are on screen at given times.

    Parameters
    ----------
    path
        Any file FFmpeg can open.
    times_seconds
        Times since the first picture, in any order.
    threads
        FFmpeg's decoding threads; 0 lets it choose.
    reference_only
        Whether to decode only the frames that others refer to, without smoothing their blocks.
        Takes half the time on video with B-frames; a picture may then be its neighbour's.

    Returns
    -------
    list of ndarray of uint8, shape (height, width, 3), or None
        RGB, upright, the long side at most ``MAX_PICTURE_SIDE_PX``; None for times before the
        first or after the last picture.

    Raises
    ------
    MediaError
        If there is no video, or it ends well before the header says and a time is missing.
    """
    pictures: list[NDArray[np.uint8] | None] = [None] * len(times_seconds)
    waiting = sorted(range(len(times_seconds)), key=times_seconds.__getitem__, reverse=True)
    while waiting and times_seconds[waiting[-1]] < 0:
        waiting.pop()
    if not waiting:
        return pictures
    with opened(path) as container:
        stream = video_stream(container, path, threads, reference_only)
        # Every other frame is missing then: half a gap earlier, a frame stands for its neighbours.
        early = float(1 / stream.average_rate) if reference_only and stream.average_rate else 0.0
        end = 0.0
        shown: av.VideoFrame | None = None
        for frame, time in timed_frames(container, stream, times_seconds[waiting[-1]]):
            if shown is not None:
                take_until(shown, time - early, waiting, times_seconds, pictures)
            shown, end = frame, time + frame_seconds(frame, stream)
            if not waiting:
                break
        if shown is None:
            raise MediaError(
                f"expected pictures in {path}, got an empty video stream; copy or download it again"
            )
        take_until(shown, end, waiting, times_seconds, pictures)
        if waiting:
            refuse_truncated(path, stream, end)
    return pictures


def read_consecutive_pictures(
    path: Path, start_seconds: float, count: int, threads: int = 1
) -> list[NDArray[np.uint8] | None]:
    """Decode the first ``count`` pictures shown from a time on; missing ones are None."""
    pictures: list[NDArray[np.uint8] | None] = []
    with opened(path) as container:
        stream = video_stream(container, path, threads)
        for frame, time in timed_frames(container, stream, start_seconds):
            if time + frame_seconds(frame, stream) > start_seconds:
                pictures.append(upright_rgb(frame))
            if len(pictures) == count:
                break
    return pictures + [None] * (count - len(pictures))


def every_picture(
    path: Path, max_side_px: int, threads: int = 0
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield each picture of a file with its time in seconds since the first, upright RGB."""
    with opened(path) as container:
        stream = video_stream(container, path, threads)
        for frame, time in timed_frames(container, stream, 0.0):
            yield time, upright_rgb(frame, max_side_px)


def video_stream(
    container: av.container.InputContainer, path: Path, threads: int, reference_only: bool = False
) -> av.video.stream.VideoStream:
    """Return the first video stream, set up to decode with the given threads and shortcuts."""
    if not container.streams.video:
        raise MediaError(
            f"expected video in {path}, got no video stream; give a file with pictures"
        )
    stream = container.streams.video[0]
    stream.thread_type = "NONE" if threads == 1 else "AUTO"
    stream.codec_context.thread_count = threads
    if reference_only:
        stream.codec_context.skip_frame = "NONREF"
        stream.codec_context.options = {"skip_loop_filter": "all"}
    return stream


def timed_frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, from_seconds: float
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield frames and their times from the key frame before ``from_seconds`` on."""
    origin = origin_seconds(container)
    if from_seconds > 0:
        target = (Fraction(from_seconds) + origin) / stream.time_base
        container.seek(int(target), stream=stream, backward=True)
    last = -1.0
    for frame in container.decode(stream):
        if frame.pts is None:
            time = last + frame_seconds(frame, stream)
        else:
            time = float(frame.pts * frame.time_base - origin)
        if time > last:
            last = time
            yield frame, time


def frame_seconds(frame: av.VideoFrame, stream: av.video.stream.VideoStream) -> float:
    """How long a frame is shown when no other follows."""
    if frame.duration:
        return float(frame.duration * frame.time_base)
    return float(1 / stream.average_rate) if stream.average_rate else 0.04


def take_until(
    frame: av.VideoFrame,
    end_seconds: float,
    waiting: list[int],
    times_seconds: Sequence[float],
    pictures: list[NDArray[np.uint8] | None],
) -> None:
    """Give a frame to every waiting time before ``end_seconds``; ``waiting`` ends with the next."""
    picture = None
    while waiting and times_seconds[waiting[-1]] < end_seconds:
        if picture is None:
            picture = upright_rgb(frame)
        pictures[waiting.pop()] = picture


def upright_rgb(frame: av.VideoFrame, max_side_px: int = MAX_PICTURE_SIDE_PX) -> NDArray[np.uint8]:
    """Convert a frame to RGB, bounded in size and turned as its metadata says."""
    shrink = min(1.0, max_side_px / max(frame.width, frame.height))
    width, height = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
    scaled = frame.reformat(width, height, "rgb24", interpolation="AREA")
    # The display matrix counts counterclockwise, as numpy's rot90 does.
    return np.ascontiguousarray(np.rot90(scaled.to_ndarray(), round(frame.rotation / 90)))
