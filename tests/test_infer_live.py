"""Streams that are fed piece by piece, and live sources."""

import functools
import http.server
import io
import json
import signal
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import av
import numpy as np
import pytest
import zoo
from conftest import RATE, TINY, tone, write_model, write_video, write_wav

from infer import load
from infer.live import __main__ as command
from infer.live import serve
from infer.live.session import Live, Slot
from infer.prediction import results
from pipeline.errors import InputError
from pipeline.features import extract
from pipeline.media import capture, video
from pipeline.sample import corpus
from pipeline.spec import FeatureSpec


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, TINY)
    return load(folder)


def feed(stream, seconds, sound=None, frames=None, block=0.1):
    """Sound in blocks, a grey frame each tenth of a second."""
    for number in range(round(seconds / block)):
        if sound is not None:
            first = round(number * block * RATE)
            stream.hear(sound[first : first + round(block * RATE)])
        if frames is not None:
            stream.see(frames[number % len(frames)], number * block)
        yield number * block


def grey(count=10):
    return [np.full((48, 64, 3), 20 + 20 * n, np.uint8) for n in range(count)]


def test_a_stream_answers_about_the_last_window(loaded):
    stream = loaded.stream(RATE)
    assert stream.predict() == []
    sound = tone(8.0)
    for _ in feed(stream, 8.0, sound, grey()):
        pass
    (made,) = stream.predict()
    assert stream.seconds == pytest.approx(7.9)
    # Two frames of the spec: the second one is the newest of the stream.
    spread = extract.frame_times(extract.Span(0, TINY.window_samples), TINY)[-1]
    assert made.start_seconds == pytest.approx(7.9 - spread, abs=1e-3)
    assert made.basis == results.VOICE and made.voice is not None
    whole = loaded.predict(audio=sound, rate=RATE)
    assert made.voice == pytest.approx(whole.windows[3].voice, abs=0.01)


def test_a_stream_of_one_kind_alone(loaded):
    heard = loaded.stream(RATE)
    for _ in feed(heard, 2.0, tone(2.0)):
        pass
    (made,) = heard.predict()
    assert made.face is None and made.end_seconds == pytest.approx(2.0, abs=0.1)
    shown = loaded.stream()
    for _ in feed(shown, 2.0, frames=grey()):
        pass
    (made,) = shown.predict()
    assert made.voice is None and made.basis == results.PICTURE
    with pytest.raises(InputError, match="with a rate"):
        shown.hear(tone(0.1))
    with pytest.raises(InputError, match="floats"):
        heard.hear(np.zeros(9, np.int16))


def test_sound_is_heard_at_its_time(loaded):
    """What a stream answers about is what a file with the same sound at the same times holds."""
    sound, silence = tone(8.0), np.zeros(2 * RATE, np.float32)
    late = np.concatenate([silence, sound[: 3 * RATE], silence, sound[3 * RATE :]])
    whole, timed = loaded.stream(RATE), loaded.stream(RATE)
    for _ in feed(whole, 5.0, late[2 * RATE :]):
        pass
    for number in range(30):
        end = (number + 1) / 10
        # Bursts of a network are not gaps.
        timed.hear(
            sound[round((end - 0.1) * RATE) : round(end * RATE)], 2 + end + 0.1 * (number % 3)
        )
    timed.hear(sound[3 * RATE : round(3.1 * RATE)], 7.1)
    for number in range(31, 60):
        end = (number + 1) / 10
        timed.hear(sound[round((end - 0.1) * RATE) : round(end * RATE)])
    assert timed.seconds == pytest.approx(10.0, abs=0.05)
    for _ in feed(whole, 3.0, sound[3 * RATE :]):
        pass
    (expected,), (made,) = whole.predict(), timed.predict()
    assert made.end_seconds == pytest.approx(expected.end_seconds + 2, abs=0.05)
    assert made.voice == pytest.approx(expected.voice, abs=0.01)
    # A microphone whose clock is ahead: nothing is made up.
    ahead = loaded.stream(RATE)
    for number in range(100):
        ahead.hear(sound[: RATE // 10], 0.09 * (number + 1))
    assert ahead.seconds == pytest.approx(9.0, abs=0.35)


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_does_not_grow(tmp_path, asked):
    """With and without questions in between, while it follows a face."""
    write_model(tmp_path, FeatureSpec(variants=()))
    stream = load(tmp_path).stream(RATE)
    _, _, frames = corpus.record(corpus.takes(1, 1)[4], 0)
    shown = [frame for _, (_, frame) in zip(range(10), frames, strict=False)]
    sizes = []
    for seconds in feed(stream, 40.0, tone(40.0), shown):
        if round(seconds * 10) % 50 == 0:
            if asked:
                stream.predict()
            sizes.append((len(stream._sound), len(stream._frames), len(stream.search._found)))
    assert sizes[3] == sizes[-1]
    with pytest.raises(InputError, match="NaN"):
        stream.hear(np.full(9, np.nan, np.float32))


def test_a_face_is_followed_in_a_stream(tmp_path):
    spec = FeatureSpec(variants=())
    write_model(tmp_path, spec)
    waveform, _, frames = corpus.record(corpus.takes(1, 1)[4], 0)
    stream = load(tmp_path).stream(48_000)
    tracks = set()
    for moment, frame in frames:
        stream.hear(waveform[round(48_000 * moment) : round(48_000 * (moment + 0.04))])
        stream.see(frame, moment)
        if moment > 0.5 and round(25 * moment) % 12 == 0:
            tracks |= {made.track for made in stream.predict()}
    assert tracks == {1}
    (made,) = stream.predict()
    assert made.basis == results.VOICE_AND_FACE and made.box.width > 50


def test_a_slot_gives_the_newest_and_drops_the_others():
    slot = Slot()
    seen = []
    taken = threading.Semaphore(0)

    def read():
        for held in slot.newer():
            seen.append(held)
            taken.release()
            busy.wait()

    busy = threading.Event()
    reader = threading.Thread(target=read)
    reader.start()
    slot.put("first")
    taken.acquire()
    for held in ("second", "third", "fourth"):
        slot.put(held)
    busy.set()
    taken.acquire()
    slot.close()
    reader.join()
    assert seen == ["first", "fourth"]


def test_a_file_is_played_and_answered(loaded, tmp_path):
    path = write_video(tmp_path / "a.mp4", 1.6, sound=tone(1.6))
    answers, frames = [], []
    running = Live(
        loaded.model,
        str(path),
        on_answer=answers.append,
        on_frame=lambda seconds, frame: frames.append(seconds),
    )
    running.start()
    running.wait()
    assert answers and answers[-1][0].voice is not None
    assert running.figures.captured == 16 and running.figures.drawn == len(frames) >= 1
    assert frames == sorted(frames)
    assert "16 frames" in running.figures.text()


def as_transport_stream(path):
    """What a camera sends: MPEG-TS, which has no beginning."""
    memory = io.BytesIO()
    with av.open(path) as source, av.open(memory, "w", format="mpegts") as target:
        copies = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = copies[packet.stream]
                target.mux(packet)
    return memory.getvalue()


def test_a_camera_that_breaks_off_is_asked_again(loaded, tmp_path, caplog):
    """Each connection gives a second of video and ends, as a camera does that loses power."""
    sent = as_transport_stream(write_video(tmp_path / "a.mp4", 1.0, sound=tone(1.0)))

    class Camera(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(sent)

    with socketserver.TCPServer(("127.0.0.1", 0), Camera) as camera:
        threading.Thread(target=camera.serve_forever, daemon=True).start()
        times = []

        def count(seconds, frame):
            times.append(seconds)
            if running.figures.captured > 10:
                running.stop()

        address = f"tcp://127.0.0.1:{camera.server_address[1]}"
        running = Live(loaded.model, address, on_frame=count)
        running.start()
        running.wait()
        camera.shutdown()
    assert running.figures.captured > 10 and times == sorted(times)
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(": ")[0] for line in said] == [f"{address} broke off", f"{address} is back"]


def test_a_callback_ends_a_live_source(loaded, tmp_path):
    path = write_video(tmp_path / "a.mp4", 30.0, sound=tone(30.0))
    answers = []

    def once(made):
        answers.append(made)
        return False

    loaded.live(path, once)
    assert len(answers) == 1
    # Where sound alone comes no frame asks whether to go on: it would be played to its end.
    began, seconds = time.monotonic(), 60.0
    loaded.live(write_wav(tmp_path / "a.wav", tone(seconds)), once)
    assert len(answers) == 2 and time.monotonic() - began < seconds


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_source_that_goes_on(tmp_path, sent, code):
    """A camera never ends by itself; a file of a minute stands for it."""
    write_model(tmp_path / "model", TINY)
    source = write_video(tmp_path / "x.mp4", seconds=60.0)
    words = ("infer.live", source, "--model", tmp_path / "model", "--serve", "0")
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *map(str, words)],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        address = next(line.split()[1] for line in process.stdout if line.startswith("serving"))
        with urllib.request.urlopen(f"{address}video", timeout=30) as frames:
            frames.readline()
            process.send_signal(sent)
            out, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "frames," in out and len(errors.splitlines()) == 1


class PatientTime:
    """A clock that a sleep moves on, instead of the time that passes."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.mark.parametrize("scheme", ["", "http"])
def test_a_recording_is_played_in_real_time_wherever_it_is(tmp_path, monkeypatch, scheme):
    path = write_video(tmp_path / "a.mp4", 3.0, sound=tone(3.0))
    patient, shown, heard = PatientTime(), [], []
    monkeypatch.setattr(capture, "time", patient)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = f"http://127.0.0.1:{server.server_port}/a.mp4" if scheme else str(path)
        frames = capture.frames_of(source, lambda _, end: heard.append(end), lambda: -1.0)
        for seconds, _ in frames:
            shown.append((seconds, patient.now))
        server.shutdown()
    assert [seconds for seconds, _ in shown] == pytest.approx(np.arange(30) / 10)
    assert all(now >= seconds for seconds, now in shown) and patient.now < 3.5
    assert heard == sorted(heard) and heard[-1] == pytest.approx(3.0, abs=0.1)


def test_the_cover_of_a_sound_file_is_no_video(tmp_path, monkeypatch):
    monkeypatch.setattr(capture, "time", PatientTime())
    path = zoo.write(tmp_path / "a.mp3", zoo.taken(zoo.SOUND, audio="libmp3lame", cover=True))
    heard = []
    assert not list(capture.frames_of(str(path), lambda *sound: heard.append(sound), lambda: 0.0))
    assert sum(len(samples) for samples, _ in heard) / 48_000 == pytest.approx(1.6, abs=0.1)


def test_sources_that_are_none(loaded, tmp_path):
    with pytest.raises(InputError, match="got nothing"):
        Live(loaded.model, str(tmp_path / "none.mp4"))
    with pytest.raises(InputError, match="expected a stream at"):
        Live(loaded.model, "rtsp://127.0.0.1:9/none")
    running = Live(loaded.model, "77", microphone=False)
    running.start()
    with pytest.raises(InputError, match="expected a camera 77"):
        running.wait()
    sound = write_wav(tmp_path / "a.wav", tone(0.5))
    assert capture.sound_rate(str(sound)) == RATE and capture.sound_rate("0") is None


def test_the_page_serves_the_newest_frame_and_answer():
    frames, answers = Slot(), Slot()
    frame = video.Frame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), "rgb24")
    with serve.serving(0, frames, answers, ["<drawn> faces"]) as address:
        page = urllib.request.urlopen(address).read().decode()
        assert "&lt;drawn&gt; faces" in page and address.startswith("http://127.0.0.1:")
        frames.put(frame)
        with urllib.request.urlopen(f"{address}video") as stream:
            assert stream.readline() == b"--frame\r\n"
            assert b"image/jpeg" in stream.readline()
            size = int(stream.readline().split(b":")[1])
            assert stream.readline() == b"\r\n" and stream.read(size)[:2] == b"\xff\xd8"
        answers.put([])
        with urllib.request.urlopen(f"{address}events") as stream:
            assert json.loads(stream.readline().removeprefix(b"data: ")) == []
        for path, headers, code in (
            ("secret", {}, "404"),
            ("", {"Host": "elsewhere.example"}, "404"),
            ("video", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "403"),
            ("events", {"Origin": "http://elsewhere.example"}, "403"),
        ):
            asked = urllib.request.Request(address + path, headers=headers)
            with pytest.raises(urllib.error.HTTPError, match=code):
                urllib.request.urlopen(asked)
        linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        urllib.request.urlopen(urllib.request.Request(address, headers=linked)).close()
        frames.close()
        answers.close()
    taken = int(address.rsplit(":", 1)[1].strip("/"))
    with (
        serve.serving(taken, Slot(), Slot(), []),
        pytest.raises(InputError, match="free port"),
        serve.serving(taken, Slot(), Slot(), []),
    ):
        pass


def test_several_watch_the_same_frames():
    """In a process of its own: a frame that two threads convert at once ends it."""
    program = """
import threading, time, urllib.request
import numpy as np
from infer.live import serve
from infer.live.session import Slot
from pipeline.media.video import Frame

def watch(address, ends):
    with urllib.request.urlopen(address + "video") as stream:
        content = stream.read()
    ends.append(content.count(b"image/jpeg"))

frames, ends, random = Slot(), [], np.random.default_rng(0)
noise = random.integers(0, 255, (20, 720, 1280, 3), np.uint8)
with serve.serving(0, frames, Slot(), []) as address:
    watching = [threading.Thread(target=watch, args=(address, ends)) for _ in range(6)]
    for each in watching:
        each.start()
    for picture in noise:
        frames.put(Frame.from_ndarray(picture, "rgb24").reformat(format="yuv420p"))
        time.sleep(0.02)
    frames.close()
    for each in watching:
        each.join()
print(min(ends) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_without_a_display_a_window_is_refused(loaded, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    path = write_video(tmp_path / "a.mp4", 0.5)
    words = [str(path), "--model", str(tmp_path)]
    with pytest.raises(InputError, match="display"):
        command.live(command.parser().parse_args(words))
