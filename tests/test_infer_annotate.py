"""Annotated videos: what is drawn, that all frames and the sound are there, how they end."""

import json
import os
import re
import signal
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import soundfile
import zoo
from conftest import RATE, TINY, tone, write_model, write_video, write_wav

from infer import load
from infer.output import annotate, canvas, draw, overlay
from infer.output.annotate import annotate as render
from infer.output.draw import Shown
from infer.prediction import results
from infer.prediction.predict import Options
from infer.predictor import Predictor
from infer.reading.ahead import ahead
from infer.reading.recording import open_recording
from infer.stop import Stop
from pipeline.errors import InputError
from pipeline.features.detectors import Box
from pipeline.media import audio, container, encode, video
from pipeline.sample import corpus
from pipeline.spec import EMOTIONS, FeatureSpec


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TINY)
    return load(folder).model


def grey_frame(size=(360, 640), light=90):
    return encode.yuv_frame(np.full((*size, 3), light, np.uint8))


def shown(box=None, likeliest="angry", label=None, track=1):
    values = np.full(8, 0.02, np.float32)
    values[EMOTIONS.index(likeliest)] = 0.86
    return Shown(track if box else None, box, 0.9, label or likeliest, values)


def drawn_on(frame, *answers, **options):
    draw.draw(frame, answers, **options)
    return frame.to_ndarray(format="rgb24").astype(int)


def near(patch, colour):
    return np.abs(patch.reshape(-1, 3) - np.array(colour)).sum(axis=1).min() < 30


def test_draw_marks_the_face_and_leaves_the_rest_alone():
    frame = grey_frame()
    before = frame.to_ndarray()
    after = drawn_on(frame, shown(Box(250, 100, 120, 140)))
    for x, y in ((250, 170), (370, 170), (310, 240)):
        assert near(after[y - 2 : y + 3, x - 2 : x + 3], draw.TRACK_COLOURS[0])
    assert near(after[80:100, 250:300], draw.COLOURS["angry"])
    assert (frame.to_ndarray()[110:230, 260:360] == before[110:230, 260:360]).all()
    frame = grey_frame()
    without = drawn_on(frame, shown())
    assert (frame.to_ndarray()[170, 240:380] == before[170, 240:380]).all()
    assert np.abs(without[:40, :150] - 90).max() > 50
    assert set(draw.COLOURS) == {*EMOTIONS, "unsure"}


def test_several_faces_have_boxes_of_their_own_colour():
    answers = [shown(Box(60, 80, 100, 100), track=1), shown(Box(400, 80, 100, 100), track=2)]
    after = drawn_on(grey_frame(), *answers, several=True)
    for x, track in ((60, 0), (400, 1)):
        assert near(after[128:133, x - 2 : x + 3], draw.TRACK_COLOURS[track])


def test_nothing_is_drawn_where_nothing_is_known():
    frame = grey_frame()
    before = frame.to_ndarray()
    assert (drawn_on(frame) == grey_frame().to_ndarray(format="rgb24")).all()
    assert (frame.to_ndarray() == before).all()


def test_an_unsure_label_is_grey():
    plate = drawn_on(grey_frame(), shown(label="unsure"))[:40, :110].reshape(-1, 3)
    assert (np.abs(plate - draw.COLOURS["unsure"]).max(axis=1) <= 2).mean() > 0.2


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (200, 90), (720, 1280)])
def test_draw_takes_any_size_and_any_box(size):
    boxes = (None, Box(-20, -20, 40, 40), Box(size[1] - 5, size[0] - 5, 50, 50))
    for box in (*boxes, Box(2.6, 3.4, 7.7, 9.2)):
        after = drawn_on(grey_frame(size), shown(box))
        assert after.shape == (*size, 3)
        assert np.abs(after - 90).max() > 50


def test_a_canvas_is_drawn_on_where_it_is_said():
    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
    frame = encode.yuv_frame(smooth)
    before = frame.to_ndarray()
    canvas.Canvas(frame).fill(10, 6, 30, 22, (200, 60, 30))
    after = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(after[8:20, 12:28] - (200, 60, 30)).max() < 6
    changed = np.argwhere(frame.to_ndarray()[:48] != before[:48])
    assert (changed.min(axis=0) >= (6, 10)).all() and (changed.max(axis=0) < (22, 30)).all()
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4] = 255
    for left, top in ((-4, 3), (61, 45), (-8, 0), (80, 9)):
        canvas.Canvas(frame).paste(canvas.patch_of(picture), left, top)
    corner = frame.to_ndarray(format="rgb24")[2:10, :4]
    assert corner.max() < 20
    for side in range(2, 7):
        frame = grey_frame((48, 64))
        canvas.Canvas(frame).outline(11, 9, 11 + 5 * side, 31, 2, (255, 255, 255))
        light = frame.to_ndarray()[:48]
        assert light[20, 10] > 200 and (light[20] > 200).sum() == 4


def test_what_is_drawn_is_no_reference_of_the_next_frame(tmp_path):
    """A decoder builds frames from those that it gave out before."""
    path = write_video(tmp_path / "a.mp4")
    clean = [frame.to_ndarray() for _, frame in video.every_yuv_frame(path, 16, 1920)]
    assert len(clean) > 5
    frames = video.every_yuv_frame(path, 16, 1920, threads=1)
    for (_, frame), expected in zip(frames, clean, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(), expected)
        draw.draw(frame, [shown(Box(5, 5, 30, 30))])
        assert (frame.to_ndarray() != expected).any()


def test_what_is_fetched_ahead_comes_in_order_and_with_its_errors():
    assert list(ahead(iter(range(1, 30)), 8)) == list(range(1, 30))

    def failing():
        yield 1
        raise InputError("no more")

    came = ahead(failing(), 8)
    assert next(came) == 1
    with pytest.raises(InputError, match="no more"):
        next(came)
    unread = ahead(iter(range(1, 30)), 8)
    assert next(unread) == 1
    unread.close()


def made(path, model, target, sound=None, stop=None):
    taken = open_recording(path, sound, model.spec)
    return render(model, taken, target, Options(), stop)


def test_an_annotated_video_has_every_frame_and_the_sound(tmp_path, model):
    sound = tone(1.6)
    path = write_video(tmp_path / "a.mp4", 1.6, sound=sound)
    made(path, model, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as opened:
        assert opened.streams.video[0].codec_context.name == "h264"
        assert opened.streams.audio[0].codec_context.name == "aac"
        times = [float(frame.time) for frame in opened.decode(video=0)]
    assert times == pytest.approx([n / 10 for n in range(16)])
    heard = audio.read_waveform(tmp_path / "out.mp4", RATE)[: len(sound)]
    assert np.corrcoef(heard[2000:-2000], sound[2000:-2000])[0, 1] > 0.99
    assert container.probe(tmp_path / "out.mp4").height_px == annotate.SMALLEST_HEIGHT_PX


def test_an_annotated_video_is_not_squeezed(tmp_path, model):
    take = zoo.taken(zoo.SILENT_VIDEO, pixel_shape=Fraction(16, 11))
    made(zoo.write(tmp_path / "a.mp4", take), model, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as opened:
        assert opened.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


def test_sound_alone_is_drawn_as_its_waveform(tmp_path, model, monkeypatch):
    path = write_wav(tmp_path / "a.wav", tone(1.0, rate=192_000), 192_000)
    monkeypatch.setattr(annotate, "PAGE_SECONDS", 0.3)
    made(path, model, tmp_path / "out.mp4")
    media = container.probe(tmp_path / "out.mp4")
    assert media.has_audio and (media.width_px, media.height_px) == (640, 360)
    assert media.duration_seconds == pytest.approx(1.0, abs=0.1)


def test_a_sound_file_of_its_own_replaces_the_track(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", 1.6, sound=tone(1.6, 300))
    wav = write_wav(tmp_path / "b.wav", tone(1.6, 900))
    made(path, model, tmp_path / "out.mp4", wav)
    heard = audio.read_waveform(tmp_path / "out.mp4", RATE)
    assert np.abs(np.fft.rfft(heard)).argmax() * RATE / len(heard) == pytest.approx(900, abs=2)


def test_nothing_is_written_when_the_sound_breaks(tmp_path, model):
    path = write_video(tmp_path / "a.mp4", 4.0)
    sound = np.where(np.arange(4 * RATE) < 3 * RATE, tone(4.0), np.nan)
    soundfile.write(tmp_path / "a.wav", sound, RATE, "FLOAT")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="NaN"):
        made(path, model, out / "x.mp4", tmp_path / "a.wav")
    assert not list(out.iterdir())


def test_what_is_whole_of_a_damaged_recording_is_annotated(tmp_path, model):
    """The cache refuses both files: what is learned from is to be whole."""
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    whole = write_video(tmp_path / "whole.mp4", 4.0, sound=noise)
    cut, damaged = tmp_path / "cut.mp4", tmp_path / "damaged.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    content = bytearray(whole.read_bytes())
    with av.open(str(whole)) as source:
        packets = [packet for packet in source.demux(audio=0) if packet.size]
        for packet in packets[20:23]:
            content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    damaged.write_bytes(content)
    for path, said in ((cut, r"cut short: \d\.\d s of "), (damaged, r"damaged: 3 packets were")):
        with pytest.raises(InputError):
            audio.read_waveform(path, RATE)
        analysis = made(path, model, tmp_path / "out.mp4")
        assert re.search(said, "; ".join(analysis.result().notes))
        assert container.probe(tmp_path / "out.mp4").has_audio
        alone = Predictor(model).predict(path)
        assert re.search(said, "; ".join(alone.notes))


def test_a_stop_leaves_a_playable_file_up_to_there(tmp_path, model, monkeypatch):
    """Ctrl-C comes while the tenth frame is written."""
    sound = tone(4.0)
    path = write_video(tmp_path / "a.mp4", 4.0, sound=sound)
    stop, frames = Stop(), []

    def interrupting(seconds):
        frames.append(seconds)
        if len(frames) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    taken = open_recording(path, None, model.spec)
    with pytest.raises(KeyboardInterrupt), stop.on_signals():
        analysis = render(model, taken, tmp_path / "x.mp4", Options(), stop, interrupting)
        assert analysis.predictions
    assert 10 <= len(frames) <= 11
    with av.open(str(tmp_path / "x.mp4")) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == len(frames)
    heard = audio.read_waveform(tmp_path / "x.mp4", RATE)
    assert len(heard) / RATE == pytest.approx(1.0, abs=0.15)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.fixture(scope="module")
def two_people(tmp_path_factory):
    """Two drawn faces beside each other; the right one leaves after two seconds."""
    path = tmp_path_factory.mktemp("two") / "two.mp4"
    takes = corpus.takes(2, 1)
    waveform, _, left = corpus.record(takes[4], 0)
    _, _, right = corpus.record(takes[40], 0)

    def frames():
        for (time, first), (_, second) in zip(left, right, strict=False):
            second = second if time < 2.0 else np.full_like(second, 120)
            yield time, np.hstack([first, second])

    encode.write_mp4(path, frames(), waveform, 48_000, preset="superfast")
    return path


def test_two_faces_have_tracks_and_answers_of_their_own(two_people, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, FeatureSpec(variants=()))
    result = load(folder).predict(two_people)
    assert [track.number for track in result.tracks] == [1, 2]
    middle = {
        track.number: np.mean([box.x + box.width / 2 for box in track.boxes])
        for track in result.tracks
    }
    assert sorted(middle.values())[0] < 480 < sorted(middle.values())[1]
    right = max(middle, key=middle.get)
    assert result.tracks[right - 1].times[-1] < 2.0
    first = [window for window in result.windows if window.start_seconds == 0]
    assert {window.track for window in first} == {1, 2}
    assert (first[0].face != first[1].face).any()
    assert any("2 faces" in note and "voice" in note for note in result.notes)
    # The voice is the left one's.
    assert {window.voice_of for window in first} == {3 - right}
    assert {window.track: window.basis for window in first} == {
        3 - right: results.VOICE_AND_FACE,
        right: results.FACE,
    }
    content = json.loads(json.dumps(result.to_dict()))
    assert len(content["tracks"]) == 2 and content["tracks"][0]["boxes"]

    target = two_people.with_name("two.mkv")
    overlay.write_overlay(result, two_people, target)
    with av.open(str(target)) as copy, av.open(str(two_people)) as source:
        kinds = [stream.type for stream in copy.streams]
        assert kinds == ["video", "audio", "subtitle"]
        packets = [bytes(p) for p in copy.demux(copy.streams.subtitles[0]) if p.size]
        text = b"\n".join(packets).decode()
        assert "1: " in text and "2: " in text and "\\move(" in text
        own = [bytes(p) for p in source.demux(source.streams.video[0]) if p.size]
    with av.open(str(target)) as copy:
        assert [bytes(p) for p in copy.demux(copy.streams.video[0]) if p.size] == own
    assert [path.suffix for path in two_people.parent.iterdir()].count(".ass") == 0


@pytest.mark.slow
def test_the_whole_zoo_is_annotated_or_refused_in_one_line(tmp_path, model):
    read = 0
    for case in zoo.CASES:
        if any(name not in av.codecs_available for name in case.encoders):
            continue
        path = case.make(tmp_path / case.file, case.take)
        try:
            made(path, model, tmp_path / "out.mp4")
            result = Predictor(model).predict(path)
            if result.size_px[0]:
                overlay.write_overlay(result, path, tmp_path / "out.mkv")
                turned = container.probe(tmp_path / "out.mkv")
                assert (turned.width_px, turned.height_px) == result.size_px, case.name
            read += 1
        except InputError as error:
            assert "\n" not in str(error), case.name
    assert read > len(zoo.CASES) / 3
