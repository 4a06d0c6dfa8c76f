"""Windows of a recording with the faces in them: each frame is decoded once, and searched once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infer.reading import mouths
from infer.reading.ahead import ahead
from infer.reading.mouths import Mouths
from infer.reading.recording import Recording
from infer.reading.tracks import LOST_SECONDS, Tracker, add_missing
from pipeline.features import detectors, extract, faces
from pipeline.features.detectors import Box, Face
from pipeline.features.extract import DecodedFrames, Span, Window
from pipeline.media import video
from pipeline.media.container import Damage
from pipeline.media.video import Timed
from pipeline.spec import FeatureSpec

SEARCH_SECONDS = 0.3
"""While a face is there, frames are searched this often, besides those that the cache searches."""

WIDE_SEARCH_SECONDS = (1.0, 8.0)
"""How often the largest copy of a frame is searched although a smaller one shows a face: others may
be farther away. Each search that shows no other doubles the time to the next."""

LEAST_FINDS = 2
"""Where a window shows several faces, each of them has to be found this often."""

FRAMES_AHEAD = 8
"""Decoded before they are searched."""

MOST_FACES = 8
"""Faces of a window that are read, the largest ones."""


@dataclass(frozen=True)
class SeenFace:
    """A face of a window.

    Parameters
    ----------
    track
        Its number.
    square
        What is cut out of each frame, in pixels of the decoded frames.
    confidence
        Mean of the detector's, in [0, 1].
    """

    track: int
    square: Box
    confidence: float


@dataclass(frozen=True)
class SeenWindow:
    """A window, what is heard and seen in it, and the part of it that is voice.

    ``agreements`` says of each of several faces, by track, how much its mouth moves with the voice.
    """

    span: Span
    window: Window
    faces: tuple[SeenFace, ...]
    weight: float
    agreements: Mapping[int, float] = field(default_factory=dict)

    @property
    def voice_of(self) -> int | None:
        """Track of the face that the voice belongs to; None where that is not decidable."""
        return mouths.speaker(self.agreements)


class FaceSearch:
    """Searches some of the frames that pass by, and follows the faces.

    Parameters
    ----------
    spec
        Gives the detector and which frames of a window the cache searches.
    spans
        The windows to come; none where frames are searched by :meth:`search` alone.
    """

    def __init__(self, spec: FeatureSpec, spans: Sequence[Span] = ()) -> None:
        self.spec, self.tracker = spec, Tracker()
        self.width_px = 0
        self._probes = probe_times(spans, spec)
        self._found: dict[float, list[tuple[int | None, Face]]] = {}
        self._latest = self._latest_wide = -np.inf
        self._far, self._wide_seconds = False, WIDE_SEARCH_SECONDS[0]

    def watch(
        self, coming: Iterator[tuple[float, NDArray[np.uint8] | None]]
    ) -> Iterator[tuple[float, NDArray[np.uint8] | None]]:
        """Pass on frames, each with its time, and search those that are due, and the last one."""
        last: tuple[float, NDArray[np.uint8]] | None = None
        for time, frame in coming:
            if frame is not None:
                self.width_px = frame.shape[1]
                due = self.tracker.alive and time - self._latest >= SEARCH_SECONDS
                if due or time in self._probes:
                    self.search(time, frame)
                last = (time, frame)
            elif last is not None:
                self.search(*last)
            yield time, frame

    def search(self, time: float, frame: NDArray[np.uint8]) -> list[tuple[int | None, Face]]:
        """Search a frame, once; return its faces with the numbers of their tracks."""
        if time in self._found:
            return self._found[time]
        found = self.faces_of(time, frame)
        if time > self._latest:
            self._latest = time
            numbers: Sequence[int | None] = self.tracker.update(time, found)
        else:
            numbers = self.tracker.recognise(time, found)
        self._found[time] = list(zip(numbers, found, strict=True))
        return self._found[time]

    def faces_of(self, time: float, frame: NDArray[np.uint8]) -> list[Face]:
        """Find what the cache finds, and now and then smaller faces beside it."""
        sides, longest = self.spec.face.search_sides_px, max(frame.shape[:2])
        found: list[Face] = []
        for side in sides:
            found = detectors.detect_at(frame, side, self.spec)
            if found or side >= longest:
                break
        if side == sides[-1] or side >= longest:
            return found
        if not self._far and time - self._latest_wide < self._wide_seconds:
            return found
        wide = detectors.detect_at(frame, sides[-1], self.spec)
        both = add_missing(found, wide, self.spec.face.same_face_overlap)
        self._far, self._latest_wide = len(both) > len(found), time
        least, most = WIDE_SEARCH_SECONDS
        self._wide_seconds = least if self._far else min(most, 2 * self._wide_seconds)
        return both

    def window_faces(self, times: list[float], decoded: DecodedFrames) -> tuple[SeenFace, ...]:
        """Say which faces a window shows; windows come in the order of time.

        Parameters
        ----------
        times
            Of its frames, in seconds.
        decoded
            Its frames, None before the beginning and after the end of the recording.

        Notes
        -----
        The square of each is chosen from its boxes in the frames that the cache searches, as the
        cache does; where it is found in none of them, from those in other frames of the window.
        """
        known = {place: frame for place, frame in enumerate(decoded) if frame is not None}
        there = list(known)
        if self.spec.crop == "whole" or not there:
            return ()
        probes = [
            min(max(place, there[0]), there[-1])
            for place in faces.probe_places(len(decoded), self.spec)
        ]
        searched = [self.search(times[place], known[place]) for place in probes]
        start, end = times[there[0]], times[there[-1]]
        around = [found for time, found in sorted(self._found.items()) if start <= time <= end]
        seen = []
        for number in {number for found in around for number, _ in found if number is not None}:
            finds = boxes_of(number, around)
            at_probes = boxes_of(number, searched)
            box = faces.agreed_box(at_probes if any(at_probes) else finds, self.same_face)
            if box is not None:
                track = self.tracker.get(number)
                confidence = float(np.mean(track.confidences[track.between(start, end)] or [0.0]))
                square = faces.square_of(box, self.spec)
                seen.append((sum(map(len, finds)), SeenFace(number, square, confidence)))
        if len(seen) > 1:
            often = [pair for pair in seen if pair[0] >= LEAST_FINDS]
            seen = often or [max(seen, key=lambda pair: pair[0])]
        largest = sorted(seen, key=lambda pair: -pair[1].square.width)[:MOST_FACES]
        self._found = {time: found for time, found in self._found.items() if time >= times[0]}
        return tuple(sorted((face for _, face in largest), key=lambda face: face.track))

    def forget(self, before: float) -> None:
        """Drop what was found before a time, for streams without an end."""
        self.tracker.forget(before)
        self._found = {time: found for time, found in self._found.items() if time >= before}

    def squares_at(self, time: float) -> dict[int, Box]:
        """Say where each of several faces is expected: squares in parts of the frame's width."""
        alive = [track for track in self.tracker.alive if time - track.times[-1] <= LOST_SECONDS]
        if len(alive) < 2 or not self.width_px:
            return {}
        squares = (faces.square_of(track.expected(time), self.spec) for track in alive)
        return {
            track.number: Box(*(side / self.width_px for side in square))
            for track, square in zip(alive, squares, strict=True)
        }

    @property
    def same_face(self) -> float:
        """Overlap from which boxes of two frames show one face."""
        return self.spec.face.same_face_overlap


def boxes_of(number: int, frames: Sequence[Sequence[tuple[int | None, Face]]]) -> list[list[Box]]:
    """Return the boxes of one track in each of several frames."""
    return [[face.box for other, face in found if other == number] for found in frames]


def probe_times(spans: Sequence[Span], spec: FeatureSpec) -> set[float]:
    """When the frames are on screen that the cache searches in these windows.

    Before the recording begins, a window's first frame stands for them.
    """
    probes = set()
    for span in spans:
        times = extract.frame_times(span, spec)
        shown = next((time for time in times if time >= 0), times[-1])
        probes |= {max(shown, times[place]) for place in faces.probe_places(len(times), spec)}
    return probes


def decoded(
    path: Path,
    spans: Sequence[Span],
    spec: FeatureSpec,
    threads: int,
    damage: Damage | None = None,
) -> Iterator[Timed]:
    """Decode the frames that the windows need, and as few others as the spec allows."""
    first = next((time for time in extract.wanted_times(spans, spec) if time >= 0), 0.0)
    reference_only = spec.decode == "reference"
    untimed = spec.untimed_frame_seconds
    coming = video.timed_frames(path, first, threads, reference_only, untimed, damage)
    return ahead(coming, FRAMES_AHEAD)


def read_windows(
    recording: Recording,
    spans: Sequence[Span],
    spec: FeatureSpec,
    search: FaceSearch,
    coming: Iterator[Timed],
) -> Iterator[SeenWindow]:
    """Read the windows of a recording.

    Parameters
    ----------
    recording
        What to hear and see.
    spans
        The windows, in the order of time.
    spec
        Gives the number and sampling of frames.
    search
        Finds faces in frames as they pass by.
    coming
        The frames of the video, see :func:`decoded`; nothing is taken where there is none.

    Raises
    ------
    MediaError
        If sound or video cannot be read.
    """
    moving = Mouths(search.squares_at)
    shown: Iterator[DecodedFrames | None] = itertools.repeat(None, len(spans))
    if recording.video is not None and spec.frame_sampling == "consecutive":
        shown = extract.read_consecutive(recording.video, spans, spec, threads=1)
    elif recording.video is not None:
        wanted = extract.wanted_times(spans, spec)
        if recording.waveform is not None:
            coming = moving.watch(coming)
        frames = video.frames_among(coming, wanted, recording.video, spec, recording.damage)
        shown = extract.grouped(search.watch(zip(wanted, frames, strict=True)), spans, spec)
    for span, found in zip(spans, shown, strict=True):
        waveform, weight = None, 1.0
        if recording.waveform is not None:
            waveform = recording.waveform.cut(span)
            weight = recording.waveform.voice_part(waveform)
        if found is None:
            yield SeenWindow(span, Window(waveform, None), (), weight)
            continue
        seen = search.window_faces(extract.frame_times(span, spec), found)
        agreements = {}
        if waveform is not None:
            agreements = moving.agreements(
                [face.track for face in seen],
                waveform,
                max(0, span.start) / spec.sample_rate_hz,
                spec.sample_rate_hz,
            )
        window = Window(waveform, extract.fill_ends(found))
        yield SeenWindow(span, window, seen, weight, agreements)
