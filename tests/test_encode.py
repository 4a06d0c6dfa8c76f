from __future__ import annotations

import errno
import itertools
import resource
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import zoo
from conftest import RATE, tone, write_wav

from pipeline.errors import MediaError
from pipeline.media import container, encode, packets, subtitle, video

RATE_HZ = 48_000


def flat_frames(times, flash_at=None, shape=(48, 64, 3)):
    for index, seconds in enumerate(times):
        yield seconds, np.full(shape, 250 if index == flash_at else 20 + index, np.uint8)


def decoded_video(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = np.array([frame.time for frame in frames])
    return times, np.stack([frame.to_ndarray(format="rgb24") for frame in frames])


def decoded_sound(path):
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    return frames[0].time, np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def test_uneven_frame_times_survive(tmp_path):
    gaps = np.tile([1 / 30, 1 / 15, 1 / 25], 20)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, flat_frames(times), None, RATE_HZ)
    found, pictures = decoded_video(path)
    np.testing.assert_allclose(found, times, atol=1 / 90_000)
    assert pictures.shape == (61, 48, 64, 3)
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), 20 + np.arange(61), atol=3)
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        seconds = float(video.duration * video.time_base)
        assert video.codec_context.has_b_frames
        assert not container.streams.audio
    assert seconds == pytest.approx(times[-1] + gaps[-1], abs=1e-3)


def test_flash_and_click_stay_together(tmp_path):
    times = np.arange(60) / 30
    waveform = np.zeros(2 * RATE_HZ, np.float32)
    click = round(times[40] * RATE_HZ)
    waveform[click : click + 240] = 0.8
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, flat_frames(times, flash_at=40), waveform, RATE_HZ)
    found, pictures = decoded_video(path)
    flash_seconds = found[pictures.mean(axis=(1, 2, 3)).argmax()]
    sound_start, sound = decoded_sound(path)
    click_seconds = sound_start + np.flatnonzero(np.abs(sound[0]) > 0.4)[0] / RATE_HZ
    assert found[0] == sound_start == 0.0
    assert click_seconds == pytest.approx(flash_seconds, abs=0.003)


@pytest.mark.parametrize(("channels", "rate_hz"), [(1, 22_050), (2, 44_100)])
def test_a_tone_comes_back(tmp_path, channels, rate_hz):
    time = np.arange(rate_hz) / rate_hz
    tones = [0.5 * np.sin(2 * np.pi * 440 * (channel + 1) * time) for channel in range(channels)]
    waveform = np.stack(tones, axis=1)
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, flat_frames([0.0, 0.5]), waveform, rate_hz)
    _, sound = decoded_sound(path)
    assert sound.shape[0] == channels
    assert rate_hz <= sound.shape[1] < rate_hz + 1024
    for channel in range(channels):
        error = sound[channel, 2048 : rate_hz - 2048] - waveform[2048 : rate_hz - 2048, channel]
        assert np.sqrt(np.mean(error**2)) < 0.02


def test_colours_and_odd_sizes(tmp_path):
    picture = np.zeros((47, 63, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 60, 40), (30, 90, 210)
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, [(0.0, picture)], None, RATE_HZ, crf=10)
    _, pictures = decoded_video(path)
    assert pictures.shape == (1, 48, 64, 3)
    np.testing.assert_allclose(pictures[0, 47, 8], (200, 60, 40), atol=4)
    np.testing.assert_allclose(pictures[0, 8, 63], (30, 90, 210), atol=4)


@pytest.mark.parametrize("matrix", ["ITU601", "ITU709"])
def test_decoded_frames_keep_their_colours(tmp_path, matrix):
    """A frame in yuv420p is encoded as it is, and the file says what its colours mean."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 60, 40), (30, 90, 210)
    frames = [
        av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
            format="yuv420p", dst_colorspace=matrix
        )
        for _ in range(3)
    ]
    # As a decoder leaves it; an encoder that obeyed would make a file of key frames alone.
    for frame in frames:
        frame.pict_type = av.video.frame.PictureType.I
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, ((n / 10, frame) for n, frame in enumerate(frames)), None, 0, crf=10)
    _, pictures = decoded_video(path)
    np.testing.assert_allclose(pictures[:, 24, 8], [(200, 60, 40)] * 3, atol=5)
    np.testing.assert_allclose(pictures[:, 24, 56], [(30, 90, 210)] * 3, atol=5)
    with av.open(str(path)) as container:
        assert [frame.key_frame for frame in container.decode(video=0)] == [True, False, False]


@pytest.mark.parametrize(("format", "width"), [("yuv420p", 63), ("yuv444p", 64), ("rgb24", 64)])
def test_other_frames_are_refused(tmp_path, format, width):
    frame = av.VideoFrame(width, 48, format)
    with pytest.raises(ValueError, match="yuv420p of even sides"):
        encode.write_mp4(tmp_path / "a.mp4", [(0.0, frame)], None, 0)
    assert list(tmp_path.iterdir()) == []


def test_same_input_gives_same_bytes_and_starts_fast(tmp_path):
    rng = np.random.default_rng(0)
    # Neither side is a multiple of 16, where x264 pads.
    pictures = rng.integers(0, 255, (20, 50, 70, 3), dtype=np.uint8)
    waveform = rng.uniform(-0.3, 0.3, RATE_HZ).astype(np.float32)
    contents = []
    for name in ("a.mp4", "b.mp4"):
        frames = zip(np.arange(20) / 25, pictures, strict=True)
        encode.write_mp4(tmp_path / name, frames, waveform, RATE_HZ)
        contents.append((tmp_path / name).read_bytes())
    assert contents[0] == contents[1]
    assert contents[0].index(b"moov") < contents[0].index(b"mdat")


def test_frames_are_taken_one_by_one_and_may_share_an_array(tmp_path):
    picture = np.zeros((16, 16, 3), np.uint8)

    def reused():
        for index in range(10):
            picture[:] = 20 * index
            yield index / 10, picture

    encode.write_mp4(tmp_path / "a.mp4", reused(), None, RATE_HZ, crf=10)
    _, pictures = decoded_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(pictures.mean(axis=(1, 2, 3)), 20 * np.arange(10), atol=3)


@pytest.mark.parametrize(
    ("frames", "waveform", "rate_hz", "message"),
    [
        ([], None, RATE_HZ, "no frames"),
        (list(flat_frames([0.0, 0.2, 0.2])), None, RATE_HZ, "strictly increasing"),
        (list(flat_frames([-0.1])), None, RATE_HZ, ">= 0"),
        ([(0.0, np.zeros((4, 4), np.uint8))], None, RATE_HZ, "height, width, 3"),
        ([(0.0, np.zeros((4, 4, 3)))], None, RATE_HZ, "uint8"),
        (
            list(itertools.chain(flat_frames([0.0]), [(0.1, np.zeros((8, 8, 3), np.uint8))])),
            None,
            RATE_HZ,
            "change size",
        ),
        (list(flat_frames([0.0])), np.zeros((10, 7)), RATE_HZ, "channels"),
    ],
)
def test_refusals_leave_nothing_behind(tmp_path, frames, waveform, rate_hz, message):
    with pytest.raises(ValueError, match=message):
        encode.write_mp4(tmp_path / "a.mp4", frames, waveform, rate_hz)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, flat_frames([0.0, 0.1]), None, RATE_HZ)
    before = path.read_bytes()

    def breaking():
        yield from flat_frames(np.arange(5) / 10)
        raise RuntimeError("camera unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        encode.write_mp4(path, breaking(), None, RATE_HZ)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: label,sans-serif

[Events]
Format: Layer, Start, End, Style, Text
Dialogue: 0,0:00:00.10,0:00:01.00,label,happy
"""
WRITERS = {
    "copy": packets.copy_packets,
    "overlay": lambda source, path: subtitle.copy_with_subtitles(source, ASS, path),
    "encode": lambda source, path: encode.write_video(
        path, video.every_yuv_frame(source, 16, 64), partial(encode.sound_of_file, source)
    ),
}


@pytest.mark.parametrize("how", WRITERS)
def test_a_full_disk_is_no_fault_of_what_is_read(tmp_path, how):
    source, path = zoo.write(tmp_path / "source.mp4", zoo.H264), tmp_path / "written.mkv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            WRITERS[how](source, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(path))
    # What the page of the app copies into is a folder that goes.
    assert how == "copy" or list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("how", WRITERS)
def test_a_colon_in_a_relative_name_is_no_address(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    source, path = zoo.write(tmp_path / "source.mp4", zoo.H264), Path("take:2.mkv")
    WRITERS[how](source, path)
    assert container.probe(path).has_video and container.probe(path).has_audio


def test_what_cannot_be_encoded_is_copied(tmp_path):
    """FFmpeg's decoders of AV1 have other names than its encoders."""
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this FFmpeg has no encoder libsvtav1")
    take = zoo.taken(zoo.H264, video="libsvtav1", audio="libopus", video_options={"preset": "12"})
    source = zoo.write(tmp_path / "source.mkv", take)
    for how in ("copy", "overlay"):
        WRITERS[how](source, tmp_path / f"{how}.mkv")
        times = video.presentation_times(tmp_path / f"{how}.mkv")
        np.testing.assert_allclose(times, take.times, atol=2e-3)


def test_a_codec_that_matroska_lacks_is_refused(tmp_path):
    take = zoo.taken(zoo.MPEG4, video="wmv2", audio="wmav2")
    source = zoo.write(tmp_path / "a.wmv", take)
    with pytest.raises(MediaError, match=r"video in .*a.wmv that matroska can hold, got wmv2; "):
        WRITERS["overlay"](source, tmp_path / "a.mkv")
    assert list(tmp_path.iterdir()) == [source]


def test_sound_that_starts_before_the_video_loses_its_head(tmp_path):
    """Whole blocks of it: an encoder takes no empty one."""
    sound = tone(2.0)
    with av.open(tmp_path / "a.mkv", "w") as made:
        shown, heard = made.add_stream("mpeg4", rate=10), made.add_stream("mp3", rate=RATE)
        shown.width = shown.height = 64
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")
            frame.pts, frame.time_base = 10 + number, Fraction(1, 10)
            made.mux(shown.encode(frame))
        frame = av.AudioFrame.from_ndarray(sound[np.newaxis].astype(np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        made.mux([*shown.encode(None), *heard.encode(frame), *heard.encode(None)])
    path = tmp_path / "b.mp4"
    sound_of = partial(encode.sound_of_file, tmp_path / "a.mkv")
    encode.write_video(path, flat_frames([0.0, 0.5, 0.9]), sound_of)
    _, found = decoded_sound(path)
    assert found.shape[1] / RATE == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("rate_hz", "channels"), [(11_000, 1), (192_000, 2), (48_000, 7)])
def test_sound_that_aac_lacks_is_converted_in_its_place(tmp_path, rate_hz, channels):
    """A click is heard when it was, within a tenth of a millisecond."""
    waveform = np.zeros((rate_hz, channels), np.float32)
    waveform[round(0.4 * rate_hz)] = 1.0
    path = write_wav(tmp_path / "a.wav", waveform, rate_hz)
    contents = []
    for name in ("a.mp4", "b.mp4"):
        sound = partial(encode.sound_of_file, path)
        encode.write_video(tmp_path / name, flat_frames([0.0, 0.5]), sound)
        contents.append((tmp_path / name).read_bytes())
    start, heard = decoded_sound(tmp_path / "a.mp4")
    click_seconds = start + np.abs(heard[0]).argmax() / RATE_HZ
    assert len(heard) == (1 if channels == 7 else channels)
    assert click_seconds == pytest.approx(0.4, abs=1e-4)
    assert contents[0] == contents[1]
