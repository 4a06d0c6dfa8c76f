import csv
import json

import av
import cv2
import keras
import numpy as np
import pytest
from conftest import RATE, tone, write_video, write_wav
from train.protocol import Split

from infer import annotate, answers, canvas, predict, recording, results
from infer.ahead import ahead
from pipeline.corpora import scan
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.features.detectors import Box, Face
from pipeline.media import audio, container, encode, video
from pipeline.spec import EMOTIONS, FeatureSpec
from train import artefact, model


@pytest.fixture(scope="module")
def trained(spec):
    """An untrained network: inference does not ask how good it is."""
    keras.utils.set_random_seed(0)
    network = model.build_fusion_cnn(spec, np.zeros(40, np.float32), np.ones(40, np.float32))
    return artefact.Artefact(network, spec, Split((1,), (2,), (3,)), {})


def opened(path, spec, sound=None):
    return recording.open_recording(path, sound, spec)


def test_one_window_is_the_cached_one(raw, spec, trained):
    clip = scan.scan(raw).clips[0]
    take = opened(clip.video, spec, clip.audio)
    spans = [span for span, _ in recording.plan_windows(take, spec)]
    assert extract.clip_span(take.waveform, spec) in spans


def test_windows_cover_a_long_recording_and_overlap_by_half(tmp_path, spec):
    silence = np.zeros(RATE // 4, np.float32)
    sound = np.concatenate([silence, tone(4.0), np.zeros(2 * RATE, np.float32)])
    take = opened(write_wav(tmp_path / "a.wav", sound), spec)
    planned = recording.plan_windows(take, spec)
    starts = [span.start for span, _ in planned]
    assert starts[0] == 0 and starts[-1] == len(sound) - spec.window_samples
    assert max(np.diff(starts)) == spec.window_samples // 2
    weights = [weight for _, weight in planned]
    assert max(weights) == 1.0 and weights[-1] == 0.0


def test_a_recording_shorter_than_the_window_is_one_window(tmp_path, spec):
    take = opened(write_wav(tmp_path / "a.wav", tone(0.4)), spec)
    assert [span.start for span, _ in recording.plan_windows(take, spec)] == [0]


def window(start, probabilities, weight, basis=answers.VOICE_AND_FACE):
    values = np.array(probabilities, np.float32)
    return answers.WindowPrediction(start, start + 1.0, values, values, None, basis, None, weight)


def test_the_answer_is_the_weighted_mean_of_the_windows():
    first, second = np.eye(8)[3], np.eye(8)[5]
    said = answers.Prediction([window(0, first, 0.25), window(0.5, second, 0.75)])
    assert said.probabilities == pytest.approx(0.25 * first + 0.75 * second)
    assert said.emotion == "fearful"
    assert said.mean("face") is None
    assert said.at(0.2) == pytest.approx(first)
    assert said.at(0.7) == pytest.approx((first + second) / 2)
    assert said.at(9.0) == pytest.approx(second)
    assert said.at(-1.0) == pytest.approx(first)
    unheard = answers.Prediction([window(0, first, 0.0), window(1, second, 0.0)])
    assert unheard.probabilities == pytest.approx((first + second) / 2)


def test_a_moment_waits_only_for_the_windows_around_it():
    taken = []

    def coming():
        for number in range(40):
            taken.append(number)
            yield window(number / 2, np.eye(8)[number % 8], 1.0)

    said = answers.Prediction(coming())
    assert said.at(3.1) == pytest.approx((np.eye(8)[5] + np.eye(8)[6]) / 2)
    assert taken == list(range(8))
    assert said.at(0.7) == pytest.approx((np.eye(8)[0] + np.eye(8)[1]) / 2)
    assert len(taken) == 8
    assert len(said.windows) == len(taken) == 40
    assert said.at(30.0) == pytest.approx(np.eye(8)[39 % 8])


@pytest.mark.parametrize(
    ("sound", "pictures", "basis"),
    [
        (True, False, answers.VOICE),
        (True, True, answers.VOICE),
        (False, True, answers.PICTURE),
    ],
)
def test_the_answer_comes_from_what_there_is(tmp_path, spec, trained, sound, pictures, basis):
    """These pictures show no face."""
    waveform = tone(1.6) if sound else None
    path = (
        write_video(tmp_path / "a.mp4", sound=waveform)
        if pictures
        else write_wav(tmp_path / "a.wav", waveform)
    )
    take = opened(path, spec)
    said = predict.predict(take, trained)
    head = {"voice": "voice"}.get(basis, "face")
    assert said.basis == basis
    assert said.probabilities == pytest.approx(said.mean(head))
    notes = list(answers.notes(take, said.windows))
    assert any("no face" in note or "no video" in note for note in notes)
    assert any("no sound" in note for note in notes) == (not sound)


def test_a_silent_track_counts_as_no_voice(tmp_path, spec, trained):
    path = write_video(tmp_path / "a.mp4", sound=np.zeros(2 * RATE, np.float32))
    take = opened(path, spec)
    said = predict.predict(take, trained)
    assert said.mean("voice") is None
    assert "silent" in next(answers.notes(take, said.windows))


def grey_frame(size=(360, 640), light=90):
    return encode.yuv_frame(np.full((*size, 3), light, np.uint8))


def drawn_on(frame, *what):
    annotate.draw(frame, *what)
    return frame.to_ndarray(format="rgb24").astype(int)


def test_draw_marks_the_face_and_leaves_the_rest_alone():
    probabilities = np.full(8, 0.02, np.float32)
    probabilities[4] = 0.86
    frame = grey_frame()
    before = frame.to_ndarray()
    shown = drawn_on(frame, Box(250, 100, 120, 140), probabilities)
    colour = np.array(annotate.COLOURS["angry"])
    for x, y in ((250, 170), (370, 170), (310, 240)):
        patch = shown[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert np.abs(patch - colour).sum(axis=1).min() < 30
    assert (frame.to_ndarray()[110:230, 260:360] == before[110:230, 260:360]).all()
    frame = grey_frame()
    without = drawn_on(frame, None, probabilities)
    assert (frame.to_ndarray()[170, 240:380] == before[170, 240:380]).all()
    assert np.abs(without[:40, :150] - 90).max() > 50
    assert set(annotate.COLOURS) == {*EMOTIONS, answers.UNSURE}


def test_what_is_drawn_is_no_reference_of_the_next_frame(tmp_path):
    """A decoder builds frames from those that it gave out before."""
    path = write_video(tmp_path / "a.mp4")
    clean = [frame.to_ndarray() for _, frame in video.every_yuv_frame(path, 16, 1920)]
    assert len(clean) > 5
    frames = video.every_yuv_frame(path, 16, 1920, threads=1)
    for (_, frame), expected in zip(frames, clean, strict=True):
        np.testing.assert_array_equal(frame.to_ndarray(), expected)
        annotate.draw(frame, Box(5, 5, 30, 30), np.full(8, 0.125, np.float32))
        assert (frame.to_ndarray() != expected).any()


@pytest.mark.parametrize("size", [(16, 16), (48, 64), (200, 90), (720, 1280)])
def test_draw_takes_any_size_and_any_box(size):
    for box in (None, Box(-20, -20, 40, 40), Box(size[1] - 5, size[0] - 5, 50, 50)):
        shown = drawn_on(grey_frame(size), box, np.full(8, 0.125, np.float32))
        assert shown.shape == (*size, 3)
        assert np.abs(shown - 90).max() > 50


def test_a_piece_of_a_canvas_is_drawn_where_it_lies():
    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (64, 48))
    frame = encode.yuv_frame(smooth)
    before = frame.to_ndarray()
    with canvas.Canvas(frame).piece(11, 7, 30, 21) as (picture, place):
        assert place == (10, 6) and picture.shape == (16, 20, 3)
        expected = frame.to_ndarray(format="rgb24")[6:22, 10:30].astype(int)
        assert np.abs(picture - expected).mean() < 3
        picture[:] = (200, 60, 30)
    after = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(after[8:20, 12:28] - (200, 60, 30)).max() < 6
    changed = np.argwhere(frame.to_ndarray()[:48] != before[:48])
    assert (changed.min(axis=0) >= (6, 10)).all() and (changed.max(axis=0) < (22, 30)).all()
    with canvas.Canvas(frame).piece(-9, 40, 0, 60) as (picture, _):
        assert picture.size == 0


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


def test_boxes_move_evenly_between_detections(monkeypatch):
    found = iter([[Face(Box(x, 0, 100, 100), 0.9)] for x in (0, 20)] + [[]])
    monkeypatch.setattr(annotate.detectors, "detect", lambda frame, spec: next(found))
    step = annotate.DETECTION_SECONDS / 2
    frames = [(number * step, grey_frame((4, 4))) for number in range(6)]
    boxes = [box and box.x for _, _, box in annotate.with_boxes(iter(frames), FeatureSpec())]
    assert boxes[:3] == pytest.approx([0, 10, 20])
    assert boxes[3:] == [None, None, None]


def render(path, spec, trained, target, sound=None):
    take = opened(path, spec, sound)
    said = predict.predict(take, trained)
    annotate.render(take, said, target, spec, progress=False)
    return take, said


def test_rendered_video_has_every_frame_and_the_sound(tmp_path, spec, trained):
    sound = tone(1.6)
    path = write_video(tmp_path / "a.mp4", 1.6, sound=sound)
    render(path, spec, trained, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert made.streams.video[0].codec_context.name == "h264"
        assert made.streams.audio[0].codec_context.name == "aac"
        times = [float(frame.time) for frame in made.decode(video=0)]
    assert times == pytest.approx([n / 10 for n in range(16)])
    heard = audio.read_waveform(tmp_path / "out.mp4", RATE)[: len(sound)]
    assert np.corrcoef(heard[2000:-2000], sound[2000:-2000])[0, 1] > 0.99
    assert container.probe(tmp_path / "out.mp4").height_px == annotate.SMALLEST_HEIGHT_PX


def test_sound_alone_is_rendered_as_its_waveform(tmp_path, spec, trained):
    path = write_wav(tmp_path / "a.wav", tone(1.0, rate=192_000), 192_000)
    render(path, spec, trained, tmp_path / "out.mp4")
    media = container.probe(tmp_path / "out.mp4")
    assert media.has_audio and (media.width_px, media.height_px) == (640, 360)
    assert media.duration_seconds == pytest.approx(1.0, abs=0.1)


def test_a_sound_file_of_its_own_replaces_the_track(tmp_path, spec, trained):
    video = write_video(tmp_path / "a.mp4", 1.6, sound=tone(1.6, 300))
    wav = write_wav(tmp_path / "b.wav", tone(1.6, 900))
    render(video, spec, trained, tmp_path / "out.mp4", wav)
    heard = audio.read_waveform(tmp_path / "out.mp4", RATE)
    assert np.abs(np.fft.rfft(heard)).argmax() * RATE / len(heard) == pytest.approx(900, abs=2)


def test_predictions_are_written_as_json_and_csv(tmp_path, spec, trained):
    path = write_video(tmp_path / "a.b.mp4", 2.6, sound=tone(2.6))
    take = opened(path, spec)
    said = predict.predict(take, trained)
    files = results.write_predictions(said, take, tmp_path / "a.b", tmp_path / "neutral.mp4")
    assert [file.name for file in files] == ["a.b.json", "a.b.csv"]
    content = json.loads(files[0].read_text())
    assert content["file"] == "a.b.mp4" and content["emotion"] == said.emotion
    assert content["read_against"] == "neutral.mp4"
    assert sum(content["probabilities"].values()) == pytest.approx(1, abs=1e-3)
    assert content["windows"][0]["start_seconds"] == 0
    assert content["windows"][-1]["end_seconds"] == content["duration_seconds"]
    rows = list(csv.DictReader(files[1].open()))
    assert [row["emotion"] for row in rows] == [w["emotion"] for w in content["windows"]]
    assert float(rows[0][content["windows"][0]["emotion"]]) == pytest.approx(
        content["windows"][0]["probability"], abs=1e-3
    )


def test_an_answer_below_the_asked_confidence_is_unsure(tmp_path, spec, trained):
    first = np.array([0.1, 0.6, 0.3, 0, 0, 0, 0, 0])
    for least, said in ((0.0, "calm"), (0.6, "calm"), (0.61, "unsure"), (1.0, "unsure")):
        found = answers.Prediction([window(0, first, 1.0)], least)
        assert found.emotion == answers.named(first, least) == said
    path = write_wav(tmp_path / "a.wav", tone(1.0))
    take = opened(path, spec)
    files = results.write_predictions(predict.predict(take, trained, 1.0), take, tmp_path / "a")
    content = json.loads(files[0].read_text())
    assert content["emotion"] == content["windows"][0]["emotion"] == "unsure"
    assert content["min_confidence"] == 1.0 and 0 < content["probability"] < 1
    assert next(csv.DictReader(files[1].open()))["emotion"] == "unsure"


def test_an_unsure_label_is_grey():
    probabilities = np.full(8, 0.125, np.float32)

    def part_of_plate(least):
        plate = drawn_on(grey_frame(), None, probabilities, least)[:40, :110].reshape(-1, 3)
        return (np.abs(plate - annotate.COLOURS[answers.UNSURE]).max(axis=1) <= 2).mean()

    assert part_of_plate(0.5) > 0.2
    assert part_of_plate(0.1) < 0.02


def test_temperatures_of_the_model_are_applied(tmp_path, spec, trained):
    import dataclasses

    path = write_wav(tmp_path / "a.wav", tone(1.0))
    take = opened(path, spec)
    plain = predict.predict(take, trained)
    hot = dataclasses.replace(trained, temperatures={"audio": 2.0})
    expected = np.sqrt(plain.windows[0].probabilities)
    said = predict.predict(take, hot).windows[0].probabilities
    assert said == pytest.approx(expected / expected.sum(), abs=1e-5)


def test_nothing_is_written_when_the_video_breaks(tmp_path, spec, trained):
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    whole = write_video(tmp_path / "whole.mp4", 4.0, sound=noise)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match=r"cut short|readable|empty"):
        render(broken, spec, trained, out / "x.mp4")
    assert not list(out.iterdir())
