"""Odd media files, each with an oracle drawn in: a frame shows its number, a tone is known.

A frame's number stands in it as twelve black or white fields, so it survives any codec, any size
from 16x16 up, and being squeezed into a frame tensor. The tone begins at a known second.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

ROWS, COLUMNS = 3, 4
BLACK, WHITE = 40, 215


def frame_of(number, height, width):
    """A grey frame that shows a number below 4096 as twelve fields, the lowest bit first."""
    bits = (number >> np.arange(ROWS * COLUMNS)) & 1
    fields = np.where(bits, WHITE, BLACK).astype(np.uint8).reshape(ROWS, COLUMNS)
    rows = np.arange(height) * ROWS // height
    columns = np.arange(width) * COLUMNS // width
    return np.repeat(fields[rows][:, columns, None], 3, axis=2)


def number_in(frame):
    """The number that a frame shows; None for one that is missing or all black."""
    if frame is None or frame.max() < BLACK // 2:
        return None
    height, width = frame.shape[:2]
    number = 0
    for place in range(ROWS * COLUMNS):
        row, column = divmod(place, COLUMNS)
        middle = frame[
            round((row + 0.3) * height / ROWS) : round((row + 0.7) * height / ROWS) + 1,
            round((column + 0.3) * width / COLUMNS) : round((column + 0.7) * width / COLUMNS) + 1,
        ]
        number |= int(middle.mean() > (BLACK + WHITE) / 2) << place
    return number


@dataclass(frozen=True)
class Take:
    """What is drawn into a file.

    Parameters
    ----------
    video, audio
        Encoders; None leaves the stream out.
    times
        Second at which each frame begins, rising from 0.
    size
        Height and width as shown.
    pixels
        Pixel format.
    hertz, onset, end, seconds
        The tone, where it begins and ends, and the length of the audio. 0 Hz is silence.
    rate, layout
        Of the audio.
    start
        Time stamp of the first frame.
    audio_start
        Second on the frames' clock at which the audio's stream begins.
    pixel_shape
        Width of a pixel by its height, before it is turned.
    turned
        Degrees, counterclockwise, that a player has to turn the stored frames.
    container, options, video_options
        FFmpeg's format and options.
    cover
        Whether the audio file carries a still frame.
    """

    video: str | None = "libx264"
    audio: str | None = "aac"
    times: tuple[float, ...] = tuple(n / 20 for n in range(32))
    size: tuple[int, int] = (72, 96)
    pixels: str = "yuv420p"
    hertz: float = 600.0
    onset: float = 0.5
    end: float = 1.6
    seconds: float = 1.6
    rate: int = 48_000
    layout: str = "mono"
    start: float = 0.0
    audio_start: float = 0.0
    pixel_shape: Fraction = Fraction(1)
    turned: int = 0
    container: str | None = None
    options: dict = field(default_factory=dict)
    video_options: dict = field(default_factory=dict)
    cover: bool = False

    def number_at(self, second):
        """Number of the frame on screen; None before the first and after the last."""
        gap = self.times[-1] - self.times[-2] if len(self.times) > 1 else 0.05
        if not 0 <= second < self.times[-1] + gap:
            return None
        return int(np.searchsorted(self.times, second, side="right")) - 1


def tone_of(take, channels=1):
    """The audio of a take, float32 (samples, channels), each channel alike."""
    times = np.arange(round(take.seconds * take.rate)) / take.rate
    on = (times >= take.onset) & (times < take.end) & (take.hertz > 0)
    return np.repeat(
        np.where(on, 0.5 * np.sin(2 * np.pi * take.hertz * times), 0)[:, None], channels, axis=1
    ).astype(np.float32)


def write(path, take):
    """Encode and mux a take."""
    with av.open(str(path), "w", format=take.container, options=take.options) as container:
        tracks = []
        if take.video:
            tracks.append(video_packets(container, take))
        if take.audio:
            tracks.append(audio_packets(container, take))
        if take.cover:
            tracks.append(cover_packets(container))
        # The first of these opens the encoders: every stream has to be there by then.
        container.start_encoding()
        packets = [packet for track in tracks for packet in track]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def video_packets(container, take):
    """Encode the frames."""
    ticks = 90_000
    rate = Fraction(20)
    if len(take.times) > 1:
        rate = Fraction(1 / (take.times[1] - take.times[0])).limit_denominator(1001)
    exact = take.video in ("mpeg4", "mpeg1video", "mpeg2video", "mjpeg")
    stream = container.add_stream(take.video, rate=rate, options=take.video_options)
    height, width = take.size if take.turned % 180 == 0 else take.size[::-1]
    stream.height, stream.width, stream.pix_fmt = height, width, take.pixels
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = 1 / rate if exact else Fraction(1, ticks)
    if take.pixel_shape != 1:
        context.sample_aspect_ratio = take.pixel_shape
    if take.turned:
        stream.set_display_rotation(take.turned)
    time_base = context.time_base

    def encode():
        for number, time in enumerate(take.times):
            shown = frame_of(number, *take.size)
            stored = np.ascontiguousarray(np.rot90(shown, -take.turned // 90))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24").reformat(format=take.pixels)
            frame.time_base, frame.pts = time_base, round((take.start + time) / time_base)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return encode()


def audio_packets(container, take):
    """Encode the tone."""
    stream = container.add_stream(take.audio, rate=take.rate, layout=take.layout)
    channels = len(stream.codec_context.layout.channels)
    if take.audio in ("aac", "libopus", "libmp3lame", "vorbis", "mp2", "ac3", "wmav2"):
        stream.bit_rate = 96_000 * channels
    if take.audio == "vorbis":
        stream.codec_context.options = {"strict": "-2"}
    stream.codec_context.time_base = Fraction(1, take.rate)
    blocks = tone_of(take, channels)

    def encode():
        for first in range(0, len(blocks), 1024):
            block = np.ascontiguousarray(blocks[first : first + 1024].T)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=take.layout)
            frame.sample_rate, frame.time_base = take.rate, Fraction(1, take.rate)
            frame.pts = first + round((take.start + take.audio_start) * take.rate)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return encode()


def cover_packets(container):
    """Encode the frame on a audio file's sleeve."""
    stream = container.add_stream("mjpeg", rate=1)
    stream.height, stream.width, stream.pix_fmt = 64, 64, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic

    def encode():
        frame = av.VideoFrame.from_ndarray(frame_of(5, 64, 64), format="rgb24")
        yield from stream.encode(frame.reformat(format="yuvj420p"))
        yield from stream.encode(None)

    return encode()


@dataclass(frozen=True)
class Case:
    """A file of the zoo and what reading it must give.

    Parameters
    ----------
    name
        Of the case.
    file
        Name of the file.
    take
        What is drawn in; for a refused file what it was made from.
    make
        Writes the file.
    audio_error, video_error
        Patterns that the refusals match; None where reading must succeed.
    late_seconds
        How far the audio may lie from where it belongs.
    end_known
        Whether the header tells the end of the frames; where it is too late, a time behind the
        last frame is one of a file cut short.
    slow
        Whether it takes seconds.
    """

    name: str
    file: str
    take: Take
    make: Callable[[Path, Take], Path] = write
    audio_error: str | None = None
    video_error: str | None = None
    late_seconds: float = 0.005
    end_known: bool = True
    slow: bool = False

    @property
    def encoders(self):
        """Encoders that the case needs."""
        return [name for name in (self.take.video, self.take.audio) if name]


def plain_wav(subtype, container="WAV"):
    """A maker of wav files with one sample format, through libsndfile."""

    def make(path, take):
        channels = {"mono": 1, "stereo": 2, "5.1": 6}[take.layout]
        soundfile.write(path, tone_of(take, channels), take.rate, subtype, format=container)
        return path

    return make


def bytes_file(content):
    """A maker of files with given bytes."""

    def make(path, take):
        path.write_bytes(content)
        return path

    return make


def cut_at(part):
    """A maker of files that end at a part of their length."""

    def make(path, take):
        data = write(path, take).read_bytes()
        path.write_bytes(data[: round(len(data) * part)])
        return path

    return make


def zipped(path, take):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("take.mp4", b"\0" * 1000)
    return path


def playlist(path, take):
    write(path.with_name("other.mp4"), take)
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    return path


def with_avi_frames(count):
    """A maker of avi files whose header counts other frames than there are."""

    def make(path, take):
        data = bytearray(write(path, take).read_bytes())
        struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, count)
        struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, count)
        path.write_bytes(data)
        return path

    return make


def with_mp4_duration(factor):
    """A maker of mp4 files whose film and track headers state another length."""

    def make(path, take):
        data = bytearray(write(path, take).read_bytes())
        for box, place in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            at = -1
            while (at := data.find(box, at + 1)) > 0:
                (value,) = struct.unpack_from(">I", data, at + place)
                struct.pack_into(">I", data, at + place, min(2**31, round(value * factor)))
        path.write_bytes(data)
        return path

    return make


def with_avi_size(width, height):
    """A maker of avi files whose header states another size of the frames."""

    def make(path, take):
        data = bytearray(write(path, take).read_bytes())
        struct.pack_into("<II", data, data.index(b"avih") + 8 + 32, width, height)
        struct.pack_into("<II", data, data.index(b"strf") + 8 + 4, width, height)
        path.write_bytes(data)
        return path

    return make


def with_codec(old, new=b"xxxx"):
    """A maker of mp4 files that name a codec nobody knows."""

    def make(path, take):
        data = write(path, take).read_bytes()
        assert old in data
        path.write_bytes(data.replace(old, new))
        return path

    return make


def changing_audio(path, take):
    """An mp3 that goes on with another rate and number of channels."""
    other = write(path.with_name("other.mp3"), taken(take, rate=44_100, layout="stereo"))
    path.write_bytes(write(path, take).read_bytes() + other.read_bytes())
    return path


def with_png_size(width, height):
    """A maker of files whose PNG frames state another size than the container does."""

    def make(path, take):
        data = bytearray(write(path, take).read_bytes())
        at = -1
        while (at := data.find(b"IHDR", at + 1)) > 0:
            struct.pack_into(">II", data, at + 4, width, height)
        path.write_bytes(data)
        return path

    return make


NO_VIDEO, NO_SOUND = "no video stream", "no audio stream"
REFUSED = r"expected .+, got"
X264 = {"crf": "10", "preset": "veryfast"}
H264 = Take(video_options=X264)
SOUND = Take(video=None)
SILENT_VIDEO = Take(audio=None, video_options=X264)
HEVC = {"crf": "10", "preset": "ultrafast", "x265-params": "log-level=none"}
VP9 = {"crf": "10", "b": "0", "deadline": "realtime", "cpu-used": "8"}
QUALITY = {"qmin": "2", "qmax": "2"}
UNEVEN = tuple(np.cumsum([0, 0.04, 0.2, 0.05, 0.3, 0.033, 0.1, 0.4, 0.02, 0.08, 0.3]).tolist())


def taken(base, **changes):
    """A take like another, but for some things."""
    return Take(**{**vars(base), **changes})


MPEG4 = taken(H264, video="mpeg4", video_options=QUALITY)
MJPEG = taken(MPEG4, video="mjpeg", pixels="yuvj420p")
X265 = taken(H264, video="libx265", video_options=HEVC)
WEBM = taken(H264, video="libvpx-vp9", audio="libopus", video_options=VP9)
MPG = taken(MPEG4, times=tuple(n / 25 for n in range(40)))


def containers():
    """Every container with the codecs usual in it."""
    pairs = [
        ("h264.mp4", H264, 0.005),
        ("h264.mov", H264, 0.005),
        ("h264.m4v", taken(H264, container="mp4"), 0.005),
        ("h264.mkv", H264, 0.03),
        ("h264-flac.mkv", taken(H264, audio="flac"), 0.005),
        ("h264-opus.mkv", taken(H264, audio="libopus"), 0.02),
        ("h264-vorbis.mkv", taken(H264, audio="vorbis", layout="stereo"), 0.03),
        ("h264.flv", taken(H264, rate=44_100), 0.06),
        ("h264-mp3.flv", taken(H264, audio="libmp3lame", rate=44_100), 0.06),
        ("h264-mp3.mp4", taken(H264, audio="libmp3lame"), 0.06),
        ("hevc.mp4", X265, 0.005),
        ("hevc.mkv", X265, 0.03),
        ("mpeg4.mp4", MPEG4, 0.005),
        (
            "mpeg4-mp3.avi",
            taken(MPEG4, audio="libmp3lame", options={"avoid_negative_ts": "disabled"}),
            0.06,
        ),
        ("mpeg4-pcm.mov", taken(MPEG4, audio="pcm_s16le"), 0.005),
        ("mjpeg-pcm.avi", taken(MJPEG, audio="pcm_s16le"), 0.005),
        ("mjpeg-alac.mov", taken(MJPEG, audio="alac"), 0.005),
        ("ffv1-pcm.mkv", taken(H264, video="ffv1", audio="pcm_s24le", video_options={}), 0.005),
        ("vp9-opus.webm", WEBM, 0.02),
        ("vp8-vorbis.webm", taken(WEBM, video="libvpx", audio="vorbis", layout="stereo"), 0.03),
        ("mpeg1-mp2.mpg", taken(MPG, video="mpeg1video", audio="mp2"), 0.06),
        ("mpeg2-ac3.mpg", taken(MPG, video="mpeg2video", audio="ac3"), 0.06),
    ]
    return [
        Case(name, f"take.{name.split('.')[1]}", take, late_seconds=late)
        for name, take, late in pairs
    ]


def audio_files():
    """Audio files: rates, sample formats, channels, codecs."""
    found = [
        Case(
            f"wav {rate} Hz", "a.wav", taken(SOUND, rate=rate), plain_wav("PCM_16"), None, NO_VIDEO
        )
        for rate in (8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000, 192_000)
    ]
    found += [
        Case(f"wav {subtype}", "a.wav", SOUND, plain_wav(subtype), None, NO_VIDEO)
        for subtype in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM")
    ]
    found += [
        Case(
            f"wav {layout}",
            "a.wav",
            taken(SOUND, layout=layout),
            plain_wav("PCM_16", "WAVEX"),
            None,
            NO_VIDEO,
        )
        for layout in ("stereo", "5.1")
    ]
    found += [
        Case("mp4 5.1", "a.mp4", taken(H264, layout="5.1")),
        Case("mp4 stereo", "a.mp4", taken(H264, layout="stereo")),
        Case("mp4 8 kHz", "a.mp4", taken(H264, rate=8_000), late_seconds=0.01),
        Case("flac", "a.flac", SOUND, plain_wav("PCM_16", "FLAC"), None, NO_VIDEO),
        Case("flac 24 bit", "a.flac", SOUND, plain_wav("PCM_24", "FLAC"), None, NO_VIDEO),
        Case("ogg vorbis", "a.ogg", SOUND, plain_wav("VORBIS", "OGG"), None, NO_VIDEO, 0.01),
        Case("opus", "a.opus", taken(SOUND, audio="libopus"), write, None, NO_VIDEO, 0.02),
        Case("mp3", "a.mp3", taken(SOUND, audio="libmp3lame"), write, None, NO_VIDEO, 0.06),
        Case(
            "mp3 with a cover",
            "a.mp3",
            taken(SOUND, audio="libmp3lame", cover=True),
            write,
            None,
            NO_VIDEO,
            0.06,
        ),
        Case("m4a", "a.m4a", taken(SOUND, container="ipod"), write, None, NO_VIDEO),
        Case("adts", "a.aac", taken(SOUND, container="adts"), write, None, NO_VIDEO, 0.06),
        Case("audio alone in an mp4", "a.mp4", SOUND, write, None, NO_VIDEO),
        Case("all-zero audio", "a.mp4", taken(H264, hertz=0)),
        Case("no audio stream", "a.mp4", SILENT_VIDEO, write, NO_SOUND),
    ]
    return found


def videos():
    """Lengths, sizes, depths, rotations and clocks of frames."""
    many = tuple(float(n) for n in range(600))
    found = [
        Case(f"{height}x{width}", "a.mp4", taken(H264, size=(height, width)))
        for height, width in ((16, 16), (480, 270), (98, 54), (36, 640))
    ]
    return [
        *found,
        Case("odd size", "a.mkv", taken(H264, size=(71, 97), pixels="yuv444p"), late_seconds=0.03),
        Case("odd size vp9", "a.webm", taken(WEBM, size=(71, 97)), late_seconds=0.02),
        Case(
            "2160x3840",
            "a.mp4",
            taken(
                H264,
                size=(2160, 3840),
                times=tuple(n / 5 for n in range(8)),
                video_options={"crf": "20", "preset": "ultrafast"},
            ),
            slow=True,
        ),
        Case(
            "10 minutes",
            "a.mp4",
            taken(
                H264, times=many, size=(32, 48), rate=8_000, onset=500.2, end=501.9, seconds=600.0
            ),
            late_seconds=0.02,
            slow=True,
        ),
        Case("1 frame", "a.mp4", taken(H264, times=(0.0,))),
        Case("15 frames", "a.mp4", taken(H264, times=tuple(n / 20 for n in range(15)))),
        Case("10 bit h264", "a.mp4", taken(H264, pixels="yuv420p10le")),
        Case("10 bit hevc", "a.mp4", taken(X265, pixels="yuv420p10le")),
        Case("grey", "a.mp4", taken(H264, pixels="gray")),
        Case("4:2:2", "a.mkv", taken(H264, pixels="yuv422p"), late_seconds=0.03),
        *(
            Case(f"turned {angle}", "a.mp4", taken(H264, turned=angle, size=(120, 72)))
            for angle in (90, 180, 270)
        ),
        Case("uneven rate", "a.mp4", taken(H264, times=UNEVEN)),
        Case("uneven rate mkv", "a.mkv", taken(H264, times=UNEVEN), late_seconds=0.03),
        Case("29.97", "a.mp4", taken(H264, times=tuple(n * 1001 / 30_000 for n in range(48)))),
        Case("120 a second", "a.mp4", taken(H264, times=tuple(n / 120 for n in range(192)))),
        Case(
            "B-frames",
            "a.mp4",
            taken(
                H264,
                video_options={"crf": "10", "preset": "veryfast", "bf": "3", "b_strategy": "0"},
            ),
        ),
        Case(
            "one key frame",
            "a.mp4",
            taken(H264, video_options={"crf": "10", "preset": "veryfast", "g": "1000"}),
        ),
        Case(
            "every frame a key frame", "a.mp4", taken(H264, video_options={"crf": "10", "g": "1"})
        ),
        Case("fragmented", "a.mp4", taken(H264, options={"movflags": "frag_keyframe+delay_moov"})),
        Case("starts at 10 s", "a.ts", taken(H264, start=10.0), late_seconds=0.03),
        Case("starts at 3 s", "a.mkv", taken(H264, start=3.0), late_seconds=0.03),
        Case("audio starts late", "a.mp4", taken(H264, audio_start=0.3)),
        Case("audio starts late mkv", "a.mkv", taken(H264, audio_start=0.3), late_seconds=0.03),
        Case(
            "too many frames in the header",
            "a.avi",
            taken(MPEG4, audio="pcm_s16le"),
            with_avi_frames(999),
            end_known=False,
        ),
        Case(
            "too few frames in the header",
            "a.avi",
            taken(MPEG4, audio="pcm_s16le"),
            with_avi_frames(3),
        ),
        Case("header twice as long", "a.mp4", H264, with_mp4_duration(2.0)),
        Case("header half as long", "a.mp4", H264, with_mp4_duration(0.5)),
    ]


def refusals():
    """What is no recording, or claims too much."""
    big = taken(H264, video="rawvideo", audio="pcm_s16le", video_options={})
    png = taken(H264, video="png", audio="pcm_s16le", pixels="rgb24", video_options={})
    random = np.random.default_rng(0).bytes(20_000)
    plain = {
        "empty": (b"", "0 bytes"),
        "random bytes": (random, REFUSED),
        "zeros": (bytes(5000), REFUSED),
        "html": (b"\n<!DOCTYPE html><html></html>", "a web page"),
        "lfs pointer": (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "git-LFS",
        ),
        "one byte": (b"\0", REFUSED),
        "text": (b"1\n00:00:00,000 --> 00:00:01,000\nhello\n", REFUSED),
    }
    found = [
        Case(f"{name} named {suffix}", f"a.{suffix}", SOUND, bytes_file(content), pattern, pattern)
        for name, (content, pattern) in plain.items()
        for suffix in ("mp4", "wav")
    ]
    return [
        *found,
        Case("zip named mp4", "a.mp4", SOUND, zipped, "a zip archive", "a zip archive"),
        Case("playlist named mp4", "a.mp4", H264, playlist, REFUSED, REFUSED),
        Case("unknown frame codec", "a.mp4", H264, with_codec(b"avc1"), None, "codec"),
        Case(
            "audio changes on the way",
            "a.mp3",
            taken(SOUND, audio="libmp3lame"),
            changing_audio,
            REFUSED,
            NO_VIDEO,
        ),
        Case("audio starts in 7 hours", "a.mkv", taken(H264, audio_start=25_200.0), write, "hours"),
        Case("100000x100000", "a.avi", big, with_avi_size(100_000, 100_000), None, "megapixels"),
        Case("20000x20000", "a.avi", big, with_avi_size(20_000, 20_000), None, "megapixels"),
        Case("png of 20000x20000", "a.mov", png, with_png_size(20_000, 20_000), None, REFUSED),
    ]


def cuts():
    """Files cut off at every tenth of their length."""
    four = taken(H264, times=tuple(n / 20 for n in range(80)), seconds=4.0, end=4.0)
    kinds = [
        ("a.mp4", four),
        ("b.mp4", taken(four, options={"movflags": "faststart"})),
        ("a.mkv", taken(four, audio="pcm_s16le")),
        ("a.wav", taken(four, video=None, audio="pcm_s16le")),
    ]
    return [
        Case(
            f"{file} of {'h264' if take.video else 'pcm'} cut at {tenth}0 %",
            file,
            take,
            cut_at(tenth / 10),
        )
        for file, take in kinds
        for tenth in range(1, 10)
    ]


def names():
    """Good files under awkward names."""
    awkward = (
        "mit leerzeichen.mp4",
        "Ünï çödé 表情 🙂.mp4",
        "take:1.mp4",
        "http:x.mp4",
        "100%d.mp4",
        "-i.mp4",
        "'quoted' \"twice\" $(x) ;.mp4",
        "x" * 196 + ".mp4",
    )
    return [Case(f"named {name[:20]}", name, H264) for name in awkward]


CASES = [*containers(), *audio_files(), *videos(), *refusals(), *names()]
CUTS = cuts()
