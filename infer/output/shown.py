"""What is shown at a moment, while the predictions are still being made."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from infer.output.draw import Shown
from infer.prediction.results import WindowPrediction
from infer.reading.tracks import Track
from pipeline.features.detectors import Box


class Showing:
    """Answers what is known about a moment.

    Parameters
    ----------
    track_of
        Returns a track by its number, which knows where the face is.
    """

    def __init__(self, track_of: Callable[[int], Track]) -> None:
        self._track_of = track_of
        self._windows: dict[int | None, list[WindowPrediction]] = {}
        self._first: int | None = None
        self.several = False
        """Whether there were answers about several faces."""

    def add(self, predictions: list[WindowPrediction]) -> None:
        """Take the predictions of the next window."""
        for made in predictions:
            self._windows.setdefault(made.track, []).append(made)
            if made.track is not None:
                self._first = self._first or made.track
                self.several |= made.track != self._first

    def forget(self, before_seconds: float) -> None:
        """Drop what no later moment needs."""
        kept = {
            track: [made for made in windows if made.end_seconds >= before_seconds]
            for track, windows in self._windows.items()
        }
        self._windows = {track: windows for track, windows in kept.items() if windows}

    def at(self, seconds: float, ratio: float) -> list[Shown]:
        """Say what is shown at a moment.

        Parameters
        ----------
        seconds
            The moment.
        ratio
            Pixels of the drawn frame for a pixel of the tracks' boxes.

        Returns
        -------
        list of Shown
            The faces that are seen then, each with the answer of its nearest window; without any,
            the answer of the nearest window without a face, if that reaches as far.
        """
        found = []
        for track, windows in self._windows.items():
            if track is None:
                continue
            window = nearest(windows, seconds)
            seen = self._track_of(track).at(seconds)
            if window and seen:
                box = Box(*(ratio * side for side in seen[0]))
                found.append(Shown(track, box, seen[1], window.label, window.smoothed))
        alone = nearest(self._windows.get(None, []), seconds)
        if alone and not found:
            found.append(Shown(None, None, 0.0, alone.label, alone.smoothed))
        return found


def nearest(windows: list[WindowPrediction], seconds: float) -> WindowPrediction | None:
    """Return the window whose middle is nearest; None if none holds the moment.

    The first and the last reach on for half of their length: frames may be on screen before and
    after all that is heard.
    """
    after = bisect_right(windows, seconds, key=lambda window: window.time_seconds)
    near = windows[max(0, after - 1) : after + 1]
    if not near:
        return None
    window = min(near, key=lambda window: abs(window.time_seconds - seconds))
    length = window.end_seconds - window.start_seconds
    return window if abs(window.time_seconds - seconds) <= length else None
