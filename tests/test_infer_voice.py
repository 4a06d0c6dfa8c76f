"""The voice is given to the face that moves its mouth with it, or said to be shared."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from infer.prediction import results
from infer.prediction.model import Model
from infer.prediction.predict import Analysis, Options
from infer.reading import mouths
from infer.reading.mouths import Mouths
from infer.reading.recording import open_recording
from infer.reading.windows import FaceSearch
from pipeline.features.detectors import Box, Face
from pipeline.media import encode
from pipeline.media.video import Frame
from pipeline.sample import corpus
from pipeline.spec import EMOTIONS, FeatureSpec

RATE = 22_050
SPEC = FeatureSpec(variants=())
SQUARES = {1: Box(0.05, 0.05, 0.4, 0.4), 2: Box(0.55, 0.05, 0.4, 0.4)}


def envelope(seed, seconds=2.6):
    """Loudness of made syllables, a value for each sample: 4 a second, of uneven strength."""
    random = np.random.default_rng(seed)
    places = np.arange(0, seconds, 1 / 8) + random.uniform(-0.03, 0.03, round(seconds * 8))
    strengths = random.uniform(0.0, 1.0, len(places))
    return np.interp(np.arange(round(seconds * RATE)) / RATE, places, strengths) ** 2


def voice(loudness):
    return (loudness * np.random.default_rng(0).normal(0, 0.2, len(loudness))).astype(np.float32)


def watched(courses, squares=SQUARES, rate=25, pixel_format="yuv420p"):
    """Mouths in frames where two heads nod and each mouth opens with its own course."""
    watching = Mouths(lambda seconds: squares)
    for number in range(round(2.56 * rate)):
        time = number / rate
        picture = np.full((120, 240, 3), 150, np.uint8)
        nod = round(3 * np.sin(9 * time))
        for square, course in zip(SQUARES.values(), courses, strict=True):
            x, y = (round(240 * value) for value in square[:2])
            picture[y + 15 + nod : y + 25 + nod, x + 20 : x + 76] = 40
            opened = round(20 * np.sqrt(course[round(time * RATE)]))
            picture[y + 60 : y + 60 + opened, x + 32 : x + 64] = 30
        frame = Frame.from_ndarray(picture, "rgb24")
        watching.see(frame.reformat(format=pixel_format), time)
    return watching


def heard(watching, waveform):
    return watching.agreements([1, 2], waveform, 0.0, RATE)


def test_what_has_nothing_to_do_with_the_voice_agrees_by_about_one():
    random = np.random.default_rng(0)
    found = [
        mouths.agreement(random.normal(size=(40, 48)), random.normal(size=40)) for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(1.0, abs=0.1)


def test_what_moves_with_the_voice_agrees_by_the_logarithm_of_what_is_left():
    random = np.random.default_rng(0)
    louder = random.normal(size=4000)
    noisy = louder[:, np.newaxis] + random.normal(size=(4000, 12))
    # Half of the variance is the voice's: r² = 1/2.
    assert mouths.agreement(noisy, louder) / 4000 == pytest.approx(np.log(2), rel=0.1)
    assert mouths.agreement(-3 * noisy, louder) == pytest.approx(mouths.agreement(noisy, louder))
    assert mouths.agreement(np.zeros((40, 12)), louder[:40]) == 0
    assert mouths.agreement(noisy[:40], np.zeros(40)) == 0


def test_loudness_is_that_around_each_time():
    waveform = np.concatenate([np.zeros(RATE), np.full(RATE, 0.25)]).astype(np.float32)
    found = mouths.loudness_at(waveform, np.array([-1.0, 0.5, 1.0, 1.5, 2.0, 9.0]), RATE)
    half = 0.5 * 0.5**0.25
    assert found == pytest.approx([0, 0, half, 0.5, 0.5, 0], abs=1e-3)


@pytest.mark.parametrize(
    ("agreements", "face"),
    [
        ({1: 9.0, 2: 1.0}, 1),
        ({1: 1.0, 2: 9.0, 3: 2.0}, 2),
        ({1: 9.0, 2: 8.9}, None),
        ({1: mouths.FLOOR - 0.1, 2: 0.1}, None),
        ({1: 0.0, 2: 0.0}, None),
        ({1: 9.0}, None),
        ({}, None),
    ],
)
def test_the_voice_is_given_to_a_face_that_is_well_ahead(agreements, face):
    assert mouths.speaker(agreements) == face


@pytest.mark.parametrize("pixel_format", ["yuv420p", "rgb24", "yuv420p10le"])
def test_the_mouth_that_opens_with_the_voice_is_found(pixel_format):
    first, second = envelope(1), envelope(2)
    watching = watched((first, second), pixel_format=pixel_format)
    assert mouths.speaker(heard(watching, voice(first))) == 1
    assert mouths.speaker(heard(watching, voice(second))) == 2
    others = [mouths.speaker(heard(watching, voice(envelope(seed)))) for seed in range(10, 30)]
    assert others.count(None) >= 12


@pytest.mark.parametrize("rate", [12, 60])
def test_it_is_found_at_any_frame_rate(rate):
    first, second = envelope(1), envelope(2)
    assert mouths.speaker(heard(watched((first, second), rate=rate), voice(second))) == 2


def test_mouths_that_do_not_move_share_the_voice():
    still = np.ones(round(2.6 * RATE))
    found = heard(watched((still, still)), voice(envelope(1)))
    assert set(found) == {1, 2} and mouths.speaker(found) is None
    silent = np.zeros(round(2.56 * RATE), np.float32)
    assert mouths.speaker(heard(watched((envelope(1), envelope(2))), silent)) is None


def test_nothing_is_said_of_too_few_frames_or_faces():
    first, second = envelope(1), envelope(2)
    assert heard(watched((first, second), rate=5), voice(first)) == {}
    assert heard(watched((first, second), {1: SQUARES[1]}), voice(first)) == {}
    one = watched((first, second)).agreements([1], voice(first), 0.0, RATE)
    assert one == {}
    # A face that has just come cannot be ruled out.
    assert watched((first, second)).agreements([1, 2, 3], voice(first), 0.0, RATE) == {}


def test_one_face_is_not_watched():
    search = FaceSearch(SPEC)
    search.width_px = 100
    search.tracker.update(0.0, [Face(Box(10, 10, 20, 20), 0.9)])
    assert search.squares_at(0.1) == {}
    search.tracker.update(0.2, [Face(Box(x, 10, 20, 20), 0.9) for x in (10, 60)])
    assert set(search.squares_at(0.3)) == {1, 2} and search.squares_at(0.9) == {}
    assert search.squares_at(0.2)[2].x == pytest.approx(0.6, abs=0.05)


@pytest.fixture(scope="module")
def two_faces(tmp_path_factory):
    """Two drawn people, who both speak, and what each says."""
    path = tmp_path_factory.mktemp("voice") / "two.mp4"
    takes = corpus.takes(2, 1)
    left_voice, _, left = corpus.record(takes[4], 0)
    right_voice, _, right = corpus.record(takes[44], 0)
    both = zip(left, right, strict=False)
    frames = ((time, np.hstack([one, other])) for (time, one), (_, other) in both)
    encode.write_mp4(path, frames, None, 0)
    sounds = []
    for name, waveform in (("left", left_voice), ("right", right_voice)):
        sounds.append(path.with_name(f"{name}.mp4"))
        still = ((n / 10, np.zeros((16, 16, 3), np.uint8)) for n in range(2))
        encode.write_mp4(sounds[-1], still, waveform, 48_000)
    return SimpleNamespace(path=path, sounds=sounds)


def answer(tensors):
    """Heads that always say, in this order: happy, sad, angry."""
    rows = len(tensors["frames"])
    said = {"fused": "happy", "audio": "sad", "video": "angry"}
    row = {name: np.eye(8, dtype=np.float32)[EMOTIONS.index(said[name])] for name in said}
    return {name: np.repeat(values[np.newaxis], rows, axis=0) for name, values in row.items()}


def result_of(path, sound):
    heads, inputs = ("fused", "audio", "video"), ("mfcc", "frames")
    model = Model(path.parent, SPEC, heads, inputs, {"settings": {}}, "onnx", answer)
    analysis = Analysis(model, open_recording(path, sound, SPEC), Options())
    for _ in analysis:
        pass
    return analysis.result()


@pytest.mark.parametrize("side", [0, 1])
def test_the_face_that_speaks_gets_the_voice_and_others_their_face_alone(two_faces, side):
    result = result_of(two_faces.path, two_faces.sounds[side])
    decided = [window for window in result.windows if window.voice_of is not None]
    assert decided
    for window in decided:
        on_the_right = window.box.x + window.box.width / 2 > result.size_px[0] / 2
        speaks = on_the_right == bool(side)
        assert speaks == (window.track == window.voice_of)
        assert window.basis == (results.VOICE_AND_FACE if speaks else results.FACE)
        assert window.emotion == ("happy" if speaks else "angry")
        assert (window.voice is not None) == speaks
    starts = {window.start_seconds for window in decided}
    both = [window for window in result.windows if window.start_seconds in starts]
    assert len(both) == len(decided) == 2 * len(starts)
    assert any(f"in {len(starts)} of" in note for note in result.notes)
    assert result.voice[EMOTIONS.index("sad")] == 1
    assert result.emotion == "happy"
    content = json.loads(json.dumps(result.to_dict()))
    assert [window["voice_of"] for window in content["windows"]] == [
        window.voice_of for window in result.windows
    ]
    assert [row["voice_of"] for row in result.records()] == [
        window.voice_of for window in result.windows
    ]


def test_a_voice_over_is_shared(two_faces, tmp_path):
    sound = tmp_path / "over.mp4"
    waveform = voice(np.repeat(envelope(9, 4.0), 2))
    still = ((n / 10, np.zeros((16, 16, 3), np.uint8)) for n in range(2))
    encode.write_mp4(sound, still, waveform, 44_100)
    result = result_of(two_faces.path, sound)
    assert {window.voice_of for window in result.windows} == {None}
    assert {window.basis for window in result.windows} == {results.VOICE_AND_FACE}
    assert any("same voice" in note for note in result.notes)
