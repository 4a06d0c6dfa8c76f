"""Packets of a recording on a clock that begins with its first frame, to be copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import av

from pipeline.media.container import guarded, origin_seconds


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
        With both times; the order is that of the file, but for the first ones of a video.

    Raises
    ------
    MediaError
        If the file cannot be read.
    """
    origin = origin_seconds(source)
    for packet in decodable(guarded(path, source.demux(streams))):
        passed = round(origin / packet.time_base)
        packet.pts, packet.dts = packet.pts - passed, packet.dts - passed
        yield packet


def decodable(packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
    """Give the first frames of a video the times at which they are decoded.

    Where frames are stored in another order than they are shown in, Matroska's reader does not know
    these times before it has read some packets.
    """
    waiting: list[av.Packet] = []
    for packet in packets:
        if packet.pts is None:
            continue
        if packet.dts is None:
            waiting.append(packet)
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
