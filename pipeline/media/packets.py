"""Packets of a recording without decoding them: what they are, and copies of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from pipeline.errors import MediaError
from pipeline.media.container import first_video, guarded, opened, origin_seconds


@dataclass(frozen=True)
class Kind:
    """What decides whether a browser plays a file.

    Parameters
    ----------
    suffix
        Of its name, in lower case: servers tell the type by it.
    container
        FFmpeg's names of its format, separated by commas.
    video, audio
        FFmpeg's names of the codecs, whatever decodes them; None without such a stream.
    pixel_format
        Of the frames; None without any.
    length_known
        Whether the header says how long it is: without, players cannot seek.
    offset_seconds
        How far the first frame may be from zero on the clock of players: some of them count from
        the first time stamp of all streams, some from zero.
    """

    suffix: str
    container: str
    video: str | None
    audio: str | None
    pixel_format: str | None
    length_known: bool
    offset_seconds: float = 0.0


def kind_of(path: Path) -> Kind:
    """Read from its header what a file is.

    Raises
    ------
    MediaError
        If it cannot be opened.
    """
    with opened(path) as container:
        shown = first_video(container)
        return Kind(
            path.suffix.lower(),
            container.format.name,
            codec_of(shown),
            codec_of(next(iter(container.streams.audio), None)),
            shown.codec_context.pix_fmt if shown is not None else None,
            bool(container.duration),
            0.0 if shown is None else offset_seconds(container),
        )


def offset_seconds(container: av.container.InputContainer) -> float:
    """See :class:`Kind`."""
    origin = float(origin_seconds(container))
    return max(abs(origin), abs(origin - (container.start_time or 0) / av.time_base))


def codec_of(stream: av.stream.Stream | None) -> str | None:
    """Name the codec of a stream; None without one."""
    if stream is None:
        return None
    context = stream.codec_context
    return "unknown" if context is None else context.codec.canonical_name


def copy_packets(source: Path, target: Path) -> None:
    """Copy the packets of a video and its sound into a file that says how long it is.

    The clock begins with the first frame. A recording of a browser states no length: players
    cannot seek in it, which they can in the copy.

    Raises
    ------
    MediaError
        If the source cannot be read, or the target cannot hold its codecs.
    OSError
        If the target cannot be written.
    """
    with opened(source) as read, created(target, target) as written:
        wanted = [s for s in (first_video(read), *read.streams.audio[:1]) if s is not None]
        streams = {stream.index: add_copied(written, stream, source) for stream in wanted}
        shown = (packet for packet in rebased(source, read, wanted) if packet.pts >= 0)
        mux(written, (into(packet, streams[packet.stream.index]) for packet in shown), target)


@contextmanager
def created(path: Path, named: Path, **options: Any) -> Iterator[av.container.OutputContainer]:
    """Open a file to be written.

    Parameters
    ----------
    path
        Of the file.
    named
        What errors call it.
    options
        See ``av.open``.

    Raises
    ------
    OSError
        If its end cannot be written; see :func:`mux`.
    """
    container = av.open(f"file:{path}", "w", **options)
    try:
        yield container
    finally:
        with refusals_of(named):
            container.close()


def mux(container: av.container.OutputContainer, packets: Iterable[av.Packet], named: Path) -> None:
    """Write packets into a file, and its header before the first.

    Raises
    ------
    OSError
        If the disk refuses. It names the file written, and is none of FFmpeg's errors: where
        another file is read meanwhile, :func:`opened` would take those for that file's.
    """
    with refusals_of(named):
        container.start_encoding()
    for packet in packets:
        with refusals_of(named):
            container.mux(packet)


@contextmanager
def refusals_of(named: Path) -> Iterator[None]:
    """Turn what a disk refuses to FFmpeg into an error that names a file."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(named)) from error


def add_copied(
    container: av.container.OutputContainer, stream: av.stream.Stream, source: Path
) -> av.stream.Stream:
    """Add a stream for packets of another file.

    Raises
    ------
    MediaError
        If such a file cannot hold the codec.
    """
    try:
        # With the codec of the source: FFmpeg need not be able to encode it.
        return container.add_stream_from_template(stream, opaque=True)
    except ValueError as error:
        raise MediaError(
            f"expected {stream.type} in {source} that {container.format.name} can hold, got "
            f"{codec_of(stream)}; convert it to H.264 and AAC, or leave --overlay away"
        ) from error


def into(packet: av.Packet, stream: av.stream.Stream) -> av.Packet:
    """Return a packet as one of another stream."""
    packet.stream = stream
    return packet


def rebased(
    path: Path, source: av.container.InputContainer, streams: Sequence[av.stream.Stream]
) -> Iterator[av.Packet]:
    """Read packets whose times count from the first frame.

    Parameters
    ----------
    path
        Of the file, for messages.
    source
        The file, opened.
    streams
        Those of its streams that are wanted.

    Yields
    ------
    av.Packet
        With the time at which it is decoded; in the order of the file, but for the first ones.

    Raises
    ------
    MediaError
        If the file cannot be read.
    """
    origin = origin_seconds(source)
    for packet in decodable(guarded(path, source.demux(streams))):
        passed = round(origin / packet.time_base)
        packet.dts -= passed
        packet.pts = None if packet.pts is None else packet.pts - passed
        yield packet


def decodable(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Give the first frames of a video the times at which they are decoded.

    Where frames are stored in another order than they are shown in, Matroska's reader does not know
    these times before it has read some packets.
    """
    waiting: list[av.Packet] = []
    for packet in packets:
        if packet.dts is None:
            # The end of a stream has no time at all.
            waiting += [packet] if packet.pts is not None else []
            continue
        if waiting and packet.stream is waiting[0].stream:
            yield from timed_before(packet.dts, waiting)
            waiting = []
        yield packet
    if waiting:
        yield from timed_before(min(packet.pts for packet in waiting), waiting)


def timed_before(ticks: int, packets: Sequence[av.Packet]) -> Iterator[av.Packet]:
    """Place packets one frame after the other, the last one a frame before a time."""
    for number, packet in enumerate(packets):
        packet.dts = ticks - (len(packets) - number) * max(1, packet.duration or 1)
        yield packet
