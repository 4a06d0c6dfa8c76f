"""What a browser plays of a recording: the file itself, its packets in another one, or a copy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import av
import soundfile

from pipeline.media import audio, encode, video
from pipeline.media.container import first_video, opened
from pipeline.media.packets import rebased

AS_IS, COPY, ENCODE = "as it is", "packets copied", "encoded anew"

MP4_VIDEO, MP4_AUDIO = {"h264", "av1"}, {"aac", "mp3", None}
WEBM_VIDEO, WEBM_AUDIO = {"vp8", "vp9", "av1"}, {"opus", "vorbis", None}
COPIED_FORMATS = {"mp4", "matroska", "webm", "flv", "mpegts"}
"""Containers whose packets have the times that a copy needs."""

PIXEL_FORMATS = {"yuv420p", "yuvj420p"}
"""Others, such as those of ten bits, play in some browsers only."""

SOUND_FILES = {
    ".wav": {"pcm_s16le", "pcm_u8", "pcm_f32le", "pcm_s24le"},
    ".mp3": {"mp3"},
    ".m4a": {"aac"},
    ".flac": {"flac"},
    ".ogg": {"vorbis", "opus"},
    ".webm": {"opus", "vorbis"},
}

LARGEST_SIDE_PX = 1280
"""Of what is encoded to be looked at."""

SMALLEST_HEIGHT_PX = 2
PRESET, CRF = "ultrafast", 23


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


def way(kind: Kind) -> tuple[str, str]:
    """Say how a browser gets to play a file.

    Returns
    -------
    way, suffix : str
        One of ``AS_IS``, ``COPY`` and ``ENCODE``, and the suffix of what it plays.
    """
    if kind.video is None:
        if kind.length_known and kind.audio in SOUND_FILES.get(kind.suffix, ()):
            return AS_IS, kind.suffix
        return ENCODE, ".wav"
    formats = kind.container.split(",")
    if kind.pixel_format in PIXEL_FORMATS and not COPIED_FORMATS.isdisjoint(formats):
        if kind.video in MP4_VIDEO and kind.audio in MP4_AUDIO:
            as_it_is = kind.length_known and "mp4" in formats and kind.suffix in (".mp4", ".m4v")
            return (AS_IS, kind.suffix) if as_it_is else (COPY, ".mp4")
        if kind.video in WEBM_VIDEO and kind.audio in WEBM_AUDIO:
            as_it_is = kind.length_known and "webm" in formats and kind.suffix == ".webm"
            return (AS_IS, kind.suffix) if as_it_is else (COPY, ".webm")
    return ENCODE, ".mp4"


def playable(source: Path, sound: Path | None, folder: Path) -> Path:
    """Return a file that a browser plays, the recording itself where it can.

    Parameters
    ----------
    source
        What is to be played.
    sound
        File with its sound, where it has any.
    folder
        Where a file is written if one is needed.

    Raises
    ------
    MediaError
        If the recording cannot be read.
    """
    how, suffix = way(kind_of(source))
    if how == AS_IS:
        return source
    target = folder / f"browser{suffix}"
    if suffix == ".wav":
        write_wav(source, target)
    elif how == COPY:
        copy_packets(source, target)
    else:
        frames = video.every_yuv_frame(source, SMALLEST_HEIGHT_PX, LARGEST_SIDE_PX)
        waveform = None if sound is None else partial(encode.sound_of_file, sound)
        encode.write_video(target, frames, waveform, crf=CRF, preset=PRESET, threads=2)
    return target


def write_wav(source: Path, target: Path) -> None:
    """Decode the sound of a file, block by block, into a wav of 16 bits."""
    with audio.opened_audio(source) as (rate, blocks):
        first = next(blocks)
        with soundfile.SoundFile(target, "w", rate, len(first), "PCM_16") as written:
            for block in chain([first], blocks):
                written.write(block.T)


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
