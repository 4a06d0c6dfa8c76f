"""Frames and audio into an mp4 that a browser plays: the only writer of video.

Times are the caller's: every frame is shown at the second it is given for, on the clock of the
audio, so a recording with an uneven frame rate keeps it.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import librosa
import numpy as np

from pipeline import atomic

RESAMPLER = "soxr_hq"
VIDEO_TICKS_PER_SECOND = 90_000
AAC_FRAME_SAMPLES = 1024
AAC_BITS_PER_SECOND_AND_CHANNEL = 96_000
FALLBACK_FRAME_SECONDS = 1 / 30
FALLBACK_SAMPLE_RATE_HZ = 48_000
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
        even sides, whose colours mean what it says. Consumed one by one.
    waveform
        Float, (samples,) or (samples, channels) in [-1, 1], or None for a silent file.
    sample_rate
        Samples per second of `waveform`, one that AAC knows (8000 ... 96000).
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
        with av.open(str(temporary), "w", format="mp4", container_options=options) as container:
            video = _add_video_stream(container, first, crf, preset, threads)
            audio = iter(())
            if waveform is not None:
                audio = _audio_packets(container, waveform, sample_rate)
            _mux(container, _video_packets(video, chain([first], timed)), audio)
        atomic.replace_durably(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def playable(waveform: np.ndarray, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    """Make any audio one that AAC can hold.

    Parameters
    ----------
    waveform
        Float, (samples, channels).
    sample_rate_hz
        Samples per second.

    Returns
    -------
    waveform : ndarray of float, shape (samples, channels)
        Resampled to 48 kHz if AAC lacks its rate, mixed down to one channel if it lacks its layout.
    sample_rate_hz : int
    """
    if waveform.shape[1] not in CHANNEL_LAYOUTS:
        waveform = waveform.mean(axis=1, keepdims=True)
    if sample_rate_hz in av.codec.Codec("aac", "w").audio_rates:
        return waveform, sample_rate_hz
    resampled = librosa.resample(
        waveform.T, orig_sr=sample_rate_hz, target_sr=FALLBACK_SAMPLE_RATE_HZ, res_type=RESAMPLER
    )
    return resampled.T, FALLBACK_SAMPLE_RATE_HZ


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
    held = next(frames, None)
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
    context.colorspace, context.color_range = first.colorspace, first.color_range
    alike = first.colorspace if first.colorspace in ALIKE_CODES else UNSPECIFIED
    context.color_primaries = context.color_trc = alike
    return stream


def _video_packets(
    stream: av.video.stream.VideoStream, frames: Iterable[av.VideoFrame]
) -> Iterator[av.Packet]:
    first = held = None
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
    container: av.container.OutputContainer, waveform: np.ndarray, sample_rate: int
) -> Iterator[av.Packet]:
    """Add the audio stream now, encode it as the packets are asked for."""
    waveform = np.asarray(waveform)
    if waveform.ndim == 1:
        waveform = waveform[:, np.newaxis]
    if waveform.ndim != 2 or waveform.shape[1] not in CHANNEL_LAYOUTS:
        raise ValueError(
            "waveform must be (samples,) or (samples, channels) with "
            f"{sorted(CHANNEL_LAYOUTS)} channels, got {waveform.shape}"
        )
    rates = av.codec.Codec("aac", "w").audio_rates
    if sample_rate not in rates:
        raise ValueError(f"AAC has no {sample_rate} Hz; resample to one of {sorted(rates)}")
    layout = CHANNEL_LAYOUTS[waveform.shape[1]]
    stream = container.add_stream("aac", rate=sample_rate, layout=layout)
    stream.codec_context.time_base = Fraction(1, sample_rate)
    stream.bit_rate = AAC_BITS_PER_SECOND_AND_CHANNEL * waveform.shape[1]

    def encode() -> Iterator[av.Packet]:
        for start in range(0, len(waveform), AAC_FRAME_SAMPLES):
            block = waveform[start : start + AAC_FRAME_SAMPLES].T.astype(np.float32)
            block = np.ascontiguousarray(np.clip(block, -1.0, 1.0))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
            frame.sample_rate, frame.pts = sample_rate, start
            frame.time_base = Fraction(1, sample_rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return encode()


def _mux(
    container: av.container.OutputContainer,
    video: Iterator[av.Packet],
    audio: Iterator[av.Packet],
) -> None:
    """Write both streams in the order of their decoding times."""
    # The first packet opens the encoder, and the file's header needs both encoders open.
    container.start_encoding()
    for packet in heapq.merge(video, audio, key=lambda packet: packet.dts * packet.time_base):
        container.mux(packet)
