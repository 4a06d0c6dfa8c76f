"""The only reader of media: path to waveform, path to RGB pictures at given times.

Time zero of a file is its first picture where it has video, else its first sound sample, so that a
wav recorded with a video and the video's own track share one clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
from numpy.typing import NDArray

from pipeline.container import (
    SAMPLE_RATES_HZ,
    first_video,
    opened,
    origin_seconds,
    refuse_large,
    refuse_long,
    seconds_of,
)
from pipeline.errors import MediaError

MAX_PICTURE_SIDE_PX = 640
"""Larger pictures are scaled down while they are converted: time and memory do not follow the
camera, and a face that fills a fifth of the picture still has the 112 pixels of a frame tensor."""

TRUNCATION_SECONDS = 0.5
"""A stream that ends this much before its header says is a broken copy, not a rounding error."""

RESAMPLER = "soxr_hq"


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
        slowest, fastest = SAMPLE_RATES_HZ
        if not slowest <= (stream.rate or 0) <= fastest:
            raise MediaError(
                f"expected sound of {slowest} to {fastest} Hz in {path}, got {stream.rate}; "
                "export it again"
            )
        first_pts = None
        resampler = av.AudioResampler(format="fltp")
        blocks: list[NDArray[np.float32]] = []
        decoded_seconds = 0.0
        for frame in container.decode(stream):
            decoded_seconds += frame.samples / stream.rate
            refuse_long(path, decoded_seconds)
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
        late_seconds = (first_pts or 0) - origin_seconds(container)
        refuse_long(path, abs(late_seconds) + len(waveform) / rate)
        late_samples = round(late_seconds * rate)
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
    stated = seconds_of(stream)
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
