"""Faces of single frames to tracks: the same face keeps its number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.features import faces
from pipeline.features.detectors import Box, Face

LOST_SECONDS = 0.5
"""A face that is not found for this long is not shown: nothing is claimed where nothing is seen."""

FORGOTTEN_SECONDS = 2.0
"""A face that comes back to its place within this time keeps its number."""

GROWTH = 0.5
"""Boxes are compared after each side was moved outwards by this part of the box: a face that has
moved by its own width between two searches still overlaps."""

LEAST_OVERLAP = 0.2
"""Of grown boxes: below it they show two faces."""

VELOCITY_WEIGHT = 0.5
"""Of the newest movement in the velocity of a track."""


@dataclass
class Track:
    """One face over time.

    Parameters
    ----------
    number
        Its name, from 1 on in the order of appearance.
    times
        When it was found, in seconds, ascending.
    boxes
        Where, in pixels of the searched frames.
    confidences
        How sure the detector was, each in [0, 1].
    velocity
        Pixels a second, of the box's left, top, width and height.
    """

    number: int
    times: list[float] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))

    def expected(self, time: float) -> Box:
        """Where it is if it moves on as before, for at most ``LOST_SECONDS``."""
        passed = min(time - self.times[-1], LOST_SECONDS)
        x, y, width, height = np.array(self.boxes[-1]) + passed * self.velocity
        return Box(x, y, max(1.0, width), max(1.0, height))

    def add(self, time: float, face: Face) -> None:
        """Add where it was found."""
        if self.times:
            moved = np.subtract(face.box, self.boxes[-1]) / (time - self.times[-1])
            known = len(self.times) > 1 and time - self.times[-1] <= LOST_SECONDS
            weight = VELOCITY_WEIGHT if known else 1.0
            self.velocity = weight * moved + (1 - weight) * self.velocity
        self.boxes.append(face.box)
        self.confidences.append(face.confidence)
        # Last: another thread may be asking where the face is.
        self.times.append(time)

    def at(self, time: float) -> tuple[Box, float] | None:
        """Return the box and the confidence at a time; None where nothing was seen around it.

        The box moves evenly between two finds that are at most ``LOST_SECONDS`` apart. Before and
        after others it stays for half as long.
        """
        after = bisect_right(self.times, time)
        before = after - 1
        if before >= 0 and after < len(self.times):
            gap = self.times[after] - self.times[before]
            if gap <= LOST_SECONDS:
                part = (time - self.times[before]) / gap
                mixed = np.array(self.boxes[before]) * (1 - part)
                return Box(*(mixed + np.array(self.boxes[after]) * part)), self.confidences[before]
        near = [
            (abs(self.times[place] - time), place)
            for place in (before, after)
            if 0 <= place < len(self.times)
        ]
        apart, place = min(near, default=(LOST_SECONDS, 0))
        if apart > LOST_SECONDS / 2:
            return None
        return self.boxes[place], self.confidences[place]

    def between(self, start: float, end: float) -> slice:
        """Places of the finds from ``start`` to ``end``, both included."""
        first = bisect_right(self.times, start - 1e-9)
        return slice(first, bisect_right(self.times, end + 1e-9))


class Tracker:
    """Assigns the faces of each searched frame to tracks.

    By the overlap of their boxes with where each track is expected, so that the sum of overlaps is
    the largest (Kuhn 1955, "The Hungarian method for the assignment problem"), with a constant
    velocity, as in Bewley et al. 2016, "Simple online and realtime tracking", whose Kalman filter
    is left out: boxes are found anew at each step.
    """

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {}
        self._begun = 0
        self.alive: list[Track] = []

    def update(self, time: float, found: Sequence[Face]) -> list[int]:
        """Take the faces of the next frame.

        Parameters
        ----------
        time
            In seconds, later than before.
        found
            The faces.

        Returns
        -------
        list of int
            The number of each one's track.
        """
        alive = [track for track in self.alive if time - track.times[-1] <= FORGOTTEN_SECONDS]
        matched = assign([track.expected(time) for track in alive], [face.box for face in found])
        self.alive = alive
        numbers = []
        for place, face in enumerate(found):
            track = alive[matched[place]] if place in matched else self._begin()
            track.add(time, face)
            numbers.append(track.number)
        return numbers

    def _begin(self) -> Track:
        self._begun += 1
        track = self.tracks[self._begun] = Track(self._begun)
        self.alive = [*self.alive, track]
        return track

    def forget(self, before: float) -> None:
        """Drop what was found before a time, for streams without an end."""
        for track in self.tracks.values():
            first = bisect_right(track.times, before)
            del track.times[:first], track.boxes[:first], track.confidences[:first]
        # Not in place: another thread may be asking where a face is.
        self.tracks = {number: track for number, track in self.tracks.items() if track.times}
        self.alive = [track for track in self.alive if track.times]

    def recognise(self, time: float, found: Sequence[Face]) -> list[int | None]:
        """Return the number of the track of each face of an earlier frame, which is not added."""
        there = {track.number: track.at(time) for track in self.alive}
        numbers = [number for number, seen in there.items() if seen]
        boxes = [seen[0] for seen in there.values() if seen]
        matched = assign(boxes, [face.box for face in found])
        return [
            numbers[matched[place]] if place in matched else None for place in range(len(found))
        ]

    def get(self, number: int) -> Track:
        """Return a track by its number; one that was forgotten is empty."""
        return self.tracks.get(number) or Track(number)


def assign(expected: Sequence[Box], found: Sequence[Box]) -> dict[int, int]:
    """Match boxes that were found with boxes that were expected.

    Returns
    -------
    dict of int to int
        Place of an expected box, for each place of a found one that has any.
    """
    if not expected or not found:
        return {}
    overlaps = np.array([[faces.overlap(grown(a), grown(b)) for b in found] for a in expected])
    if overlaps.size == 1:
        return {0: 0} if overlaps[0, 0] >= LEAST_OVERLAP else {}
    from scipy.optimize import linear_sum_assignment

    pairs = zip(*linear_sum_assignment(overlaps, maximize=True), strict=True)
    return {int(b): int(a) for a, b in pairs if overlaps[a, b] >= LEAST_OVERLAP}


def grown(box: Box) -> Box:
    """Return a box whose sides lie farther out."""
    x, y = box.x - GROWTH * box.width, box.y - GROWTH * box.height
    return Box(x, y, (1 + 2 * GROWTH) * box.width, (1 + 2 * GROWTH) * box.height)


def add_missing(found: Sequence[Face], others: Iterable[Face], least_overlap: float) -> list[Face]:
    """Return faces, and those of another search that show none of them."""
    faces_of_both = list(found)
    for face in others:
        if all(faces.overlap(face.box, known.box) < least_overlap for known in faces_of_both):
            faces_of_both.append(face)
    return faces_of_both
