"""Is a voice given to the face that speaks? ``python -m bench.voice RAW``.

Two clips of different actors side by side make a video, which is read with the sound of the one, of
the other, and of a third actor. Floor and margin are chosen on the first half of the actors, and
judged on the others.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from infer.reading import mouths
from infer.reading.recording import open_recording, plan_windows
from infer.reading.windows import FaceSearch, SeenWindow, decoded, read_windows
from pipeline.console import Parser, run
from pipeline.corpora import scan
from pipeline.corpora.clip import Clip
from pipeline.errors import InputError
from pipeline.media import encode, video
from pipeline.spec import FeatureSpec

FLOORS = (1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
MARGINS = (1.25, 1.5, 2.0, 2.5)
LEAST_RIGHT, MOST_MISLED = 0.95, 0.15
SIDE_PX = 640


class Judged(NamedTuple):
    """Two faces of a window, and what is true.

    Parameters
    ----------
    agreements
        Of the faces, by track; empty where the window says nothing.
    speaker
        Track of the one who speaks; None where neither does.
    """

    agreements: dict[int, float]
    speaker: int | None


def pairs(clips: Sequence[Clip], count: int, seed: int) -> Iterator[tuple[Clip, Clip, Clip]]:
    """Draw three clips of three actors each time."""
    random = np.random.default_rng(seed)
    actors = sorted({clip.actor for clip in clips})
    for _ in range(count):
        chosen = random.choice(len(actors), 3, replace=False)
        own = [[clip for clip in clips if clip.actor == actors[place]] for place in chosen]
        left, right, third = (each[random.integers(len(each))] for each in own)
        yield left, right, third


def write_pair(path: Path, left: Clip, right: Clip) -> None:
    """Write two clips side by side, as long as the shorter one, without sound."""
    sides = (video.every_rgb_frame(clip.video, SIDE_PX, 1) for clip in (left, right))
    both = zip(*sides, strict=False)
    frames = ((time, np.hstack([one, other])) for (time, one), (_, other) in both)
    encode.write_mp4(path, frames, None, 0)


def windows(path: Path, sound: Path, spec: FeatureSpec) -> Iterator[tuple[SeenWindow, int]]:
    """Yield each window that has voice and shows two faces, and the width of its frames."""
    recording = open_recording(path, sound, spec)
    spans = plan_windows(recording, spec)
    search = FaceSearch(spec, spans)
    coming = decoded(path, spans, spec, 1)
    for seen in read_windows(recording, spans, spec, search, coming):
        if len(seen.faces) == 2 and seen.weight > 0:
            yield seen, search.width_px


def judged(path: Path, three: tuple[Clip, Clip, Clip], spec: FeatureSpec) -> Iterator[Judged]:
    """Yield the windows of a pair, with each of three sounds."""
    for place, clip in enumerate(three):
        for seen, width_px in windows(path, clip.audio_source, spec):
            first, second = seen.faces
            if first.square.x > second.square.x:
                first, second = second, first
            in_halves = first.square.x + first.square.width / 2 < width_px / 2
            if in_halves:
                track = (first.track, second.track, None)[place]
                yield Judged(dict(seen.agreements), track)


def shares(found: Sequence[Judged], floor: float, margin: float) -> tuple[float, float, float]:
    """Return the parts decided, right of these, and decided where neither face speaks."""
    answers = [mouths.speaker(each.agreements, floor, margin) for each in found]
    spoken = [
        answer == each.speaker if answer is not None else None
        for answer, each in zip(answers, found, strict=True)
        if each.speaker is not None
    ]
    misled = [
        answer is not None
        for answer, each in zip(answers, found, strict=True)
        if each.speaker is None
    ]
    decisions = [is_right for is_right in spoken if is_right is not None]
    return (
        len(decisions) / len(spoken),
        float(np.mean(decisions)) if decisions else 0.0,
        float(np.mean(misled)),
    )


def choose(found: Sequence[Judged]) -> tuple[float, float]:
    """Choose floor and margin: most decided, of those that are right, and rarely misled, enough."""
    allowed = []
    for floor, margin in itertools.product(FLOORS, MARGINS):
        decided, right, misled = shares(found, floor, margin)
        if right >= LEAST_RIGHT and misled <= MOST_MISLED:
            allowed.append((decided, right, floor, margin))
    if not allowed:
        raise InputError("expected a floor and a margin that suffice, got none; try other features")
    return max(allowed)[2:]


def measure(clips: Sequence[Clip], count: int, seed: int, spec: FeatureSpec) -> list[Judged]:
    """Make pairs of some clips in a temporary folder, and read them."""
    found: list[Judged] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, three in enumerate(pairs(clips, count, seed)):
            path = Path(folder) / f"{number}.mp4"
            write_pair(path, *three[:2])
            found += judged(path, three, spec)
            path.unlink()
    return found


def bench(arguments: argparse.Namespace) -> int:
    """Choose on one half of the actors, judge on the other, print both."""
    clips = [clip for clip in scan.scan(arguments.raw).clips if clip.video is not None]
    actors = sorted({clip.actor for clip in clips})
    if len(actors) < 6:
        raise InputError(f"expected at least 6 actors in {arguments.raw}, got {len(actors)}")
    half = len(actors) // 2
    spec = FeatureSpec(variants=())
    for seed, (name, some) in enumerate((("chosen", actors[:half]), ("judged", actors[half:]))):
        own = [clip for clip in clips if clip.actor in some]
        found = measure(own, arguments.pairs, seed, spec)
        if name == "chosen":
            floor, margin = choose(found)
            print(
                f"floor {floor:g}, margin {margin:g}; in use: {mouths.FLOOR:g}, {mouths.MARGIN:g}"
            )
        decided, right, misled = shares(found, floor, margin)
        print(
            f"{name} on {len(some)} actors, {arguments.pairs} pairs, {len(found)} windows: "
            f"{100 * decided:.0f} % decided, of these {100 * right:.1f} % right (chance 50); with "
            f"the voice of a third actor {100 * misled:.0f} % decided",
            flush=True,
        )
    return 0


def main() -> int:
    """Parse the command line and run it."""
    parser = Parser(
        prog="python -m bench.voice", description="How often a voice is given to the right face."
    )
    parser.add_argument("raw", type=Path, metavar="RAW", help="corpus with a face in each video")
    parser.add_argument("--pairs", type=int, default=60, help="of each half of the actors")
    arguments = parser.parse_args()
    return run(lambda: bench(arguments))


if __name__ == "__main__":
    sys.exit(main())
