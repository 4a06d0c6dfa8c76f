"""A copy of a video with subtitles: packets as they are, nothing decoded or encoded."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import av

from pipeline import atomic
from pipeline.media.container import first_video, opened
from pipeline.media.packets import add_copied, created, into, mux, rebased


def copy_with_subtitles(source: Path, text: str, path: Path, sound: Path | None = None) -> None:
    """Write a Matroska file with the video and the sound of another, and with subtitles.

    Parameters
    ----------
    source
        The video.
    text
        The subtitles, in the format of Advanced SubStation Alpha.
    path
        The mkv to write; it appears when it is complete.
    sound
        A file with the sound; None takes the video's own, if it has any.

    Raises
    ------
    MediaError
        If a file cannot be read, or Matroska cannot hold its codecs.
    OSError
        If the mkv cannot be written.
    """
    # FFmpeg tells formats by their suffix.
    subtitles = path.with_name(f".{path.name}.ass")
    try:
        with atomic.replacing(path) as partial:
            subtitles.write_text(text, encoding="utf-8")
            with ExitStack() as held:
                video = held.enter_context(opened(source))
                heard = video if sound is None else held.enter_context(opened(sound))
                labels = held.enter_context(av.open(f"file:{subtitles}"))
                made = held.enter_context(created(partial, path, format="matroska"))
                shown, audio = [first_video(video)], heard.streams.audio[:1]
                if heard is video:
                    copies = [copied(source, video, [*shown, *audio], made)]
                else:
                    copies = [copied(source, video, shown, made)]
                    copies.append(copied(sound or source, heard, audio, made))
                mux(made, heapq.merge(*copies, labelled(labels, made), key=seconds_of), path)
    finally:
        subtitles.unlink(missing_ok=True)


def copied(
    path: Path,
    source: av.container.InputContainer,
    streams: Sequence[av.stream.Stream | None],
    made: av.container.OutputContainer,
) -> Iterator[av.Packet]:
    """Add streams of a file to another now, yield their packets as they are asked for."""
    wanted = [stream for stream in streams if stream is not None]
    targets = {stream.index: add_copied(made, stream, path) for stream in wanted}
    packets = rebased(path, source, wanted)
    return (into(packet, targets[packet.stream.index]) for packet in packets)


def labelled(
    labels: av.container.InputContainer, made: av.container.OutputContainer
) -> Iterator[av.Packet]:
    """Add the stream of a subtitle file to another now, yield its packets as they are asked for."""
    shown = made.add_stream_from_template(labels.streams.subtitles[0])
    return (into(packet, shown) for packet in labels.demux() if packet.pts is not None)


def seconds_of(packet: av.Packet) -> float:
    """When a packet is decoded."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    return float(ticks * packet.time_base)
