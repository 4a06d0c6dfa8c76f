"""Damaged media in numbers: mutants of small files, each read in a process that may die of it.

``python tests/fuzz_media.py FOLDER SEED FIRST COUNT`` reads mutants and prints a line for each;
:func:`hunt` starts that again behind every mutant that killed it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 20
"""A mutant that computes for longer hangs: its original takes a twentieth of a second."""

STANDSTILL_SECONDS = 300
"""A mutant that waits for longer hangs too, however busy the machine is."""

ODD_NUMBERS = (0, 1, 2, 7, 255, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
HEADER_BYTES = 2048


@dataclass
class Hunt:
    """What became of the mutants: counts, the numbers of the bad ones, and the peak memory."""

    tried: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def survived(self) -> int:
        return self.tried - len(self.bad)


def write_originals(folder):
    """Write the small files that mutants are made of."""
    import zoo

    brief = {"seconds": 0.6, "onset": 0.1, "end": 0.6, "times": tuple(n / 20 for n in range(12))}
    originals = {
        "h264.mp4": zoo.taken(zoo.H264, **brief),
        "moov-first.mp4": zoo.taken(zoo.H264, options={"movflags": "faststart"}, **brief),
        "mpeg4.mov": zoo.taken(zoo.MPEG4, audio="pcm_s16le", rate=16_000, **brief),
        "h264.mkv": zoo.taken(zoo.H264, audio="flac", rate=16_000, **brief),
        "vp9.webm": zoo.taken(zoo.WEBM, **brief),
        "mjpeg.avi": zoo.taken(zoo.MJPEG, audio="pcm_s16le", rate=16_000, **brief),
        "h264.flv": zoo.taken(zoo.H264, **{**brief, "rate": 44_100}),
        "mpeg1.mpg": zoo.taken(
            zoo.MPEG4,
            video="mpeg1video",
            audio="mp2",
            **{**brief, "times": tuple(n / 25 for n in range(15))},
        ),
        "sound.wav": zoo.taken(zoo.SOUND, audio="pcm_s16le", rate=16_000, **brief),
        "float.wav": zoo.taken(zoo.SOUND, audio="pcm_f32le", rate=16_000, **brief),
        "sound.mp3": zoo.taken(zoo.SOUND, audio="libmp3lame", **brief),
        "sound.flac": zoo.taken(zoo.SOUND, audio="flac", rate=16_000, **brief),
        "sound.opus": zoo.taken(zoo.SOUND, audio="libopus", **brief),
    }
    for name, take in originals.items():
        zoo.write(folder / name, take)
    # Nothing may be allocated by what these two claim.
    raw = zoo.taken(originals["mjpeg.avi"], video="rawvideo", pixels="yuv420p", video_options={})
    png = zoo.taken(raw, video="png", pixels="rgb24")
    zoo.with_avi_size(20_000, 20_000)(folder / "large.avi", raw)
    zoo.with_png_size(20_000, 20_000)(folder / "large.mov", png)


def mutant(folder, seed, number):
    """One damaged file: its suffix and its bytes, the same for the same numbers."""
    random = np.random.default_rng((seed, number))
    originals = sorted(path for path in folder.iterdir() if not path.name.startswith("mutant"))
    original = originals[number % len(originals)]
    data = bytearray(original.read_bytes())
    for _ in range(random.integers(1, 5)):
        damage(data, random)
    return original.suffix, bytes(data)


def damage(data, random):
    """Change some bytes, mostly where headers are."""
    ends = (0, min(HEADER_BYTES, len(data))), (max(0, len(data) - HEADER_BYTES), len(data))
    first, last = [*ends, (0, len(data))][random.integers(3)]
    if last - first < 16:
        return
    place = int(random.integers(first, last - 8))
    kind = random.integers(6)
    if kind == 0:
        data[place] ^= 1 << random.integers(8)
    elif kind == 1:
        data[place : place + 8] = random.bytes(int(random.integers(1, 9)))
    elif kind in (2, 3):
        width = int(random.choice([2, 4, 8]))
        value = int(random.choice(ODD_NUMBERS)) % (1 << 8 * width)
        data[place : place + width] = value.to_bytes(width, ("big", "little")[random.integers(2)])
    elif kind == 4:
        del data[place : place + int(random.integers(1, 64))]
    else:
        data[place:place] = data[place : place + int(random.integers(1, 64))]


def read_everything(path):
    """Read a file in every way the project does; errors other than the documented ones escape."""
    from infer.reading import recording
    from pipeline.corpora.clip import Clip
    from pipeline.errors import InputError
    from pipeline.features import extract
    from pipeline.media import container, video
    from pipeline.spec import FeatureSpec

    spec = FeatureSpec(window_seconds=0.4, variants=(), crop="whole")
    readers = (
        lambda: container.probe(path),
        lambda: recording.plan_windows(recording.open_recording(path, None, spec), spec),
        lambda: video.presentation_times(path),
        lambda: list(video.frames_at(path, [0.02, 0.3, 0.55], spec)),
        lambda: video.read_consecutive_frames(path, 0.1, 3, spec),
        lambda: sum(1 for _ in video.every_yuv_frame(path, 16, 64)),
        lambda: extract.extract_clip(Clip("a", 1, "happy", path), spec),
    )
    read = 0
    for reader in readers:
        try:
            reader()
            read += 1
        except InputError as error:
            if "\n" in str(error):
                raise
    return "read" if read == len(readers) else "partly" if read else "refused"


def main(folder, seed, first, count):
    """Read mutants and print their outcomes, then the peak memory in MB."""
    for number in range(first, first + count):
        suffix, data = mutant(folder, seed, number)
        path = folder / f"mutant-{first}{suffix}"
        path.write_bytes(data)
        print(number, end=" ", flush=True)
        # These end the process even inside a decoder.
        signal.setitimer(signal.ITIMER_PROF, PATIENCE_SECONDS)
        signal.alarm(STANDSTILL_SECONDS)
        print(read_everything(path), flush=True)
        path.unlink()
    print("peak", peak_mb(), flush=True)


def peak_mb():
    """Most memory this process held. What getrusage tells counts in the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("expected VmHWM in /proc/self/status, got none; run this on Linux")


def hunt(folder, count, seed=0, first=0):
    """Read mutants in processes of their own.

    Parameters
    ----------
    folder
        An empty folder.
    count, seed, first
        How many, of which kind, and the number of the first.

    Returns
    -------
    Hunt
    """
    write_originals(folder)
    found = Hunt()
    end = first + count
    while first < end:
        words = [sys.executable, __file__, str(folder), str(seed), str(first), str(end - first)]
        answer = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
        for line in answer.stdout.splitlines():
            name, _, outcome = line.partition(" ")
            if name == "peak":
                found.peak_mb = max(found.peak_mb, float(outcome))
                continue
            first = int(name) + 1
            found.tried += 1
            if outcome:
                found.outcomes[outcome] = found.outcomes.get(outcome, 0) + 1
            else:
                said = answer.stderr.strip().splitlines()[-1:] if answer.returncode > 0 else []
                found.bad.append(f"mutant {name}: exit {answer.returncode} {' '.join(said)}")
        if answer.returncode and not answer.stdout:
            raise RuntimeError(answer.stderr)
    return found


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
