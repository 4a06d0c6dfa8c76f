"""The library: files, arrays, and that both read what the cache holds."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, TINY, tone, write_model, write_video, write_wav

from infer import explain, load
from infer.output import annotate
from infer.prediction import reference, results
from infer.prediction.model import Model
from infer.prediction.predict import Analysis, Options
from infer.prediction.smooth import UNSURE
from infer.predictor import Predictor
from infer.reading import recording
from pipeline.corpora.clip import Clip
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.media import video
from pipeline.sample import corpus
from pipeline.spec import EMOTIONS, FeatureSpec

SHARED = Path(__file__).parents[2] / "shared" / "clips"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TINY)
    return load(folder)


@pytest.fixture(scope="module")
def take(tmp_path_factory):
    """A drawn face that speaks."""
    folder = tmp_path_factory.mktemp("take")
    spoken = corpus.takes(1, 1)[4]
    corpus.write_take(folder, spoken, 0)
    return corpus.take_paths(folder, spoken)[0]


def recording_model(spec, rows, learned=("fused", "audio", "video")):
    """A model that keeps what it is asked."""

    def answer(tensors):
        rows.append(tensors)
        even = np.full((len(tensors["mfcc"]), 8), 1 / 8, np.float32)
        return {"fused": even, "audio": even, "video": even}

    inputs = ("mfcc", "frames")
    return Model(Path("."), spec, learned, inputs, {"settings": {}}, "onnx", answer)


def same_row(tensors, row):
    return (tensors["mfcc"][0] == row.features.mfcc).all() and (
        tensors["frames"][0] == row.features.frames
    ).all()


def test_a_window_is_the_cached_row_byte_for_byte(take):
    spec = FeatureSpec(variants=())
    (row,) = extract.extract_clip(Clip("a", 1, "happy", take), spec)
    assert row.face_found
    rows = []
    analysis = Analysis(
        recording_model(spec, rows), recording.open_recording(take, None, spec), Options()
    )
    made = [window for windows in analysis for window in windows]
    assert sum(same_row(tensors, row) for tensors in rows) == 1
    assert {window.track for window in made} == {1}
    assert all(window.basis == results.VOICE_AND_FACE for window in made)


def test_frames_decoded_for_drawing_give_the_rows_of_a_full_decode(take):
    spec = FeatureSpec(variants=())
    full = dataclasses.replace(spec, decode="full")
    (row,) = extract.extract_clip(Clip("a", 1, "happy", take), full)
    rows = []
    analysis = Analysis(
        recording_model(spec, rows),
        recording.open_recording(take, None, spec),
        Options(),
        coming=video.timed_frames(take, 0.0, 2),
    )
    list(analysis)
    assert sum(same_row(tensors, row) for tensors in rows) == 1


def test_what_is_explained_is_what_was_predicted(take, tmp_path):
    """An annotated video decodes every frame, predictions alone those that others refer to."""
    spec = FeatureSpec(variants=())
    for every_frame in (True, False):
        asked, again = [], []
        model = recording_model(spec, asked)
        opened = recording.open_recording(take, None, spec)
        if every_frame:
            made = annotate.annotate(model, opened, tmp_path / "a.mp4", Options()).predictions
        else:
            made = [window for windows in Analysis(model, opened, Options()) for window in windows]
        opened = recording.open_recording(take, None, spec)
        tensors = explain.window_tensors(
            recording_model(spec, again), opened, made[-1], every_frame=every_frame
        )
        assert (tensors["frames"] == asked[-1]["frames"]).all()


@pytest.mark.parametrize(
    ("learned", "sound", "said"),
    [
        (("audio", "video"), True, "windows: there the answer comes from the voice alone, or"),
        (("audio", "video"), False, "no sound; no face in"),
        (("video",), True, "windows: there the answer comes from the whole picture"),
        (("audio",), True, "the model has learned nothing from video: it is left out"),
    ],
)
def test_notes_are_about_what_the_model_has_learned(tmp_path, learned, sound, said):
    path = write_video(tmp_path / "a.mp4", 2.4, sound=tone(2.4) if sound else None)
    model = recording_model(TINY, [], ("fused", *learned))
    analysis = Analysis(model, recording.open_recording(path, None, TINY), Options())
    list(analysis)
    notes = "; ".join(analysis.result().notes)
    assert said in notes and "silent" not in notes
    assert ("face alone" in notes, "no face" in notes) == (False, "video" in learned)


def test_a_reference_is_the_mean_over_a_recording(take):
    """The windows of a recording that has a voice and a face, end to end."""
    spec = FeatureSpec(variants=())
    rows = []
    even = recording_model(spec, rows)

    def answer(tensors):
        means = {"audio_average": tensors["mfcc"].mean(axis=(2, 3))}
        grey = tensors["frames"].astype(np.float32).mean(axis=(1, 4))
        cells = grey.reshape(len(grey), 14, 8, 14, 8).mean(axis=(2, 4))
        return even.answer(tensors) | {
            "mfcc_average": means["audio_average"],
            "frames_average": np.repeat(cells[..., np.newaxis], 4, axis=-1),
        }

    settings = {"settings": {"speaker_reference": "recording"}}
    model = dataclasses.replace(even, answer=answer, description=settings)
    found = reference.reference_of(model, take, None, None)
    assert found["mfcc_reference"].shape == (40,) and len(rows) >= 1
    expected = np.mean([row["mfcc"][0].mean(axis=(1, 2)) for row in rows], axis=0)
    assert found["mfcc_reference"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared clips are not here")
def test_a_camera_clip_gives_its_cached_row():
    path = next(SHARED.glob("*.mp4"))
    spec = FeatureSpec(variants=())
    (row,) = extract.extract_clip(Clip("a", 1, "happy", path), spec)
    rows = []
    list(
        Analysis(recording_model(spec, rows), recording.open_recording(path, None, spec), Options())
    )
    assert sum(same_row(tensors, row) for tensors in rows) == 1


def test_arrays_are_answered_as_their_file_is(loaded, tmp_path):
    """The file holds the audio losslessly, and frames that the encoder keeps."""
    sound = tone(2.4)
    path = write_wav(tmp_path / "a.wav", sound)
    of_file = loaded.predict(path)
    of_array = loaded.predict(audio=sound, rate=RATE)
    assert of_array.probabilities == pytest.approx(of_file.probabilities, abs=2e-3)
    assert [w.start_seconds for w in of_array.windows] == [w.start_seconds for w in of_file.windows]

    path = write_video(tmp_path / "a.mp4", 2.4, sound=sound)
    frames = [frame for _, frame in video.every_rgb_frame(path, 640)]
    of_file = loaded.predict(path)
    for options in ({"frame_rate": 10}, {"times": np.arange(24) / 10}, {}):
        of_array = loaded.predict(frames=frames, audio=sound, rate=RATE, **options)
        assert of_array.face == pytest.approx(of_file.face, abs=0.02)
        assert of_array.duration_seconds == pytest.approx(2.4, abs=0.05)
    silent = loaded.predict(frames=frames, rate=10)
    assert silent.voice is None and silent.basis == results.PICTURE


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "got none"),
        ({"audio": tone(1.0)}, "rate="),
        ({"audio": np.zeros(9, np.int16), "rate": 8000}, "floats"),
        ({"audio": np.full(9, np.nan), "rate": 8000}, "finite"),
        ({"frames": [np.zeros((8, 8, 3), np.uint8)]}, "frame_rate="),
        ({"frames": [np.zeros((8, 8))], "rate": 10}, "uint8"),
        ({"frames": [np.zeros((8, 8, 3), np.uint8)] * 2, "times": [0.1]}, "ascending"),
        ({"audio": tone(1.0), "rate": float("nan")}, "rate="),
        ({"audio": np.zeros((2, RATE), np.float32), "rate": RATE}, "transpose"),
        ({"audio": 32768 * tone(1.0), "rate": RATE}, "divide int16"),
        ({"frames": [np.zeros((8, n, 3), np.uint8) for n in (8, 9)], "rate": 10}, "one size"),
        ({"frames": [np.zeros((8, 8, 3), np.uint8)], "frame_rate": float("inf")}, "frame_rate="),
        ({"path": "x.mp4", "audio": tone(1.0), "rate": RATE}, "both"),
    ],
)
def test_arrays_of_another_kind_are_refused(loaded, arrays, said):
    with pytest.raises(InputError, match=said):
        loaded.predict(**arrays)


def test_of_nothing_nothing_is_said(loaded, tmp_path):
    """A silent file without frames, and a moment between two."""
    result = loaded.predict(write_wav(tmp_path / "a.wav", np.zeros(4 * RATE, np.float32)))
    assert (result.emotion, result.basis, result.voice) == (UNSURE, results.NOTHING, None)
    assert {window.label for window in result.windows} == {UNSURE}
    assert result.notes[0] == "the sound is silent" and "nothing is heard" in result.notes[2]
    instant = loaded.predict(frames=[np.zeros((48, 64, 3), np.uint8)], frame_rate=1e9)
    assert instant.basis == results.NOTHING


def test_records_are_flat_rows(loaded, tmp_path):
    path = write_video(tmp_path / "a.mp4", 2.6, sound=tone(2.6))
    result = loaded.predict(path)
    rows = result.records()
    assert len(rows) == len(result.windows) > 1
    for row, window in zip(rows, result.windows, strict=True):
        assert all(value is None or isinstance(value, str | int | float) for value in row.values())
        assert row["emotion"] == window.emotion
        assert row[window.emotion] == row["probability"]
        assert row["time_seconds"] == pytest.approx(window.time_seconds, abs=1e-3)
        assert sum(row[name] for name in EMOTIONS) == pytest.approx(1, abs=1e-3)
    assert rows[0]["start_seconds"] == 0
    assert rows[-1]["end_seconds"] == pytest.approx(result.duration_seconds, abs=1e-3)
    content = result.to_dict()
    assert content["emotion"] == result.emotion and content["file"] == "a.mp4"
    assert len(content["windows"]) == len(rows)


def test_windows_come_as_they_are_read(loaded, tmp_path):
    path = write_video(tmp_path / "a.mp4", 4.0, sound=tone(4.0))
    coming = loaded.windows(path)
    first = next(coming)
    assert [window.start_seconds for window in first] == [0.0]
    assert len([first, *coming]) == len(loaded.predict(path).windows)


@pytest.mark.parametrize(
    ("sound", "pictures", "basis"),
    [
        (True, False, results.VOICE),
        (True, True, results.VOICE),
        (False, True, results.PICTURE),
    ],
)
def test_the_answer_comes_from_what_there_is(tmp_path, loaded, sound, pictures, basis):
    """These frames show no face."""
    waveform = tone(1.6) if sound else None
    path = (
        write_video(tmp_path / "a.mp4", sound=waveform)
        if pictures
        else write_wav(tmp_path / "a.wav", waveform)
    )
    result = loaded.predict(path)
    assert result.basis == basis
    alone = result.voice if basis == results.VOICE else result.face
    assert result.probabilities == pytest.approx(alone)
    assert any("no face" in note or "no video" in note for note in result.notes)
    assert any("no sound" in note for note in result.notes) == (not sound)
    assert result.tracks == () and result.windows[0].box is None


def test_a_silent_track_counts_as_no_voice(tmp_path, loaded):
    path = write_video(tmp_path / "a.mp4", sound=np.zeros(2 * RATE, np.float32))
    result = loaded.predict(path)
    assert result.voice is None and any("silent" in note for note in result.notes)


def test_what_the_model_has_not_learned_is_left_out(tmp_path):
    video_only = recording_model(TINY, [], ("fused", "video"))
    path = write_video(tmp_path / "a.mp4", sound=tone(1.6))
    result = Predictor(video_only).predict(path)
    assert result.voice is None and result.basis == results.PICTURE
    assert any("learned nothing from audio" in note for note in result.notes)
    with pytest.raises(InputError, match="expected video in"):
        Predictor(video_only).predict(write_wav(tmp_path / "a.wav", tone(1.0)))


def test_a_model_of_drawn_faces_says_so(tmp_path):
    model = recording_model(TINY, [])
    model = dataclasses.replace(model, description={"settings": {}, "corpus": "drawn faces"})
    notes = Predictor(model).predict(write_wav(tmp_path / "a.wav", tone(1.0))).notes
    assert any("drawn faces only" in note for note in notes)


def test_what_is_unlike_training_is_said(loaded, tmp_path):
    """The network's audio distance is the mean coefficient, divided by 50."""
    quiet = loaded.predict(write_wav(tmp_path / "a.wav", tone(1.0, level=0.001)))
    assert quiet.windows[0].unlike_training == ()
    far = dataclasses.replace(
        loaded.model,
        answer=lambda tensors: (
            loaded.model.answer(tensors)
            | {"audio_distance": np.full((len(tensors["mfcc"]), 1), 1.5, np.float32)}
        ),
    )
    result = Predictor(far).predict(tmp_path / "a.wav")
    assert result.windows[0].unlike_training == ("voice",)
    assert any("unlike anything" in note for note in result.notes)


def test_an_answer_below_the_asked_confidence_is_unsure(loaded, tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(1.0))
    result = loaded.predict(path, min_confidence=1.0)
    assert result.emotion == "unsure" and result.windows[0].label == "unsure"
    assert 0 < result.probability < 1 and result.windows[0].emotion in EMOTIONS
    assert any("unsure" in note for note in result.notes)
    with pytest.raises(InputError, match="0 to 1, got 2"):
        loaded.predict(path, min_confidence=2)


def test_windows_cover_a_recording_and_overlap_by_half(tmp_path):
    silence = np.zeros(RATE // 4, np.float32)
    sound = np.concatenate([silence, tone(4.0), np.zeros(2 * RATE, np.float32)])
    taken = recording.open_recording(write_wav(tmp_path / "a.wav", sound), None, TINY)
    spans = recording.plan_windows(taken, TINY)
    starts = [span.start for span in spans]
    assert starts[0] == 0 and starts[-1] == len(sound) - TINY.window_samples
    assert max(np.diff(starts)) == TINY.window_samples // 2
    weights = [taken.waveform.voice_part(taken.waveform.cut(span)) for span in spans]
    assert max(weights) == 1.0 and weights[-1] == 0.0


def test_a_recording_shorter_than_the_window_is_one_window(tmp_path):
    taken = recording.open_recording(write_wav(tmp_path / "a.wav", tone(0.4)), None, TINY)
    assert [span.start for span in recording.plan_windows(taken, TINY)] == [0]


def test_a_long_recording_is_read_as_a_short_one_is(tmp_path, monkeypatch):
    sound = np.random.default_rng(0).normal(0, 0.1, 9 * RATE).astype(np.float32)
    path = write_wav(tmp_path / "a.wav", sound)
    whole = recording.open_recording(path, None, TINY).waveform.whole()
    monkeypatch.setattr(recording, "HELD_SECONDS", 2.0)
    taken = recording.open_recording(path, None, TINY)
    assert taken.duration_seconds == pytest.approx(9.0) and not taken.waveform.ended
    held = 0
    for span in recording.plan_windows(taken, TINY):
        np.testing.assert_array_equal(
            taken.waveform.cut(span), whole[span.start : span.start + span.samples]
        )
        held = max(held, len(taken.waveform.whole()))
    assert held < 4 * RATE
