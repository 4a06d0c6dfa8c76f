"""From an uploaded file to what the page shows, in steps that know nothing of the page."""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infer.app import playable
from infer.output import timeline
from infer.output.draw import COLOURS, TRACK_COLOURS
from infer.prediction.predict import Options
from infer.prediction.results import Result
from infer.predictor import Predictor
from infer.reading.recording import Recording, open_recording
from infer.reading.tracks import LOST_SECONDS
from pipeline.errors import InputError
from pipeline.media import packets
from pipeline.spec import EMOTIONS

STEP_SECONDS = 1.0
"""From one showing of what is known to the next."""

WIDE_PX, NARROW_PX = 1000, 340
"""Of the two drawings of the timeline; the page shows the one that fits."""


@dataclass(frozen=True)
class Step:
    """What is known up to now.

    Parameters
    ----------
    view
        What the page shows of it, ready for JSON.
    result
        The answer; None until it is complete.
    """

    view: dict[str, Any]
    result: Result | None = None


def steps(
    predictor: Predictor,
    path: Path,
    folder: Path,
    most_seconds: float,
    reference: Path | None = None,
) -> Iterator[Step]:
    """Predict a recording and show it as soon as possible.

    What a browser plays is shown at once, and predictions as they are made. What it does not play
    is predicted first and converted then.

    Parameters
    ----------
    predictor
        Answers.
    path
        The recording.
    folder
        Where a converted copy is written.
    most_seconds
        Longest recording that is taken.
    reference
        A recording of the same person, for a model with a speaker reference.

    Yields
    ------
    Step
        The last one has the whole result.

    Raises
    ------
    InputError
        If the recording cannot be used.
    """
    recording = open_recording(path, None, predictor.model.spec)
    refuse_long(recording, most_seconds)
    shown = None
    if playable.way(packets.kind_of(path))[0] != playable.ENCODE:
        shown = playable.playable(recording, folder)
    yield Step(view(recording, shown, None, 0.0))
    analysis = predictor.analyse(path, None, Options(), reference)
    last = time.monotonic()
    for made in analysis:
        if time.monotonic() - last >= STEP_SECONDS:
            part = made[-1].end_seconds / max(recording.duration_seconds, 1e-9)
            yield Step(view(recording, shown, analysis.result(), min(part, 0.99)))
            last = time.monotonic()
    result = analysis.result()
    if shown is None:
        yield Step(view(recording, None, result, 1.0), result)
        shown = playable.playable(recording, folder)
    yield Step(view(recording, shown, result, 1.0), result)


def refuse_long(recording: Recording, most_seconds: float) -> None:
    """Raise if a recording is longer than the page takes."""
    if recording.duration_seconds > most_seconds:
        raise InputError(
            f"expected at most {most_seconds / 60:g} minutes in {recording.path}, got "
            f"{recording.duration_seconds / 60:.1f}; cut it, or use 'make infer', which takes any "
            "length"
        )


def view(
    recording: Recording, shown: Path | None, result: Result | None, part: float
) -> dict[str, Any]:
    """Return what the page shows.

    Parameters
    ----------
    recording
        What it is about.
    shown
        What the browser plays; None while that is being made.
    result
        What was said up to now.
    part
        Of the recording that was predicted, in [0, 1].
    """
    drawn = {}
    if result is not None:
        drawn = {
            "wide": timeline.svg_text(result, WIDE_PX),
            "narrow": timeline.svg_text(result, NARROW_PX),
            "legend": timeline.labels(result),
        }
    return {
        "name": recording.path.name,
        "kind": "audio" if recording.video is None else "video",
        "width_px": recording.width_px,
        "height_px": recording.height_px,
        "source": None if shown is None else address(shown),
        "part": round(part, 3),
        "result": None if result is None else result.to_dict(),
        **drawn,
        "emotions": list(EMOTIONS),
        "colours": {name: css(colour) for name, colour in COLOURS.items()},
        "track_colours": [css(colour) for colour in TRACK_COLOURS],
        "lost_seconds": LOST_SECONDS,
    }


def address(path: Path) -> str:
    """Return the address of a file from the page."""
    return "gradio_api/file=" + urllib.parse.quote(str(path))


def css(colour: tuple[int, int, int]) -> str:
    """Write a colour as style sheets do."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def plain(error: InputError, *paths: Path | None) -> str:
    """Say what is wrong with files, by their names instead of where they lie."""
    text = str(error)
    for path in filter(None, paths):
        text = text.replace(str(path), path.name)
    return text.replace("name one with --reference", "drop one into the second field first")
