"""Packets of a recording without decoding them: what they are, and copies of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

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
    """

    suffix: str
    container: str
    video: str | None
    audio: str | None
    pixel_format: str | None
    length_known: bool


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
        )


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
    """
    with opened(source) as read, av.open(str(target), "w") as written:
        wanted = [s for s in (first_video(read), *read.streams.audio[:1]) if s is not None]
        streams = {stream.index: written.add_stream_from_template(stream) for stream in wanted}
        for packet in rebased(source, read, wanted):
            if packet.pts >= 0:
                packet.stream = streams[packet.stream.index]
                written.mux(packet)


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
