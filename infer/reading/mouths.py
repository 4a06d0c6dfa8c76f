"""Whose voice is heard: that of the face whose mouth changes when the loudness does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.features.detectors import Box
from pipeline.media import video
from pipeline.media.video import Frame, Timed

GAP_SECONDS = (0.05, 0.3)
"""Frames are compared with an earlier one that lies at least, and at most, so far back: a dozen
changes a second follow syllables, and faces are compared alike at any frame rate."""

LEAST_CHANGES = 16
"""With fewer, a window says nothing of a mouth."""

MOUTH = Box(0.25, 0.5625, 0.5, 0.375)
"""Where the mouth is, in parts of the square around a face."""

CELLS = (6, 8)
"""Rows and columns that the mouth is averaged to."""

LOUDNESS_SECONDS = 1 / 15
"""Stretch around a frame whose loudness is that of the frame."""

FLOOR, MARGIN = 2.5, 1.25
"""The voice is a face's whose agreement is at least the floor, and at least the margin times that
of every other face. Chosen on actors 1-9, judged on others: ``bench/voice.py``."""

LARGEST_SQUARED_CORRELATION = 0.99
LUMA_FORMATS = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12")


class Change(NamedTuple):
    """How a mouth changed from one frame to a later one.

    Parameters
    ----------
    begin_seconds, end_seconds
        Times of the two frames.
    cells
        float32, shape ``CELLS``: the later luma minus the earlier one, within one and the same box,
        so that a box that is placed anew changes nothing.
    """

    begin_seconds: float
    end_seconds: float
    cells: NDArray[np.float32]


class Mouths:
    """Keeps how mouths change in frames that pass by, while there are several faces.

    Parameters
    ----------
    squares_at
        Gives, for a time in seconds, the square of each face by its track, in parts of the frame's
        width.
    """

    def __init__(self, squares_at: Callable[[float], Mapping[int, Box]]) -> None:
        self._squares_at = squares_at
        self._last: tuple[float, NDArray[np.uint8]] | None = None
        self._changes: dict[int, list[Change]] = {}

    def watch(self, coming: Iterator[Timed]) -> Iterator[Timed]:
        """Pass on frames, and keep what changes in them."""
        for timed in coming:
            self.see(timed.frame, timed.start_seconds)
            yield timed

    def see(self, frame: Frame, seconds: float) -> None:
        """Take the next frame."""
        squares = self._squares_at(seconds)
        if len(squares) < 2:
            self._last = None
            return
        least, most = GAP_SECONDS
        if self._last is not None and seconds - self._last[0] < least:
            return
        last, shown = self._last, luma(frame)
        self._last = (seconds, shown)
        if last is None or seconds - last[0] > most or last[1].shape != shown.shape:
            return
        for number, square in squares.items():
            box = mouth_of(square, shown.shape[1])
            before, after = cells_of(last[1], box), cells_of(shown, box)
            if before is not None and after is not None:
                change = Change(last[0], seconds, after - before)
                self._changes.setdefault(number, []).append(change)

    def agreements(
        self,
        numbers: Sequence[int],
        waveform: NDArray[np.float32],
        start_seconds: float,
        sample_rate_hz: int,
    ) -> dict[int, float]:
        """Compare the mouths of a window with what is heard; windows come in the order of time.

        Parameters
        ----------
        numbers
            Tracks of the faces.
        waveform
            Shape (samples,), and where it begins.
        start_seconds, sample_rate_hz
            See there.

        Returns
        -------
        dict of int to float
            See :func:`agreement`; none where there are fewer than two faces, or a mouth changed
            less than ``LEAST_CHANGES`` times: it cannot be ruled out.
        """
        end = start_seconds + len(waveform) / sample_rate_hz
        self._changes = {
            number: [change for change in changes if change.begin_seconds >= start_seconds]
            for number, changes in self._changes.items()
        }
        found = {
            number: [
                change for change in self._changes.get(number, []) if change.end_seconds <= end
            ]
            for number in numbers
        }
        if len(found) < 2 or min(map(len, found.values())) < LEAST_CHANGES:
            return {}
        made = {}
        for number, changes in found.items():
            begins, ends, cells = (np.array(part) for part in zip(*changes, strict=True))
            times = np.concatenate([begins, ends]) - start_seconds
            before, after = np.split(loudness_at(waveform, times, sample_rate_hz), 2)
            made[number] = agreement(cells.reshape(len(cells), -1), after - before)
        return made


def speaker(
    agreements: Mapping[int, float], floor: float = FLOOR, margin: float = MARGIN
) -> int | None:
    """Say which face the voice belongs to; None where that is not decidable."""
    if len(agreements) < 2:
        return None
    *_, next_best, best = sorted(agreements, key=agreements.__getitem__)
    clear = agreements[best] >= max(floor, margin * agreements[next_best])
    return best if clear else None


def agreement(changes: NDArray[np.floating], louder: NDArray[np.floating]) -> float:
    """How much the changes of a mouth say about the changes of the loudness.

    Parameters
    ----------
    changes
        Shape (times, cells): of the luma of each cell.
    louder
        Shape (times,): of the loudness in the same time.

    Returns
    -------
    float
        Mean over cells of -log(1 - r²), times the number of times: about 1 where mouth and voice
        have nothing to do with each other, 0 where one of them does not change.

    Notes
    -----
    Twice the mutual information of two Gaussian variables is -log(1 - r²), r their correlation, by
    which Hershey & Movellan 1999, "Audio vision: using audio-visual synchrony to locate sounds",
    find the pixels that sound. Here it is taken of changes: a face differs from its surroundings at
    all times, and from itself when it speaks.
    """
    correlations = standardised(louder) @ standardised(changes) / len(louder)
    squared = np.minimum(correlations**2, LARGEST_SQUARED_CORRELATION)
    return float(-np.log1p(-squared).mean() * len(louder))


def standardised(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return values of mean 0 and deviation 1 over the first axis, or 0 where they are constant."""
    centred = values - values.mean(axis=0, dtype=np.float64)
    deviation = centred.std(axis=0)
    return centred / np.where(deviation > 1e-9, deviation, 1.0)


def loudness_at(
    waveform: NDArray[np.float32], seconds: NDArray[np.float64], sample_rate_hz: int
) -> NDArray[np.float64]:
    """Square root of the root mean square around each time, shape (times,).

    Between amplitude and decibels: whispers count, and the noise between words does not.
    """
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    half = LOUDNESS_SECONDS / 2
    first, last = (
        np.clip(np.rint((seconds + side) * sample_rate_hz), 0, len(waveform)).astype(int)
        for side in (-half, half)
    )
    power = (energy[last] - energy[first]) / np.maximum(last - first, 1)
    return np.maximum(power, 0.0) ** 0.25


def luma(frame: Frame) -> NDArray[np.uint8]:
    """Return the light of a frame, upright, shape (height, width)."""
    if frame.format.name not in LUMA_FORMATS:
        frame = frame.reformat(format="gray")
    return np.rot90(video.planes(frame)[0], video.quarter_turns(frame))


def mouth_of(square: Box, width_px: int) -> Box:
    """Return where the mouth of a face is, in pixels of a frame of that width."""
    x, y = square.x + MOUTH.x * square.width, square.y + MOUTH.y * square.height
    sides = (x, y, MOUTH.width * square.width, MOUTH.height * square.height)
    return Box(*(width_px * side for side in sides))


def cells_of(shown: NDArray[np.uint8], box: Box) -> NDArray[np.float32] | None:
    """Average a part of a frame to ``CELLS``; None where it is too small, or not all there."""
    left, top = round(box.x), round(box.y)
    right, bottom = round(box.x + box.width), round(box.y + box.height)
    rows, columns = CELLS
    there = left >= 0 and top >= 0 and right <= shown.shape[1] and bottom <= shown.shape[0]
    if not there or bottom - top < rows or right - left < columns:
        return None
    part = np.ascontiguousarray(shown[top:bottom, left:right])
    return cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA).astype(np.float32)
