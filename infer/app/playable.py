"""What a browser plays of a recording: the file itself, its packets in another one, or a copy."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import soundfile

from infer.output.annotate import sound_of
from infer.reading.recording import Recording
from pipeline.media import audio, encode, video
from pipeline.media.packets import Kind, copy_packets, kind_of

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

CLOCK_SECONDS = 0.05
"""How far a player's clock may be from that of the boxes: about a frame."""

LARGEST_SIDE_PX = 1280
"""Of what is encoded to be looked at."""

SMALLEST_HEIGHT_PX = 2
PRESET, CRF = "ultrafast", 23


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
    good_clock = kind.length_known and kind.offset_seconds <= CLOCK_SECONDS
    if kind.pixel_format in PIXEL_FORMATS and not COPIED_FORMATS.isdisjoint(formats):
        if kind.video in MP4_VIDEO and kind.audio in MP4_AUDIO:
            as_it_is = good_clock and "mp4" in formats and kind.suffix in (".mp4", ".m4v")
            return (AS_IS, kind.suffix) if as_it_is else (COPY, ".mp4")
        if kind.video in WEBM_VIDEO and kind.audio in WEBM_AUDIO:
            as_it_is = good_clock and "webm" in formats and kind.suffix == ".webm"
            return (AS_IS, kind.suffix) if as_it_is else (COPY, ".webm")
    return ENCODE, ".mp4"


def playable(recording: Recording, folder: Path) -> Path:
    """Return a file that a browser plays, the recording itself where it can.

    Parameters
    ----------
    recording
        What is to be played.
    folder
        Where a file is written if one is needed.

    Raises
    ------
    MediaError
        If the recording cannot be read.
    """
    source = recording.path
    how, suffix = way(kind_of(source))
    if how == AS_IS:
        return source
    target = folder / f"browser{suffix}"
    if suffix == ".wav":
        write_wav(recording, target)
    elif how == COPY:
        copy_packets(source, target)
    else:
        frames = video.every_yuv_frame(
            source, SMALLEST_HEIGHT_PX, LARGEST_SIDE_PX, damage=recording.damage
        )
        encode.write_video(target, frames, sound_of(recording), crf=CRF, preset=PRESET, threads=2)
    return target


def write_wav(recording: Recording, target: Path) -> None:
    """Decode the sound of a recording, block by block, into a wav of 16 bits."""
    with audio.opened_audio(recording.path, recording.damage) as (rate, blocks):
        first = next(blocks)
        with soundfile.SoundFile(target, "w", rate, len(first), "PCM_16") as written:
            for block in chain([first], blocks):
                written.write(block.T)
