"""Opening a media file: what it may be, how large it may claim to be, and what it holds.

A header is a claim. What it says about size and length is bounded here, before anything is
allocated or planned by it.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import av

from pipeline.errors import MediaError

Step = TypeVar("Step")

MAX_FRAME_PIXELS = 8192 * 4320
"""Pixels of an 8K frame. A decoder holds several, so larger ones cost gigabytes."""

MAX_SECONDS = 6 * 3600
"""Longest recording that is read; memory follows the audio's length."""

SAMPLE_RATES_HZ = (1_000, 768_000)
"""Slowest and fastest audio that is read: beyond them a header is damaged."""

TRUNCATION_SECONDS = 0.5
"""A stream that ends this much before its header says is a broken copy, not a rounding error."""

MAX_WAV_CHUNKS = 100
UNKNOWN_WAV_BYTES = 0x7FFF0000
"""From this on a wav's length stands for "not known yet", as programs write it to a pipe."""

DEMUXERS = (
    "3gp,aac,ac3,aiff,amr,asf,au,avi,caf,eac3,flac,flv,h264,hevc,ivf,m4v,matroska,mjpeg,mov,mp3,"
    "mp4,mpeg,mpegts,mpegvideo,mxf,ogg,w64,wav,webm"
)
"""FFmpeg's names of the containers that are read. Playlists, which may name other files and
addresses, text shown as frames and the like are not among them."""

WAV_READS = {"max_probe_packets": "1"}
"""What FFmpeg is told about a wav: to believe its header instead of searching half a megabyte of
samples for other codecs, which is nearly all of the time that opening one takes."""

DISGUISES = (
    (b"version https://git-lfs", "a git-LFS pointer", "run 'git lfs pull'"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"\x1f\x8b", "a gzip archive", "unpack it"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"<!doctype", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"<?xml", "an XML page", "download the file itself"),
    (b"%pdf", "a PDF", "copy the recording instead"),
)
"""How files begin that are often found under the name of a recording, and what to do about it."""


class MissingStreamError(MediaError):
    """A readable file without a stream that was asked for: no fault of the file."""


@dataclass(frozen=True)
class Media:
    """What a file holds.

    Parameters
    ----------
    has_video, has_audio
        Whether there is such a stream.
    duration_seconds
        From the first frame, or without video the first sample, to the end that the header states,
        at most ``MAX_SECONDS``; 0 where it states none.
    frame_rate
        Average frames per second; 0 without video.
    width_px, height_px
        Size as shown, after rotation; 0 without video.
    """

    has_video: bool
    has_audio: bool
    duration_seconds: float
    frame_rate: float
    width_px: int
    height_px: int

    @property
    def shown_seconds(self) -> float:
        """Length of the video; 0 without."""
        return self.duration_seconds if self.has_video else 0.0


def disguise(head: bytes) -> tuple[str, str] | None:
    """Tell what a file really is that is named like a recording.

    Parameters
    ----------
    head
        Its first bytes.

    Returns
    -------
    kind, remedy : str
        Such as ``"a web page"`` and what to do about it; None if it looks like none of these.
    """
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, kind, remedy in DISGUISES:
        if start.startswith(mark.lower()):
            return kind, remedy
    return None


@contextmanager
def opened(path: Path) -> Iterator[av.container.InputContainer]:
    """Open a media file, turning every refusal of FFmpeg into a :class:`MediaError`."""
    head = refuse_unusable_file(path)
    reads = {
        # FFmpeg probes frames to find their size: the bound holds there too.
        "max_pixels": str(MAX_FRAME_PIXELS),
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": "file",
        **(WAV_READS if is_wav(head) else {}),
    }
    try:
        # Without 'file:' a name such as 'take:1.mp4' would be an address.
        with av.open(f"file:{path}", options=reads, metadata_errors="replace") as container:
            if not container.streams.video and not container.streams.audio:
                raise MediaError(
                    f"expected audio or video in {path}, got neither; "
                    "check that the file is what its name says"
                )
            yield container
    except av.error.FFmpegError as error:
        reason = error.strerror or type(error).__name__
        raise MediaError(
            f"expected readable audio or video in {path}, got: {reason}; copy or download it again"
        ) from error


def refuse_unusable_file(path: Path) -> bytes:
    """Return how a file begins; raise if it is plainly no recording, or a wav cut short."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
            raise MediaError(f"expected a media file at {path}, got {kind}; check the path")
        with path.open("rb") as stream:
            head = stream.read(64)
            missing_seconds = missing_wav_seconds(stream, status.st_size)
    except FileNotFoundError as error:
        raise MediaError(f"expected a media file at {path}, got nothing; check the path") from error
    except OSError as error:
        raise MediaError(
            f"expected a readable media file at {path}, got: {error.strerror}; "
            "check the path and its permissions"
        ) from error
    if not head:
        raise MediaError(f"expected audio or video in {path}, got 0 bytes; copy it again")
    if found := disguise(head):
        kind, remedy = found
        raise MediaError(f"expected audio or video in {path}, got {kind}; {remedy}")
    if missing_seconds > TRUNCATION_SECONDS:
        raise MediaError(
            f"expected {missing_seconds:.2f} s more of audio in {path}, got its end; "
            "the file is cut short, copy it again"
        )
    return head


def is_wav(head: bytes) -> bool:
    """Tell whether a file that begins like this is a wav."""
    return re.match(rb"RIFF....WAVE", head, re.DOTALL) is not None


def missing_wav_seconds(stream: BinaryIO, file_bytes: int) -> float:
    """Tell how much audio a wav lacks by its header, which decoders pass over in silence.

    Parameters
    ----------
    stream
        A file, opened for reading bytes.
    file_bytes
        Its size.

    Returns
    -------
    float
        Seconds; 0 for a whole wav, one written to a pipe (no length), and any other file.
    """
    stream.seek(0)
    if not is_wav(stream.read(12)):
        return 0.0
    bytes_per_second = 0
    for _ in range(MAX_WAV_CHUNKS):
        header = stream.read(8)
        if len(header) < 8:
            return 0.0
        name, size = struct.unpack("<4sI", header)
        if name == b"data":
            known = bytes_per_second and size < UNKNOWN_WAV_BYTES
            return max(0, stream.tell() + size - file_bytes) / bytes_per_second if known else 0.0
        content = stream.read(12) if name == b"fmt " else b""
        if len(content) == 12:
            (bytes_per_second,) = struct.unpack_from("<I", content, 8)
        stream.seek(size + size % 2 - len(content), os.SEEK_CUR)
    return 0.0


def first_video(container: av.container.InputContainer) -> av.video.stream.VideoStream | None:
    """Return the first video stream; the cover of an audio file is none."""
    cover = av.stream.Disposition.attached_pic
    return next((s for s in container.streams.video if not s.disposition & cover), None)


def guarded(path: Path, steps: Iterator[Step]) -> Iterator[Step]:
    """Pass on what PyAV decodes or demuxes; it stumbles over streams that no header announces."""
    try:
        yield from steps
    except IndexError as error:
        raise MediaError(
            f"expected the streams that {path} announces, got another; copy or download it again"
        ) from error


@dataclass
class Damage:
    """What is wrong with files that are read all the same.

    Parameters
    ----------
    packets
        Damaged ones, by stream and time stamp; they are left out.
    cut
        Of a stream that ends early, its length in seconds by the header, and how much there is.
    """

    packets: set[tuple[Path, int, int | None]] = field(default_factory=set)
    cut: dict[tuple[Path, str], tuple[float, float]] = field(default_factory=dict)

    def notes(self) -> Iterator[str]:
        """Say it."""
        if self.packets:
            count = len(self.packets)
            yield f"damaged: {count} packet{'s were' if count > 1 else ' was'} left out"
        for (path, what), (stated, there) in self.cut.items():
            yield f"cut short: {there:.1f} s of {what} in {path.name} instead of {stated:.1f}"


def decoded(
    path: Path,
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    damage: Damage | None = None,
) -> Iterator[Any]:
    """Decode a stream; with ``damage`` go on behind damaged packets, which are counted there.

    Raises
    ------
    MediaError, FFmpegError
        If a packet is damaged and not to be counted; see :func:`opened`.
    """
    if damage is None:
        yield from guarded(path, container.decode(stream))
        return
    for packet in demuxed(path, container, stream, damage):
        try:
            frames = packet.decode() if packet else stream.codec_context.decode(None)
        except av.error.FFmpegError:
            # Each decoder has its own way to say that it cannot make anything of it.
            damage.packets.add((path, stream.index, packet and packet.pts))
            continue
        yield from guarded(path, iter(frames))


def demuxed(
    path: Path,
    container: av.container.InputContainer,
    stream: av.stream.Stream,
    damage: Damage | None = None,
) -> Iterator[av.Packet | None]:
    """Yield the packets of a stream; with ``damage`` up to where the file is damaged.

    What stands for the end is an empty packet, or None behind damage.
    """
    packets = guarded(path, container.demux(stream))
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.InvalidDataError:
            if damage is None:
                raise
            damage.packets.add((path, stream.index, None))
            yield None
            return
        yield packet


def refuse_undecodable(path: Path, stream: av.stream.Stream) -> None:
    """Raise if FFmpeg has no decoder for a stream."""
    if stream.codec_context is None:
        raise MediaError(
            f"expected {stream.type} in {path} that FFmpeg can decode, got an unknown codec; "
            "convert it to another or copy it again"
        )


def seconds_of(stream: av.stream.Stream) -> float:
    """Length that a stream's header states; 0 where it states none, or the file's in its place."""
    if stream.container.format.name == "asf":
        return 0.0
    if stream.duration:
        return float(stream.duration * stream.time_base)
    # Matroska says as text when the stream ends.
    tag = stream.metadata.get("DURATION", "")
    if match := re.fullmatch(r"(\d+):(\d\d):(\d\d(\.\d*)?)", tag):
        end = 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
        return end - float((stream.start_time or 0) * (stream.time_base or 0))
    return 0.0


def probe(path: Path) -> Media:
    """Read what a file holds from its header.

    Raises
    ------
    MediaError
        If the file does not exist, FFmpeg cannot open it, or it claims to be longer than
        ``MAX_SECONDS`` or larger than ``MAX_FRAME_PIXELS``.
    """
    with opened(path) as container:
        video = first_video(container)
        size = (0, 0)
        if video is not None:
            refuse_large(path, video)
            first = next(guarded(path, container.decode(video)), None)
            if first is None:
                raise MediaError(
                    f"expected frames in {path}, got an empty video stream; "
                    "copy or download it again"
                )
            upright = first.rotation % 180 == 0
            size = (first.width, first.height) if upright else (first.height, first.width)
        elif not container.streams.audio:
            raise MissingStreamError(
                f"expected audio or video in {path}, got a still picture; give another"
            )
        end_seconds = stated_end_seconds(container)
        seconds = (
            end_seconds - float(origin_seconds(container)) if math.isfinite(end_seconds) else 0
        )
        refuse_long(path, seconds)
        return Media(
            has_video=video is not None,
            has_audio=bool(container.streams.audio),
            duration_seconds=max(0.0, seconds),
            frame_rate=float(video.average_rate or 0) if video is not None else 0.0,
            width_px=size[0],
            height_px=size[1],
        )


def refuse_large(path: Path, stream: av.video.stream.VideoStream) -> None:
    """Raise if frames exceed the bound; let the decoder refuse those that grow later."""
    refuse_undecodable(path, stream)
    pixels = stream.width * stream.height
    if not 0 < pixels <= MAX_FRAME_PIXELS:
        size = f"{stream.width}x{stream.height}" if pixels else "larger ones or none"
        raise MediaError(
            f"expected frames of at most {MAX_FRAME_PIXELS / 1e6:.0f} megapixels in {path}, "
            f"got {size}; scale the video down or copy it again"
        )
    context = stream.codec_context
    context.options = {**context.options, "max_pixels": str(MAX_FRAME_PIXELS)}


def refuse_long(path: Path, seconds: float) -> None:
    """Raise if a recording is, or says it is, longer than the bound."""
    if seconds > MAX_SECONDS:
        raise MediaError(
            f"expected at most {MAX_SECONDS / 3600:.0f} hours in {path}, got "
            f"{seconds / 3600:.1f}; cut it into parts or copy it again"
        )


def refuse_truncated(
    path: Path,
    what: str,
    stated_seconds: float,
    seconds: float,
    damage: Damage | None = None,
) -> None:
    """Raise if a stream ended well before its header's length; with ``damage`` note it there."""
    if seconds < stated_seconds - TRUNCATION_SECONDS:
        if damage is not None:
            damage.cut[path, what] = stated_seconds, seconds
            return
        raise MediaError(
            f"expected {stated_seconds:.2f} s of {what} in {path}, got "
            f"{seconds:.2f} s; the file is cut short, copy it again"
        )


def origin_seconds(container: av.container.InputContainer) -> Fraction:
    """Time stamp that counts as zero: the first frame's, else the first sample's."""
    stream = first_video(container) or container.streams.audio[0]
    return (stream.start_time or 0) * Fraction(stream.time_base or 1)


def stated_end_seconds(container: av.container.InputContainer) -> float:
    """Time stamp at which a file ends by its header; infinite where it states none."""
    if not container.duration:
        return math.inf
    # Matroska counts from zero, others from the first time stamp.
    start = 0 if "matroska" in container.format.name else container.start_time or 0
    return (start + container.duration) / av.time_base
