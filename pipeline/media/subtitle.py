"""A copy of a video with subtitles: packets as they are, nothing decoded or encoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path

import av

from pipeline import atomic
from pipeline.media.container import first_video, opened
from pipeline.media.packets import add_copied, created, into, mux, rebased


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
        If the video cannot be read, or Matroska cannot hold its codecs.
    OSError
        If the mkv cannot be written.
    """
    # FFmpeg tells formats by their suffix.
    subtitles = path.with_name(f".{path.name}.ass")
    try:
        with atomic.replacing(path) as partial:
            subtitles.write_text(text, encoding="utf-8")
            with opened(source) as video, created(partial, path, format="matroska") as made:
                copy_with(video, source, subtitles, made, path)
    finally:
        subtitles.unlink(missing_ok=True)


def copy_with(
    video: av.container.InputContainer,
    source: Path,
    subtitles: Path,
    made: av.container.OutputContainer,
    path: Path,
) -> None:
    """Copy the packets of a video and of its sound, and those of a subtitle file."""
    wanted = [stream for stream in (first_video(video), *video.streams.audio[:1]) if stream]
    with av.open(f"file:{subtitles}") as labels:
        streams = {stream.index: add_copied(made, stream, source) for stream in wanted}
        shown = made.add_stream_from_template(labels.streams.subtitles[0])

        def copied() -> Iterator[av.Packet]:
            for packet in rebased(source, video, wanted):
                yield into(packet, streams[packet.stream.index])

        def labelled() -> Iterator[av.Packet]:
            for packet in labels.demux():
                if packet.pts is not None:
                    yield into(packet, shown)

        mux(made, heapq.merge(copied(), labelled(), key=seconds_of), path)


def seconds_of(packet: av.Packet) -> float:
    """When a packet is decoded."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return float(ticks * packet.time_base)
