"""Frames and audio into an mp4 that a browser plays: the only writer of video.

Times are the caller's: every frame is shown at the second it is given for, on the clock of the
audio, so a recording with an uneven frame rate keeps it.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fractions import Fraction
from functools import partial
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from pipeline import atomic
from pipeline.media import audio, video
from pipeline.media.container import Damage, demuxed, opened, origin_seconds
from pipeline.media.packets import add_copied, created, into, mux

COPIED_FORMATS = ("mov", "matroska", "flv")
"""Containers whose AAC is as an mp4 holds it."""

VIDEO_TICKS_PER_SECOND = 90_000
AAC_BITS_PER_SECOND_AND_CHANNEL = 96_000
FALLBACK_FRAME_SECONDS = 1 / 30
FALLBACK_SAMPLE_RATE_HZ = 48_000
Sound = Callable[[av.container.OutputContainer], AbstractContextManager[Iterator[av.Packet]]]
"""Adds an audio stream to a file that is written, and yields its packets within a block."""

CHANNEL_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
# OpenCV converts with the BT.601 matrix; players assume BT.709 for large frames unless the
# stream says so. These are FFmpeg's codes for "BT.601, video range".
BT601 = 6
VIDEO_RANGE = 1
UNSPECIFIED = 2
# A matrix, primaries and a transfer curve that belong together have the same code in these.
ALIKE_CODES = (1, BT601)


def write_mp4(
    path: Path,
    frames: Iterable[tuple[float, np.ndarray | av.VideoFrame]],
    waveform: np.ndarray | None,
    sample_rate: int,
    *,
    crf: int = 23,
    preset: str = "veryfast",
    threads: int = 1,
) -> None:
    """Encode frames (H.264, yuv420p) and audio (AAC) into one mp4 file.

    The file appears under its name only when it is complete. The same input gives the same
    bytes, because the number of threads does not follow the machine.

    Parameters
    ----------
    path
        The file to write; its folder must exist. A file of that name is replaced.
    frames
        Pairs of presentation time in seconds (not negative, strictly increasing, 0 is the first
        sample of the audio) and image, all of one size: RGB, uint8 (height, width, 3), whose odd
        sizes are padded to even ones by repeating the last row or column, or a frame in yuv420p of
        even sides, whose colours and pixel shape are what it says. Consumed one by one.
    waveform
        Float, (samples,) or (samples, channels) in [-1, 1], or None for a silent file.
    sample_rate
        Samples per second of `waveform`.
    crf
        x264's constant rate factor, 0 (lossless) ... 51.
    preset
        x264's speed preset.
    threads
        Frames encoded at the same time, while the caller draws the next ones. Changes the bytes.

    Raises
    ------
    ValueError
        For no frames at all, times that do not increase, images of another shape or type, or a
        waveform that AAC cannot hold.
    OSError
        If the file cannot be written.
    """
    sound = None if waveform is None else partial(encoded_waveform, waveform, sample_rate)
    write_video(path, frames, sound, crf=crf, preset=preset, threads=threads)


def write_video(
    path: Path,
    frames: Iterable[tuple[float, np.ndarray | av.VideoFrame]],
    sound: Sound | None,
    *,
    crf: int = 23,
    preset: str = "veryfast",
    threads: int = 1,
) -> None:
    """Do what :func:`write_mp4` does, with sound that comes piece by piece.

    Parameters
    ----------
    path, frames, crf, preset, threads
        See :func:`write_mp4`.
    sound
        Such as ``partial(sound_of_file, path)``; None for a silent file.
    """
    path = Path(path)
    timed = _with_durations(_checked(frames))
    first = next(timed, None)
    if first is None:
        raise ValueError(f"{path}: no frames to write; at least one is needed")
    # Not a media suffix: a scan for recordings passes over an unfinished file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    options = {"movflags": "+faststart"}
    try:
        with created(temporary, path, format="mp4", container_options=options) as container:
            stream = _add_video_stream(container, first, crf, preset, threads)
            with sound(container) if sound else nullcontext(iter(())) as heard:
                shown = _video_packets(stream, chain([first], timed))
                mux(container, heapq.merge(shown, heard, key=_decoded_seconds), path)
        atomic.replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def encoded_waveform(
    waveform: np.ndarray, sample_rate: int, container: av.container.OutputContainer
) -> Iterator[Iterator[av.Packet]]:
    """Encode a waveform, (samples,) or (samples, channels); see :func:`write_mp4`."""
    waveform = np.asarray(waveform)
    if waveform.ndim == 1:
        waveform = waveform[:, np.newaxis]
    if waveform.ndim != 2 or waveform.shape[1] not in CHANNEL_LAYOUTS:
        raise ValueError(
            "waveform must be (samples,) or (samples, channels) with "
            f"{sorted(CHANNEL_LAYOUTS)} channels, got {waveform.shape}"
        )
    yield _audio_packets(container, iter([waveform.T]), waveform.shape[1], sample_rate)


@contextmanager
def sound_of_file(
    path: Path, container: av.container.OutputContainer, damage: Damage | None = None
) -> Iterator[Iterator[av.Packet]]:
    """Give a file the sound of another: its AAC as it is, anything else encoded anew.

    Time zero is that of :mod:`pipeline.media.audio`; what lies before it is left out. With
    ``damage`` so is what is damaged.
    """
    with opened(path) as source:
        stream = source.streams.audio[0]
        context = stream.codec_context
        copied = (
            context is not None
            and context.name == "aac"
            and context.extradata
            and any(name in source.format.name for name in COPIED_FORMATS)
        )
        if copied:
            yield _copied_packets(path, source, container, damage)
            return
    with audio.opened_audio(path, damage) as (rate, blocks):
        first = next(blocks, np.zeros((1, 0), np.float32))
        yield _audio_packets(container, chain([first], blocks), len(first), rate)


@contextmanager
def ended(
    sound: Sound, is_over: Callable[[float], bool], container: av.container.OutputContainer
) -> Iterator[Iterator[av.Packet]]:
    """Give a file sound that ends where something says of a time in seconds that it is over."""
    with sound(container) as packets:
        yield takewhile(lambda packet: not is_over(float(packet.dts * packet.time_base)), packets)


def _copied_packets(
    path: Path,
    source: av.container.InputContainer,
    container: av.container.OutputContainer,
    damage: Damage | None,
) -> Iterator[av.Packet]:
    """Add the audio stream of a file now, yield its packets as they are asked for."""
    stream = source.streams.audio[0]
    target = add_copied(container, stream, path)

    def copied() -> Iterator[av.Packet]:
        origin = round(origin_seconds(source) / stream.time_base)
        last = -1
        for packet in demuxed(path, source, stream, damage):
            if packet is None or packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
            if packet.dts > last and packet.pts >= 0:
                last = packet.dts
                yield into(packet, target)

    return copied()


def yuv_frame(image: np.ndarray) -> av.VideoFrame:
    """Convert an RGB image, uint8 (height, width, 3), to a yuv420p frame of even sides."""
    height, width, _ = image.shape
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    # OpenCV converts ten times faster than libswscale, by the same matrix and range.
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.colorspace, frame.color_range = BT601, VIDEO_RANGE
    return frame


def _checked(frames: Iterable[tuple[float, np.ndarray | av.VideoFrame]]) -> Iterator[av.VideoFrame]:
    """Turn seconds into ticks and RGB into YUV; refuse what the encoder would garble."""
    last_ticks, size = -1, None
    for seconds, image in frames:
        ticks = round(seconds * VIDEO_TICKS_PER_SECOND)
        if ticks <= last_ticks:
            raise ValueError(
                f"frame times must be >= 0 and strictly increasing, got {seconds:.6f} s after "
                f"{last_ticks / VIDEO_TICKS_PER_SECOND:.6f} s"
            )
        frame = _as_frame(image)
        size = size or (frame.height, frame.width)
        if (frame.height, frame.width) != size:
            raise ValueError(
                f"frames change size from {size} to {(frame.height, frame.width)}; use one size"
            )
        last_ticks = ticks
        frame.pts, frame.time_base = ticks, Fraction(1, VIDEO_TICKS_PER_SECOND)
        # A decoded frame remembers what it was in its own file.
        frame.pict_type = av.video.frame.PictureType.NONE
        yield frame


def _as_frame(image: np.ndarray | av.VideoFrame) -> av.VideoFrame:
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"a frame must be uint8 (height, width, 3), got {image.dtype} {tuple(image.shape)}"
            )
        return yuv_frame(image)
    if image.format.name != "yuv420p" or image.height % 2 or image.width % 2:
        raise ValueError(
            "a frame must be yuv420p of even sides, "
            f"got {image.format.name} {image.width}x{image.height}"
        )
    return image


def _with_durations(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Let each frame last until the next; the last one lasts as long as the one before."""
    duration = round(FALLBACK_FRAME_SECONDS * VIDEO_TICKS_PER_SECOND)
    held: Any = next(frames, None)
    for frame in frames:
        duration = frame.pts - held.pts
        held.duration = duration
        yield held
        held = frame
    if held is not None:
        held.duration = duration
        yield held


def _add_video_stream(
    container: av.container.OutputContainer,
    first: av.VideoFrame,
    crf: int,
    preset: str,
    threads: int,
) -> av.video.stream.VideoStream:
    # x264 only budgets bits by the nominal rate; presentation times come from the frames.
    rate = Fraction(VIDEO_TICKS_PER_SECOND, first.duration).limit_denominator(1001)
    # Macroblock trees stay off: measured with x264's AVX-512 code, they make the bytes differ from
    # run to run at some widths, such as 642 and 656 (with AVX2 or plain C code they do not).
    options = {"crf": str(crf), "preset": preset, "threads": str(threads), "mbtree": "0"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = first.height, first.width
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = Fraction(1, VIDEO_TICKS_PER_SECOND)
    context.thread_count = threads
    if (shape := video.pixel_shape(first)) != 1:
        context.sample_aspect_ratio = shape
    context.colorspace, context.color_range = first.colorspace, first.color_range
    alike = first.colorspace if first.colorspace in ALIKE_CODES else UNSPECIFIED
    context.color_primaries = context.color_trc = alike
    return stream


def _video_packets(
    stream: av.video.stream.VideoStream, frames: Iterable[av.VideoFrame]
) -> Iterator[av.Packet]:
    first: Any = None
    held: Any = None
    end_ticks = 0
    for frame in chain(frames, [None]):
        if frame is not None:
            end_ticks = frame.pts + frame.duration
        for packet in stream.encode(frame):
            if held is not None:
                yield held
            first = first or packet
            held = packet
    # In mp4 a packet lasts until the next one is decoded, and the last one fills up the rest.
    held.duration = end_ticks - first.pts - (held.dts - first.dts)
    yield held


def _audio_packets(
    container: av.container.OutputContainer,
    blocks: Iterator[np.ndarray],
    channels: int,
    sample_rate: int,
) -> Iterator[av.Packet]:
    """Add the audio stream now, encode blocks of (channels, samples) as they are asked for.

    Mixed down to one channel if AAC lacks their layout; resampled, by PyAV, if it lacks their rate.
    """
    layout = CHANNEL_LAYOUTS.get(channels)
    known = sample_rate in av.codec.Codec("aac", "w").audio_rates
    rate = sample_rate if known else FALLBACK_SAMPLE_RATE_HZ
    # The default search for quantisers takes eight times as long.
    options = {"aac_coder": "fast"}
    stream = container.add_stream("aac", rate=rate, layout=layout or "mono", options=options)
    stream.codec_context.time_base = Fraction(1, rate)
    stream.bit_rate = AAC_BITS_PER_SECOND_AND_CHANNEL * (channels if layout else 1)

    def encode() -> Iterator[av.Packet]:
        start = 0
        # Of sound that starts before the video, blocks are left empty.
        for block in (block for block in blocks if block.shape[1]):
            mixed = block if layout else block.mean(axis=0, keepdims=True)
            samples = np.ascontiguousarray(np.clip(mixed, -1.0, 1.0), np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout or "mono")
            frame.sample_rate, frame.pts = sample_rate, start
            frame.time_base = Fraction(1, sample_rate)
            start += block.shape[1]
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return encode()


def _decoded_seconds(packet: av.Packet) -> Fraction:
    """When a packet is decoded: the order of both streams in the file."""
    return packet.dts * packet.time_base
