"""Frames and sound as they happen: a camera, a stream of the network, or a file in real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.media.container import first_video, guarded, opened, origin_seconds
from pipeline.media.video import Frame

ENDLESS_SCHEMES = ("rtsp://", "rtsps://", "rtmp://", "srt://", "tcp://", "udp://")
"""Of cameras in a network, whose streams break off rather than end."""

NETWORK_SCHEMES = (*ENDLESS_SCHEMES, "http://", "https://")
NETWORK_TIMEOUT_SECONDS = 10.0

OnSound = Callable[[NDArray[np.float32], float], None]
"""Takes the next samples, (samples, channels) in [-1, 1], and the time at which they end."""

Clock = Callable[[], float]
"""Returns the seconds since a session began."""


def is_endless(source: str) -> bool:
    """Whether a source that ends has broken off: a camera, or the stream of one."""
    return source.isdecimal() or source.startswith(ENDLESS_SCHEMES)


def frames_of(source: str, on_sound: OnSound, clock: Clock) -> Iterator[tuple[float, Frame]]:
    """Yield frames at the moment they happen.

    Parameters
    ----------
    source
        The number of a camera, the address of a stream, or a file. A file, and a stream that says
        how long it is, is played in real time.
    on_sound
        Is given the sound of a stream or a file; cameras have none.
    clock
        Gives the times of cameras and streams; those of what is played are its own.

    Yields
    ------
    seconds : float
    frame : Frame

    Raises
    ------
    InputError
        If there is no such source.
    """
    if source.isdecimal():
        return of_camera(int(source), clock)
    return of_stream(source, on_sound, clock)


def sound_rate(source: str) -> int | None:
    """Return the samples a second of a stream's or a file's sound; None for one without."""
    if source.isdecimal():
        return None
    with opened_source(source) as container:
        return container.streams.audio[0].rate if container.streams.audio else None


def of_camera(number: int, clock: Clock) -> Iterator[tuple[float, Frame]]:
    """Yield the frames of a camera."""
    # It prints what each of its ways to a camera says; what is wrong is said below.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            raise InputError(
                f"expected a camera {number}, got none; name another number, an address or a file"
            )
        # The newest frame, not the oldest that nobody has taken.
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        while True:
            came, picture = camera.read()
            if not came:
                return
            yield clock(), Frame.from_ndarray(picture, "bgr24")
    finally:
        camera.release()


def of_stream(source: str, on_sound: OnSound, clock: Clock) -> Iterator[tuple[float, Frame]]:
    """Yield the frames of a stream as they arrive, those of a recording each at its own time."""
    with opened_source(source) as container:
        live = is_network(source) and (is_endless(source) or not container.duration)
        origin, started, seconds = float(origin_seconds(container)), time.monotonic(), 0.0
        for frame in decoded(container, Path(source)):
            if live:
                seconds = clock()
            elif frame.time is not None:
                seconds = frame.time - origin
            ahead = started + seconds - time.monotonic()
            if ahead > 0 and not live:
                time.sleep(ahead)
            if isinstance(frame, av.AudioFrame):
                on_sound(
                    samples_of(frame), seconds if live else seconds + frame.samples / frame.rate
                )
            else:
                yield seconds, frame


def is_network(source: str) -> bool:
    """Whether a source is an address."""
    return source.startswith(NETWORK_SCHEMES)


@contextmanager
def opened_source(source: str) -> Iterator[av.container.InputContainer]:
    """Open a file, or a stream of the network."""
    if not is_network(source):
        with opened(Path(source)) as container:
            yield container
        return
    # FFmpeg's "nobuffer" would drop what it looked at, and with it all frames up to a key frame.
    options = {"rtsp_transport": "tcp"}
    try:
        container = av.open(source, options=options, timeout=NETWORK_TIMEOUT_SECONDS)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"expected a stream at {source}, got: {reason_of(error)}; check the address"
        ) from error
    with container:
        if not container.streams.video and not container.streams.audio:
            raise InputError(f"expected audio or video at {source}, got neither; check the address")
        try:
            yield container
        except av.error.FFmpegError as error:
            raise InputError(
                f"expected more of the stream at {source}, got: {reason_of(error)}; see whether it "
                "is still there"
            ) from error


def reason_of(error: OSError) -> str:
    """Say in a few words what an error is."""
    return error.strerror or type(error).__name__


def decoded(
    container: av.container.InputContainer, path: Path
) -> Iterator[av.AudioFrame | av.VideoFrame]:
    """Decode the first video and the first audio stream."""
    video = first_video(container)
    if video is not None:
        video.thread_type = "SLICE"
    streams = [video, *container.streams.audio[:1]]
    return guarded(path, container.decode(*filter(None, streams)))


def samples_of(frame: av.AudioFrame) -> NDArray[np.float32]:
    """Return a block of sound as (samples, channels) in [-1, 1]."""
    resampler = av.AudioResampler(format="flt")
    blocks = [
        part.to_ndarray().reshape(-1, part.layout.nb_channels)
        for part in (*resampler.resample(frame), *resampler.resample(None))
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


class Microphone:
    """The default microphone, through PortAudio.

    Parameters
    ----------
    on_sound
        Is given its sound, from a thread of its own.

    Raises
    ------
    InputError
        If sounddevice is not installed, or there is no microphone.
    """

    def __init__(self, on_sound: Callable[[NDArray[np.float32]], None]) -> None:
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise InputError(
                f"expected sounddevice and PortAudio for a microphone, got: {error}; "
                "'pip install sounddevice'"
            ) from error
        try:
            self._stream = sounddevice.InputStream(
                channels=1, dtype="float32", callback=lambda block, *_: on_sound(block.copy())
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise InputError(f"expected a microphone, got: {error}; connect one") from error
        self.rate = int(self._stream.samplerate)

    def start(self) -> None:
        """Begin to listen."""
        self._stream.start()

    def close(self) -> None:
        """End listening."""
        self._stream.close()
