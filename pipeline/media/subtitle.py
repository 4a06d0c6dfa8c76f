"""A copy of a video with subtitles: packets as they are, nothing decoded or encoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import av

from pipeline import atomic
from pipeline.media.container import first_video, opened
from pipeline.media.packets import rebased


def copy_with_subtitles(source: Path, text: str, path: Path) -> None:
    """Write a Matroska file with the video and the sound of another, and with subtitles.

    Parameters
    ----------
    source
        The video.
    text
        The subtitles, in the format of Advanced SubStation Alpha.
    path
        The mkv to write; it appears when it is complete.

    Raises
    ------
    MediaError
        If the video cannot be read.
    """
    # FFmpeg tells formats by their suffix.
    subtitles = path.with_name(f".{path.name}.ass")
    try:
        subtitles.write_text(text, encoding="utf-8")
        with atomic.replacing(path) as partial, opened(source) as video:
            copy_with(video, source, subtitles, partial)
    finally:
        subtitles.unlink(missing_ok=True)


def copy_with(
    video: av.container.InputContainer, source: Path, subtitles: Path, target: Path
) -> None:
    """Copy the packets of a video and of its sound, and those of a subtitle file."""
    wanted = [stream for stream in (first_video(video), *video.streams.audio[:1]) if stream]
    with (
        av.open(str(subtitles)) as labels,
        av.open(str(target), "w", format="matroska") as made,
    ):
        streams = {stream.index: made.add_stream_from_template(stream) for stream in wanted}
        shown = made.add_stream_from_template(labels.streams.subtitles[0])

        def copied() -> Iterator[av.Packet]:
            for packet in rebased(source, video, wanted):
                packet.stream = streams[packet.stream.index]
                yield packet

        def labelled() -> Iterator[av.Packet]:
            for packet in labels.demux():
                if packet.pts is not None:
                    packet.stream = shown
                    yield packet

        for packet in heapq.merge(copied(), labelled(), key=seconds_of):
            made.mux(packet)


def seconds_of(packet: av.Packet) -> float:
    """When a packet is decoded."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return float(ticks * packet.time_base)
