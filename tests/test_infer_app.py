"""What the page does with a recording, without the page."""

import json
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import zoo
from conftest import RATE, TINY, tone, write_model, write_video, write_wav

from infer import load
from infer.app import about, answer, playable
from infer.app.playable import AS_IS, COPY, ENCODE
from infer.output import annotate
from infer.prediction.predict import Options
from infer.reading.recording import open_recording
from pipeline.errors import InputError
from pipeline.media import container, encode, packets, video
from pipeline.media.packets import Kind
from pipeline.sample import corpus, voice
from pipeline.spec import EMOTIONS


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TINY, corpus="voices of a test")
    return load(folder)


@pytest.fixture(scope="module")
def face(tmp_path_factory):
    path = tmp_path_factory.mktemp("face") / "angry.mp4"
    waveform, _, frames = corpus.record(corpus.Take(5, 2, 1, 1, 8), 0)
    encode.write_mp4(path, frames, waveform, voice.SAMPLE_RATE_HZ)
    return path


def taken(path, loaded):
    return open_recording(path, None, loaded.model.spec)


MP4 = Kind(".mp4", "mov,mp4,m4a,3gp,3g2,mj2", "h264", "aac", "yuv420p", True)
WEBM = Kind(".webm", "matroska,webm", "vp9", "opus", "yuv420p", True)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MP4, (AS_IS, ".mp4")),
        (replace(MP4, audio=None), (AS_IS, ".mp4")),
        (WEBM, (AS_IS, ".webm")),
        (replace(WEBM, video="av1"), (AS_IS, ".webm")),
        (replace(WEBM, length_known=False), (COPY, ".webm")),
        (replace(WEBM, video="h264", audio=None), (COPY, ".mp4")),
        (replace(MP4, suffix=".mov"), (COPY, ".mp4")),
        (replace(MP4, offset_seconds=0.03), (AS_IS, ".mp4")),
        (replace(MP4, offset_seconds=1.0), (COPY, ".mp4")),
        (replace(WEBM, offset_seconds=1.0), (COPY, ".webm")),
        (replace(MP4, suffix=".mkv", container="matroska,webm"), (COPY, ".mp4")),
        (replace(MP4, suffix=".flv", container="flv"), (COPY, ".mp4")),
        (replace(MP4, suffix=".avi", container="avi"), (ENCODE, ".mp4")),
        (replace(MP4, video="mpeg4"), (ENCODE, ".mp4")),
        (replace(MP4, video="hevc"), (ENCODE, ".mp4")),
        (replace(MP4, pixel_format="yuv420p10le"), (ENCODE, ".mp4")),
        (replace(MP4, audio="pcm_s16le"), (ENCODE, ".mp4")),
        (Kind(".wav", "wav", None, "pcm_s16le", None, True), (AS_IS, ".wav")),
        (Kind(".mp3", "mp3", None, "mp3", None, True), (AS_IS, ".mp3")),
        (Kind(".amr", "amr", None, "amr_nb", None, True), (ENCODE, ".wav")),
        (Kind(".webm", "matroska,webm", None, "opus", None, False), (ENCODE, ".wav")),
    ],
)
def test_what_a_browser_gets_to_play(kind, expected):
    assert playable.way(kind) == expected


def test_a_playable_recording_stays_as_it_is(loaded, tmp_path):
    path = write_video(tmp_path / "x.mp4", 1.0, sound=tone(1.0))
    assert playable.playable(taken(path, loaded), tmp_path) == path
    assert list(tmp_path.iterdir()) == [path]


def test_packets_are_copied_into_a_file_that_knows_its_length(loaded, tmp_path):
    source = write_video(tmp_path / "x.mp4", 1.0, sound=tone(1.0))
    path = tmp_path / "x.mkv"
    packets.copy_packets(source, path)
    made = playable.playable(taken(path, loaded), tmp_path)
    assert made.suffix == ".mp4" and playable.way(packets.kind_of(made))[0] == AS_IS
    with av.open(str(source)) as one, av.open(str(made)) as other:
        copied = [
            [bytes(p) for p in each.demux(video=0) if p.dts is not None] for each in (one, other)
        ]
    assert copied[0] == copied[1] and len(copied[0]) == 10
    assert video.presentation_times(made) == pytest.approx(np.arange(10) / 10, abs=2e-3)


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "libx264"), ("mkv", "mpeg4")])
def test_players_count_from_the_first_frame_as_boxes_do(loaded, tmp_path, suffix, codec):
    """The sound begins a second before the frames: a player would count from there."""
    take = zoo.taken(
        zoo.SILENT_VIDEO,
        video=codec,
        audio="aac",
        video_options={},
        start=1.0,
        audio_start=-1.0,
        onset=1.5,
        end=2.6,
        seconds=2.6,
    )
    made = playable.playable(taken(zoo.write(tmp_path / f"x.{suffix}", take), loaded), tmp_path)
    assert made.parent == tmp_path and made.stem == "browser"
    with av.open(str(made)) as opened:
        assert [next(opened.decode(video=0)).time, opened.start_time] == [0.0, 0]
        opened.seek(0)
        heard = [(frame.time, frame.to_ndarray().mean(axis=0)) for frame in opened.decode(audio=0)]
    loud = next(time for time, block in heard if np.abs(block).max() > 0.2)
    assert loud == pytest.approx(0.5, abs=0.03)


def test_what_no_browser_plays_is_encoded(loaded, tmp_path):
    path = tmp_path / "x.avi"
    with av.open(str(path), "w") as written:
        stream = written.add_stream("mpeg4", rate=10)
        stream.height, stream.width = 48, 64
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            written.mux(stream.encode(frame))
        written.mux(stream.encode())
    made = playable.playable(taken(path, loaded), tmp_path)
    kind = packets.kind_of(made)
    assert playable.way(kind) == (AS_IS, ".mp4") and kind.video == "h264"
    assert len(video.presentation_times(made)) == 10
    media = container.probe(made)
    assert (media.width_px, media.height_px) == (64, 48)


def test_sound_of_any_kind_becomes_a_wav(loaded, tmp_path):
    path = tmp_path / "x.au"
    write_wav(path, tone(1.5))
    made = playable.playable(taken(path, loaded), tmp_path)
    assert playable.way(packets.kind_of(made)) == (AS_IS, ".wav")
    assert container.probe(made).duration_seconds == pytest.approx(1.5, abs=0.01)


def test_steps_show_the_recording_first_and_end_with_its_result(loaded, face, tmp_path):
    first, *_, last = answer.steps(loaded, face, tmp_path, 60)
    assert first.result is None and first.view["result"] is None and first.view["part"] == 0
    assert first.view["source"].endswith("angry.mp4")
    assert last.result.tracks and last.view["part"] == 1
    assert last.view["result"] == last.result.to_dict() == loaded.predict(face).to_dict()
    assert json.loads(json.dumps(last.view)) == last.view
    assert "<svg" in last.view["wide"] and "<svg" in last.view["narrow"]


def test_steps_in_between_hold_what_is_known(loaded, face, tmp_path, monkeypatch):
    monkeypatch.setattr(answer, "STEP_SECONDS", 0.0)
    shown = [step.view for step in answer.steps(loaded, face, tmp_path, 60)]
    parts = [view["part"] for view in shown]
    assert parts == sorted(parts) and len(parts) > 3
    counts = [len(view["result"]["windows"]) for view in shown[1:]]
    assert counts == sorted(counts) and counts[0] == 1
    json.dumps(shown)


def test_a_long_recording_is_refused_in_one_line(loaded, tmp_path):
    path = write_video(tmp_path / "x.mp4", 2.0)
    with pytest.raises(
        InputError, match=r"at most 0.02 minutes in .*x.mp4, got 0.0; cut it"
    ) as told:
        list(answer.steps(loaded, path, tmp_path, 1.2))
    assert answer.plain(told.value, path).startswith("expected at most 0.02 minutes in x.mp4, got")


def test_the_model_is_introduced(loaded):
    assert about.summary(loaded.model) == (
        "The model was trained on voices of a test. How well it does was not tested."
    )
    heads = {
        "fused": {"uar": 0.7482, "recall": dict.fromkeys(EMOTIONS, 0.5) | {"calm": None}},
        "audio": {"uar": 0.6},
    }
    metrics = {**heads, "clips": 30, "actors": [4]}
    description = loaded.model.description | {"metrics": metrics, "corpus": None}
    model = replace(loaded.model, description=description)
    assert about.summary(model) == (
        "The model was trained on a corpus that its `model.json` does not name. Average recall on "
        "30 clips of 1 actor that it had not seen: voice and face **75 %**, voice alone **60 %**; "
        "chance is 14.3 %."
    )
    rows = {row[0]: row[1:] for row in about.table(model)}
    assert rows["happy"] == ["50 %", "-", "-"] and rows["calm"][0] == "-"


@pytest.mark.parametrize("kind", ["face", "sound"])
def test_a_result_is_drawn_without_predicting_again(loaded, face, tmp_path, kind):
    path = face if kind == "face" else write_wav(tmp_path / "x.wav", tone(3.0), RATE)
    spec = loaded.model.spec
    one, other = tmp_path / "one.mp4", tmp_path / "other.mp4"
    analysis = annotate.annotate(loaded.model, taken(path, loaded), one, Options())
    told = []
    annotate.redraw(analysis.result(), taken(path, loaded), other, spec, told.append)
    assert one.read_bytes() == other.read_bytes()
    assert told == sorted(told) and told[-1] > 2.5


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("POST", {}, 200),
        ("POST", {"origin": "http://127.0.0.1:7860"}, 200),
        ("POST", {"origin": "http://elsewhere.example"}, 403),
        ("POST", {"origin": "http://127.0.0.1:3000"}, 403),
        ("POST", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ("GET", {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ("GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ("GET", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_another_site_may_link_to_the_page_and_do_nothing_else(method, headers, code):
    testing = pytest.importorskip("starlette.testclient", reason="needs Gradio")
    from starlette.responses import PlainTextResponse

    from infer.app.guard import SameOriginOnly

    client = testing.TestClient(SameOriginOnly(PlainTextResponse("page")), "http://127.0.0.1:7860")
    answered = client.request(method, "/upload", headers=headers)
    assert answered.status_code == code
    assert "default-src 'self'" in answered.headers["content-security-policy"]


def test_no_port_is_one_line(loaded):
    pytest.importorskip("gradio", reason="needs Gradio: 'make setup-app'")
    from infer.app import serving

    with pytest.raises(InputError, match="free port, got 70000"), serving.serving(loaded, 70_000):
        pass
