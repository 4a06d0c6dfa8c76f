"""What was said over time: for each face and modality, stretches that do not overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from infer.prediction.results import Result, WindowPrediction
from infer.prediction.smooth import UNSURE, named
from pipeline.spec import EMOTIONS

NO_FACE = "no face"


class Said(NamedTuple):
    """A stretch of time with one label.

    Parameters
    ----------
    start_seconds, end_seconds
        The stretch.
    label
        An emotion, or ``"unsure"``.
    probability
        Of the label, in [0, 1]; of the likeliest emotion where it is unsure.
    """

    start_seconds: float
    end_seconds: float
    label: str
    probability: float

    @property
    def text(self) -> str:
        """The label with its probability."""
        return f"{self.label} {100 * self.probability:.0f} %"


def strips(result: Result) -> dict[str, list[Said]]:
    """Return what was said of each face, and what each face and the voice say alone.

    Returns
    -------
    dict of str to list of Said
        By name: each of :func:`by_face`, followed by ``"face 1 alone"`` and so on, and last
        ``"voice alone"``.
    """
    found: dict[str, list[Said]] = {}
    least = result.min_confidence
    for name, spans in by_face(result).items():
        found[name] = spans
        seen = result.of(int(name.split()[1])) if name != NO_FACE else []
        if any(window.face is not None for window in seen):
            found[f"{name} alone"] = alone(seen, "face", least)
    if result.heard:
        found["voice alone"] = alone(result.heard, "voice", least)
    return found


def by_face(result: Result) -> dict[str, list[Said]]:
    """Return what is shown of each face, ``"face 1"`` and so on, and last of ``"no face"``."""

    def answer(window: WindowPrediction) -> tuple[str, float]:
        shown = int(window.smoothed.argmax())
        if window.label != UNSURE:
            shown = EMOTIONS.index(window.label)
        return window.label, float(window.smoothed[shown])

    numbers = sorted({window.track for window in result.windows if window.track is not None})
    found = {f"face {number}": divided(result.of(number), answer) for number in numbers}
    without = result.of(None)
    return found | ({NO_FACE: divided(without, answer)} if without else {})


def alone(windows: Sequence[WindowPrediction], part: str, min_confidence: float) -> list[Said]:
    """Return what ``"voice"`` or ``"face"`` says by itself, in the windows that have it."""
    windows = [window for window in windows if getattr(window, part) is not None]

    def answer(window: WindowPrediction) -> tuple[str, float]:
        values = getattr(window, part)
        return named(values, min_confidence), float(values.max())

    return divided(windows, answer)


def divided(
    windows: Sequence[WindowPrediction], answer: Callable[[WindowPrediction], tuple[str, float]]
) -> list[Said]:
    """Divide the time that windows cover: each moment gets the nearest window's answer.

    Parameters
    ----------
    windows
        Of one face, in the order of time. Where they do not overlap, there are gaps.
    answer
        Gives label and probability of a window.
    """
    found = []
    for number, window in enumerate(windows):
        start, end = window.start_seconds, window.end_seconds
        if number and windows[number - 1].end_seconds > start:
            start = (windows[number - 1].time_seconds + window.time_seconds) / 2
        if number + 1 < len(windows) and windows[number + 1].start_seconds < end:
            end = (window.time_seconds + windows[number + 1].time_seconds) / 2
        if end > start:
            found.append(Said(start, end, *answer(window)))
    return found


def joined(spans: Sequence[Said]) -> list[Said]:
    """Join neighbours that have one label; the probability is the largest."""
    found: list[Said] = []
    for said in spans:
        last = found[-1] if found else None
        if last and last.label == said.label and said.start_seconds - last.end_seconds < 1e-6:
            probability = max(last.probability, said.probability)
            found[-1] = last._replace(end_seconds=said.end_seconds, probability=probability)
        else:
            found.append(said)
    return found
