"""A recording of any length is read in the same memory."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import TINY, tone, write_model, write_video

ROOT = Path(__file__).parents[1]
MEASURE = """
import resource, sys
from infer.__main__ import infer, parser
infer(parser().parse_args(sys.argv[1:]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def repeated(source, times, path):
    """A file's packets again and again."""
    with av.open(str(source)) as first:
        length = Fraction(first.duration, av.time_base)
    with av.open(str(path), "w") as target:
        streams = []
        for number in range(times):
            with av.open(str(source)) as opened:
                streams = streams or [target.add_stream_from_template(s) for s in opened.streams]
                for packet in opened.demux():
                    if packet.dts is None or packet.pts < 0:
                        continue
                    later = round(number * length / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["--no-video", "--overlay", None])
def test_memory_does_not_follow_the_length(tmp_path, kind):
    write_model(tmp_path / "model", TINY)
    piece = write_video(tmp_path / "piece.mp4", 20.0, sound=tone(20.0, rate=48_000), rate=48_000)
    peaks = []
    for minutes in (3, 24):
        path = repeated(piece, 3 * minutes, tmp_path / f"{minutes}.mkv")
        words = [path, "--model", tmp_path / "model", "--out", tmp_path / "out"]
        answer = subprocess.run(
            [sys.executable, "-c", MEASURE, *map(str, words), *([kind] if kind else [])],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(answer.stdout.splitlines()[-1]) / 1024)
    # Twenty-one minutes more of sound at the spec's rate would be 106 MB.
    assert peaks[1] - peaks[0] < 40, peaks
