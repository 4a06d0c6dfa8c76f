"""The rates of this machine, by small runs of the pipeline itself on clips made for them."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import joblib
import numpy as np
import soundfile
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.backends import Workers
from pipeline.cache import build
from pipeline.corpora.clip import Catalogue, Clip
from pipeline.errors import InputError
from pipeline.features import detectors
from pipeline.media import encode
from pipeline.planner.estimate import Case, Rates, decoded_seconds
from pipeline.sample import corpus
from pipeline.spec import FeatureSpec, variant_names

VIDEOS = ((640, 360, 0.0), (1280, 720, 0.0), (1280, 720, 5.0))
"""Width, height, and the noise of a camera in grey levels of 255, which makes files large."""

FRAME_RATE = 30.0
TAKES = 4
CLIPS_OF_A_TASK = 4
TASKS_OF_A_CORE = 2
VARIANTS = 3
CRF, PRESET = 23, "fast"
WRITTEN_BYTES = 256 << 20
SEED = 7

Video = tuple[int, int, float]
"""One of ``VIDEOS``."""


def measure(beside: Path, cores: int, say: Callable[[str], object] = lambda _: None) -> Rates:
    """Measure what this machine needs.

    Parameters
    ----------
    beside
        Folder of caches; a scratch folder is made in it, and removed.
    cores
        Worker processes, all of which work at the same time.
    say
        Told what is being measured.

    Returns
    -------
    Rates
        None of them negative.
    """
    beside.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=beside, prefix=".rates-") as scratch:
        folder = Path(scratch)
        say("making clips")
        clips, seconds = make_clips(folder)
        count = cores * TASKS_OF_A_CORE * CLIPS_OF_A_TASK
        clean = FeatureSpec(detector=detectors.default_detector())

        def run(video: Video | None, variants: int, clips_run: int = count) -> float:
            own = repeated(clips[video], clips_run)
            spec = dataclasses.replace(clean, variants=variant_names(variants))
            return core_seconds_of(folder, own, spec, cores)

        say("starting workers")
        startup = run(None, 0, cores * CLIPS_OF_A_TASK)
        warm = run(None, 0, cores * CLIPS_OF_A_TASK)
        say("audio alone")
        audio = run(None, 0)
        say("video of two sizes and two bit rates")
        small, large, noisy = (run(video, 0) for video in VIDEOS)
        say("variants")
        varied = run(VIDEOS[0], VARIANTS)
        loads = [decoded(video, clips[video], seconds) for video in VIDEOS]
        say("writing")
        write_bytes = write_speed(folder)
    each = 1 / count
    # What a run takes whatever it holds: twice as many clips take less than twice as long.
    fixed = max(0.0, 2 * warm - audio)
    # Three videos, three unknowns: what any video takes, a pixel's share, a bit's share.
    seen = [(took - audio) * each for took in (small, large, noisy)]
    video, megapixel, megabit = np.linalg.solve([(1.0, *load) for load in loads], seen)
    return Rates(
        clip=max(0.0, (audio - fixed) * each),
        video=max(0.0, float(video)),
        megapixel=max(0.0, float(megapixel)),
        megabit=max(0.0, float(megabit)),
        variant=max(0.0, (varied - small) * each / VARIANTS),
        startup=max(0.0, startup - warm + fixed) / cores,
        write_bytes=write_bytes,
    )


def decoded(video: Video, clips: Sequence[Clip], seconds: float) -> tuple[float, float]:
    """Million pixels, and million bits, that are decoded of a clip."""
    width, height, _ = video
    part = decoded_seconds(Case("", 1, seconds, width, height, FRAME_RATE, 0.0), FeatureSpec())
    bits = 8 * float(np.mean([clip.sources[0].stat().st_size for clip in clips]))
    return width * height * FRAME_RATE * part / 1e6, bits / 1e6 * part / seconds


def make_clips(folder: Path) -> tuple[dict[Video | None, list[Clip]], float]:
    """Draw a few takes and write each as a wav and as every kind of video.

    Returns
    -------
    clips : dict
        By kind of video; None for audio alone.
    seconds : float
        Mean length.
    """
    takes = corpus.takes(1, 1)[:: len(corpus.takes(1, 1)) // TAKES][:TAKES]
    lengths = joblib.Parallel(n_jobs=-1)(
        joblib.delayed(write_take)(folder, number, take) for number, take in enumerate(takes)
    )
    clips: dict[Video | None, list[Clip]] = {
        video: [
            Clip("", 1, "happy", video and video_path(folder, n, video), folder / f"{n}.wav")
            for n in range(TAKES)
        ]
        for video in (None, *VIDEOS)
    }
    return clips, float(np.mean(lengths))


def video_path(folder: Path, number: int, video: Video) -> Path:
    """Where a take lies as one kind of video."""
    return folder / f"{number}-{'-'.join(map(str, video))}.mp4"


def write_take(folder: Path, number: int, take: corpus.Take) -> float:
    """Write a drawn take with the noise of a camera; its length in seconds."""
    waveform, _, drawn = corpus.record(take, SEED)
    soundfile.write(folder / f"{number}.wav", waveform, 48_000, subtype="PCM_16")
    pictures = [picture for _, picture in drawn]
    for video in VIDEOS:
        frames = noisy_frames(pictures, len(waveform) / 48_000, video)
        encode.write_mp4(video_path(folder, number, video), frames, None, 0, crf=CRF, preset=PRESET)
    return len(waveform) / 48_000


def noisy_frames(
    pictures: Sequence[NDArray[np.uint8]], seconds: float, video: Video
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield enlarged drawings with noise, at the frame rate."""
    width, height, deviation = video
    random = np.random.default_rng(SEED)
    grain = random.normal(0, deviation, (8, height, width, 1)).astype(np.float32)
    count = round(seconds * FRAME_RATE)
    for number in range(count):
        picture = cv2.resize(pictures[number * len(pictures) // count], (width, height))
        # Moved at random: an encoder would recognise noise that it has seen before.
        moved = np.roll(grain[number % len(grain)], random.integers((height, width)), (0, 1))
        noisy = np.clip(picture + moved, 0, 255).astype(np.uint8)
        yield number / FRAME_RATE, noisy


def repeated(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Repeat clips under other names, a few for each actor: as many tasks as are to be had."""
    return [
        dataclasses.replace(
            clips[number % len(clips)], id=f"{number:06d}", actor=1 + number // CLIPS_OF_A_TASK
        )
        for number in range(count)
    ]


def core_seconds_of(folder: Path, clips: list[Clip], spec: FeatureSpec, cores: int) -> float:
    """Run the pipeline on an empty cache, and return the core seconds that all processes took.

    Unlike the time on the clock these hardly depend on what else the machine does.
    """
    catalogue = Catalogue(folder, clips=clips)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        started = used_seconds(cores)
        options = build.Options(progress=False)
        build.build(catalogue, Path(cache), spec, Workers(cores), options)
        return used_seconds(cores) - started


def used_seconds(cores: int) -> float:
    """Core seconds that this process and all that it started have used so far.

    Where the system does not list processes, the clock stands in, all cores taken as busy.
    """
    try:
        ticks = used_ticks(os.getpid(), Path("/proc"))
    except OSError:
        return time.monotonic() * cores
    return ticks / os.sysconf("SC_CLK_TCK")


def used_ticks(root: int, processes: Path) -> int:
    """Add up the ticks of a process and its descendants, dead ones included if waited for."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for entry in [name for name in os.listdir(processes) if name.isdecimal()]:
        try:
            text = (processes / entry / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # it has ended meanwhile
        # The name, in parentheses, may hold anything; 1 is the parent, 11-14 are the ticks.
        fields = text.rpartition(")")[2].split()
        parents[int(entry)] = int(fields[1])
        ticks[int(entry)] = sum(map(int, fields[11:15]))
    own = {root}
    while more := {child for child, parent in parents.items() if parent in own} - own:
        own |= more
    return sum(ticks.get(process, 0) for process in own)


def write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk, one file after the other."""
    block = np.random.default_rng(SEED).bytes(16 << 20)
    path = folder / "written"
    started = time.monotonic()
    with path.open("wb") as stream:
        for _ in range(WRITTEN_BYTES // len(block)):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    return WRITTEN_BYTES / (time.monotonic() - started)


def write_rates(path: Path, rates: Rates) -> None:
    """Keep rates for later plans."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(dataclasses.asdict(rates), indent=1).encode()
    atomic.write_durably(path, content)


def read_rates(path: Path) -> Rates:
    """Read rates that were kept, or written by hand.

    Raises
    ------
    InputError
        If they are not those of :class:`Rates`, each a number that is not negative.
    """
    try:
        values = json.loads(path.read_bytes())
        rates = Rates(**{name: float(value) for name, value in values.items()})
        if not rates.write_bytes > 0 or min(dataclasses.astuple(rates)) < 0:
            raise ValueError("numbers that are not positive")
    except OSError as error:
        raise InputError(
            f"expected rates in {path}, got: {error.strerror}; 'make plan MEASURE=1' makes them"
        ) from error
    except (ValueError, TypeError, AttributeError) as error:
        names = ", ".join(field.name for field in dataclasses.fields(Rates))
        raise InputError(
            f"expected the rates {names} in {path}, got: {error}; "
            "'make plan MEASURE=1' makes them anew"
        ) from error
    return rates
