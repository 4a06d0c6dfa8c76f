"""No constant that changes a cached number may stand outside of the spec."""

import ast
from pathlib import Path

import pytest

PIPELINE = Path(__file__).parents[1] / "pipeline"

ALLOWED = {
    "features/detectors.py": {
        "YUNET_FILE": "the file that the detector's name stands for",
        "YUNET_SHA256": "pins that file: another one would be another detector",
        "YUNET_URL": "where it is fetched; the content is checked",
        "MODEL_VARIABLE": "name of an environment variable; the file it names is checked",
    },
    "features/libfacedetection.py": dict.fromkeys(
        ("FUNCTION", "RESULT_BYTES", "FACE_SHORTS"), "the library's interface"
    ),
    "features/mfcc.py": {
        "LOUDNESS_BLOCK_FRAMES": "memory; any value gives the same numbers (tested)",
    },
    "media/container.py": {
        "MAX_FRAME_PIXELS": "refuses files",
        "MAX_SECONDS": "refuses files",
        "SAMPLE_RATES_HZ": "refuses files",
        "TRUNCATION_SECONDS": "refuses files",
        "MAX_WAV_CHUNKS": "bounds the search for a wav's length, which refuses files",
        "UNKNOWN_WAV_BYTES": "tells a wav without a length, which is not refused",
        "DEMUXERS": "refuses files",
        "WAV_READS": "how a wav is opened; its samples are the same",
        "DISGUISES": "words of refusals",
    },
    "media/audio.py": {
        "MAX_UNTIMED_SAMPLES": "bounds memory where no time stamp comes",
        "HOLE_SECONDS": "how a file is read; another value is another revision of the spec",
        "LOUDEST": "refuses files",
    },
    "media/video.py": {
        "PLANES_SMALLER": "what yuv420p means; for drawing",
    },
    "media/capture.py": {
        "ENDLESS_SCHEMES": "live sources; nothing of them is on the way to a cache",
        "NETWORK_SCHEMES": "live sources; nothing of them is on the way to a cache",
        "NETWORK_TIMEOUT_SECONDS": "refuses live sources",
    },
    # The only writer of video: nothing of it is on the way to a cache.
    "media/encode.py": dict.fromkeys(
        (
            "VIDEO_TICKS_PER_SECOND",
            "AAC_BITS_PER_SECOND_AND_CHANNEL",
            "FALLBACK_FRAME_SECONDS",
            "FALLBACK_SAMPLE_RATE_HZ",
            "CHANNEL_LAYOUTS",
            "BT601",
            "VIDEO_RANGE",
            "UNSPECIFIED",
            "ALIKE_CODES",
            "COPIED_FORMATS",
        ),
        "setting of the encoder",
    ),
}


def constants(text):
    """Names that are assigned in upper case outside of functions, classes included."""
    names = set()
    stack = [ast.parse(text)]
    while stack:
        for node in ast.iter_child_nodes(stack.pop()):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            stack.append(node)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return {name for name in names if name.strip("_").isupper()}


def modules():
    folders = (PIPELINE / "features", PIPELINE / "media")
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [path.relative_to(PIPELINE).as_posix() for path in paths]


def test_the_walk_finds_constants():
    text = "A = 1\nb = 2\nC: int = 3\nD, e = 4, 5\nif A:\n    F = 6\nclass G:\n    H = 7\n"
    assert constants(text + "def f():\n    I = 8\n") == {"A", "C", "D", "F", "H"}
    assert len(modules()) >= 9


@pytest.mark.parametrize("module", modules())
def test_constants_stand_in_the_spec_or_have_a_reason_not_to(module):
    found = constants((PIPELINE / module).read_text())
    allowed = ALLOWED.get(module, {})
    assert all(allowed.values())
    unnamed, gone = found - allowed.keys(), allowed.keys() - found
    assert not unnamed, f"make these fields of the spec, or give a reason here: {sorted(unnamed)}"
    assert not gone, f"these are no more: {sorted(gone)}"


def test_no_list_names_a_module_that_is_gone():
    assert set(ALLOWED) <= set(modules())
