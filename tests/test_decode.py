import subprocess
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import cv2
import librosa
import numpy as np
import pytest
import zoo
from conftest import RATE, tone, write_video, write_wav

from pipeline.errors import MediaError
from pipeline.features import extract
from pipeline.features.extract import Span
from pipeline.media import audio, container, encode, video
from pipeline.spec import FeatureSpec

SPEC, FAST = FeatureSpec(decode="full"), FeatureSpec()


def level(frame):
    return None if frame is None else round((frame.mean() - 20) / 6)


@pytest.mark.parametrize(
    ("rate", "channels"),
    [(48_000, 1), (44_100, 2), (RATE, 2), (16_000, 1), (8_000, 2), (48_000, 6), (16_000, 8)],
)
def test_wav_is_what_librosa_loads(tmp_path, rate, channels):
    noise = np.random.default_rng(0).normal(0, 0.1, (rate, channels))
    path = write_wav(tmp_path / "a.wav", noise, rate)
    expected, _ = librosa.load(path, sr=RATE)
    assert np.array_equal(audio.read_waveform(path, RATE), expected)


PEAK_OF_READING = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from fuzz_media import peak_mb
from pipeline.features import mfcc
from pipeline.media import video, audio
from pipeline.spec import FeatureSpec
peaks = []
for path in sys.argv[1:]:
    waveform = audio.read_waveform(Path(path), 22_050)
    start = mfcc.window_start(waveform, FeatureSpec())
    mfcc.mfcc(mfcc.cut(waveform, start, FeatureSpec().window_samples), FeatureSpec())
    peaks.append(peak_mb())
print(len(waveform), peaks[1] - peaks[0])
"""


def test_memory_does_not_follow_rate_and_channels(tmp_path):
    """Two minutes of 5.1 at 192 kHz are 550 MB of samples; the file is a hole in the disk."""
    small = write_wav(tmp_path / "small.wav", np.zeros((100, 6)), 192_000)
    seconds, frame_bytes = 120, 6 * 2
    data = bytearray(small.read_bytes())
    sound_bytes = seconds * 192_000 * frame_bytes
    place = data.index(b"data") + 4
    data[place : place + 4] = sound_bytes.to_bytes(4, "little")
    data[4:8] = (place - 4 + sound_bytes).to_bytes(4, "little")
    large = tmp_path / "large.wav"
    with large.open("wb") as file:
        file.write(data[: place + 4])
        file.truncate(place + 4 + sound_bytes)
    answer = subprocess.run(
        [sys.executable, "-c", PEAK_OF_READING, small, large],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    samples, more_mb = answer.stdout.split()
    assert int(samples) == seconds * RATE
    assert float(more_mb) < 60


def test_audio_of_an_mp4_lies_where_that_of_the_wav_does(tmp_path):
    sound = np.concatenate([np.zeros(RATE // 2), tone(1.0), np.zeros(RATE // 2)])
    sound = (sound + np.random.default_rng(0).normal(0, 0.01, len(sound))).astype(np.float32)
    heard = audio.read_waveform(write_video(tmp_path / "a.mp4", 2.0, sound=sound), RATE)
    length = min(len(heard), len(sound))
    lag = np.correlate(heard[:length], sound[:length][1000:-1000], "valid").argmax() - 1000
    assert abs(lag) <= 1
    assert abs(len(heard) - len(sound)) < 2048


EARLY_SOUND = zoo.taken(zoo.H264, start=1.0, audio_start=-1.0, seconds=2.6)
HOLE = (1.0, 3.0)
CLAPPED = zoo.taken(
    zoo.SILENT_VIDEO,
    video_options={"bf": "0"},
    seconds=6.0,
    onset=4.5,
    end=5.0,
    times=tuple(n / 20 for n in range(120)),
)


def with_a_hole(path, whole, options):
    """Copy a file but for the packets of its sound in a hole, as a recorder loses them."""
    with av.open(str(whole)) as source, av.open(str(path), "w", options=options) as target:
        copies = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            lost = (
                packet.stream.type == "audio"
                and HOLE[0] <= float(packet.pts or 0) * float(packet.time_base) < HOLE[1]
            )
            if packet.dts is not None and not lost:
                packet.stream = copies[packet.stream]
                target.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mkv", "flac", {}),
        ("without-length.mkv", "flac", {"live": "1"}),
        ("a.mp4", "aac", {}),
        ("a.ts", "aac", {}),
    ],
)
def test_what_follows_a_hole_in_the_sound_stays_where_it_was(tmp_path, name, codec, options):
    whole = zoo.write(tmp_path / "whole.mkv", zoo.taken(CLAPPED, audio=codec))
    path = with_a_hole(tmp_path / name, whole, options)
    encoded = tmp_path / "encoded.mp4"
    picture = np.zeros((16, 16, 3), np.uint8)
    encode.write_video(encoded, [(0.0, picture)], partial(encode.sound_of_file, path))
    for each in (path, encoded):
        heard = audio.read_waveform(each, RATE)
        assert len(heard) / RATE == pytest.approx(6.0, abs=0.12)
        loud = np.flatnonzero(np.abs(heard) > 0.2) / RATE
        assert loud[[0, -1]] == pytest.approx([4.5, 5.0], abs=0.04)


@pytest.mark.parametrize("late_seconds", [0.02, 0.09])
def test_uneven_time_stamps_of_sound_change_no_sample(tmp_path, late_seconds):
    """Stamps are rounded, and some muxers guess them: what is no hole stays as it is."""
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).clip(-1, 1)
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        samples = (sound * 32767).astype(np.int16)
        for number, first in enumerate(range(0, len(samples), 4200)):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 4200], "s16", "mono")
            frame.rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = first + round(number % 2 * late_seconds * RATE)
            container.mux(stream.encode(frame))
    assert np.array_equal(audio.read_waveform(path, RATE), samples / np.float32(32768))


def test_the_length_that_asf_states_is_not_that_of_its_sound(tmp_path):
    take = zoo.taken(zoo.MPEG4, audio="wmav2", times=tuple(n / 20 for n in range(80)))
    path = zoo.write(tmp_path / "a.wmv", take)
    assert len(audio.read_waveform(path, RATE)) / RATE == pytest.approx(take.seconds, abs=0.12)


def test_frames_are_those_on_screen(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2.0)
    times = [-0.1, 0.0, 0.05, 0.149, 0.151 + 0.1, 1.95, 2.5]
    found = [level(frame) for frame in video.frames_at(path, times, SPEC)]
    assert found == [None, 0, 0, 1, 2, 19, None]


def test_frames_reach_beyond_the_window_and_are_held_at_the_ends(tmp_path):
    path = write_video(tmp_path / "a.mp4", 2.0)
    spec = FeatureSpec(frame_count=5, window_seconds=1.0, frames_margin=2.0, decode="full")
    spans = [Span(round(start * RATE), round(RATE)) for start in (0.05, 0.55, 1.05, 4.0)]
    windows = extract.read_windows(None, path, spans, spec)
    assert [[level(frame) for frame in window.frames] for window in windows] == [
        [1, 1, 5, 9, 13],
        [2, 6, 10, 14, 18],
        [7, 11, 15, 19, 19],
        [None] * 5,
    ]


def test_uneven_frame_times_are_kept(tmp_path):
    times = [0.0, 0.5, 0.6, 1.5]
    frames = (
        (time, np.full((48, 64, 3), 20 + 60 * number, np.uint8))
        for number, time in enumerate(times)
    )
    encode.write_mp4(tmp_path / "a.mp4", frames, None, RATE)
    found = video.frames_at(tmp_path / "a.mp4", [0.49, 0.55, 1.0, 1.49, 1.51], SPEC)
    assert [level(frame) for frame in found] == [0, 10, 20, 20, 30]


def test_a_late_time_is_found_behind_the_first_key_frame(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30.0)
    (frame,) = video.frames_at(path, [25.05], SPEC)
    assert level(frame) == level(np.full((1, 1, 3), 20 + 6 * 250 % 230))


def test_reference_frames_alone_stay_close_to_the_full_decode(tmp_path):
    """A face-sized ball that crosses the frame in two seconds, B-frames included."""

    def frame(number):
        image = np.full((180, 320, 3), 90, np.uint8)
        return cv2.circle(image, (40 + 4 * number, 90), 30, (200, 160, 140), cv2.FILLED)

    path = tmp_path / "a.mp4"
    encode.write_mp4(path, ((n / 30, frame(n)) for n in range(60)), None, RATE, preset="medium")
    with av.open(str(path)) as container:
        kinds = {frame.pict_type for frame in container.decode(video=0)}
    assert av.video.frame.PictureType.B in kinds
    times = [0.1 * number for number in range(20)]
    full = np.array(list(video.frames_at(path, times, SPEC)), float)
    fast = np.array(list(video.frames_at(path, times, FAST)), float)
    assert 0 < np.abs(full - fast).mean() <= 1.5


def test_consecutive_frames(tmp_path):
    path = write_video(tmp_path / "a.mp4", 1.0)
    assert [level(p) for p in video.read_consecutive_frames(path, 0.0, 3, SPEC)] == [0, 1, 2]
    assert [level(p) for p in video.read_consecutive_frames(path, 0.75, 4, SPEC)] == [
        7,
        8,
        9,
        None,
    ]


def test_rotation_metadata_is_honoured(tmp_path):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:32] = 200
    plain, turned = tmp_path / "plain.mp4", tmp_path / "turned.mp4"
    encode.write_mp4(plain, ((n / 10, frame) for n in range(5)), None, RATE)
    data = bytearray(plain.read_bytes())
    # The track header's display matrix, 16.16 fixed point: identity, then a quarter turn clockwise.
    one = (1 << 16).to_bytes(4, "big")
    none = bytes(4)
    minus = ((1 << 32) - (1 << 16)).to_bytes(4, "big")
    identity = one + none * 3 + one
    place = data.index(identity, data.index(b"tkhd"))
    data[place : place + 20] = none + one + none + minus + none
    turned.write_bytes(data)
    (shown,) = video.frames_at(turned, [0.2], SPEC)
    assert shown.shape == (96, 64, 3)
    assert shown[:, 36:].mean() > 180 and shown[:, :28].mean() < 20
    ((_, frame), *_) = video.every_yuv_frame(turned, 32, 1920)
    assert (frame.format.name, frame.width, frame.height) == ("yuv420p", 64, 96)
    np.testing.assert_allclose(
        frame.to_ndarray(format="rgb24").mean(axis=(0, 2)), shown.mean((0, 2)), atol=2
    )
    media = container.probe(turned)
    assert (media.width_px, media.height_px) == (64, 96)


@pytest.mark.parametrize(("turned", "expected"), [(0, (16, 11)), (90, (11, 16)), (180, (16, 11))])
def test_pixels_keep_their_shape(tmp_path, turned, expected):
    """As television has them: players stretch such a video, or it looks squeezed."""
    take = zoo.taken(zoo.SILENT_VIDEO, pixel_shape=Fraction(16, 11), turned=turned)
    path, encoded = zoo.write(tmp_path / "a.mp4", take), tmp_path / "b.mp4"
    encode.write_video(encoded, video.every_yuv_frame(path, 16, 48), None)
    with av.open(str(encoded)) as container:
        shown = container.streams.video[0]
        assert shown.sample_aspect_ratio == Fraction(*expected)
        assert max(shown.width, shown.height) == 48


def test_frames_of_a_recorded_screen_are_given_a_matrix(tmp_path):
    """Videos of RGB frames name none, and no encoder takes that for YUV."""
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:] = (200, 60, 40)
    path = tmp_path / "screen.mov"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        made.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        made.mux(stream.encode(None))
    frames = list(video.every_yuv_frame(path, 16, 1920))
    encode.write_mp4(tmp_path / "a.mp4", frames, None, 0, crf=10)
    with av.open(str(tmp_path / "a.mp4")) as written:
        frame = next(written.decode(video=0))
    assert frame.colorspace == encode.BT601
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - (200, 60, 40)).max() <= 5


@pytest.mark.parametrize(
    ("size", "smallest", "largest", "expected"),
    [
        ((48, 64), 16, 1920, (48, 64)),
        ((48, 64), 96, 1920, (96, 128)),
        ((48, 64), 96, 100, (76, 100)),
        ((48, 64), 16, 50, (38, 50)),
        ((16, 1024), 64, 256, (4, 256)),
    ],
)
def test_frames_to_be_shown_are_of_a_useful_size(tmp_path, size, smallest, largest, expected):
    path = tmp_path / "a.mp4"
    encode.write_mp4(path, [(0.0, np.full((*size, 3), 90, np.uint8))], None, RATE)
    ((_, frame),) = video.every_yuv_frame(path, smallest, largest)
    assert (frame.height, frame.width) == expected
    assert [plane.shape for plane in video.planes(frame)] == [
        (expected[0] // part, expected[1] // part) for part in video.PLANES_SMALLER
    ]
    assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - 90).max() <= 2


def test_frames_that_change_their_size_keep_that_of_the_first(tmp_path):
    """A call that adapts to the network: what lies in the right half stays there."""
    path, halves = tmp_path / "a.ts", []
    for number, size in enumerate(((96, 128), (48, 96), (240, 320))):
        picture = np.zeros((*size, 3), np.uint8)
        picture[:, size[1] // 2 :] = 200
        part = tmp_path / f"{number}.mp4"
        encode.write_mp4(part, [(n / 10, picture) for n in range(10)], None, RATE, crf=10)
        halves.append(part)
    with av.open(path, "w", format="mpegts") as joined:
        for number, part in enumerate(halves):
            with av.open(part) as source:
                stream = joined.streams.video[0] if number else None
                stream = stream or joined.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.dts is not None:
                        passed = round(number / packet.time_base)
                        packet.pts, packet.dts = packet.pts + passed, packet.dts + passed
                        packet.stream = stream
                        joined.mux(packet)
    frames = list(video.frames_at(path, [0.05, 1.45, 2.45], SPEC))
    assert {frame.shape for frame in frames} == {(96, 128, 3)}
    for frame in frames:
        assert frame[:, :56].mean() < 20 and frame[:, 72:].mean() > 180


def test_large_frames_are_bounded(tmp_path):
    frames = [(0.0, np.full((32, 2560, 3), 100, np.uint8))]
    encode.write_mp4(tmp_path / "a.mp4", frames, None, RATE)
    (frame,) = video.frames_at(tmp_path / "a.mp4", [0.0], SPEC)
    assert frame.shape == (8, SPEC.decoded_side_px, 3)


def test_probe(tmp_path):
    media = container.probe(write_video(tmp_path / "a.mp4", 1.0, (48, 64), sound=tone(1.0)))
    assert media.has_video and media.has_audio
    assert (media.width_px, media.height_px, media.frame_rate) == (64, 48, 10)
    assert media.duration_seconds == pytest.approx(1.0, abs=0.1)
    sound = container.probe(write_wav(tmp_path / "a.wav", tone(1.0)))
    assert (sound.has_video, sound.has_audio) == (False, True)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("take", [EARLY_SOUND, zoo.taken(zoo.H264, start=10.0)])
def test_the_length_counts_from_the_first_frame(tmp_path, suffix, take):
    """Sound alone before it is none of the recording: no window may lie behind the end."""
    path = zoo.write(tmp_path / f"a.{suffix}", take)
    assert container.probe(path).duration_seconds == pytest.approx(1.6, abs=0.06)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>Not found</body></html>",
        b"\0" * 5000,
        b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n",
    ],
)
def test_what_is_not_media_is_refused(tmp_path, content):
    for name in ("a.wav", "a.mp4"):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (
            container.probe,
            lambda path: audio.read_waveform(path, RATE),
            lambda path: next(video.frames_at(path, [0.1], SPEC)),
        ):
            with pytest.raises(MediaError, match=rf"expected .*{name}.*, got"):
                read(path)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(MediaError, match="got nothing"):
        container.probe(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="got a folder"):
        container.probe(tmp_path)


def test_missing_streams_are_refused(tmp_path):
    silent = write_video(tmp_path / "a.mp4", 1.0)
    with pytest.raises(MediaError, match="no audio stream"):
        audio.read_waveform(silent, RATE)
    with pytest.raises(MediaError, match="no video stream"):
        next(video.frames_at(write_wav(tmp_path / "a.wav", tone(1.0)), [0.1], SPEC))


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_truncated_mp4_is_refused_or_whole_where_it_is_read(tmp_path, part):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    whole = write_video(tmp_path / "whole.mp4", 4.0, sound=noise)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(MediaError):
        audio.read_waveform(cut, RATE)
        next(video.frames_at(cut, [3.9], SPEC))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_wav_of_no_sound_level_is_refused(tmp_path, value):
    path = tmp_path / "a.wav"
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.full((1, 1000), value, np.float32), "flt", "mono")
        frame.rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match="about -1 to 1"):
        audio.read_waveform(path, RATE)
