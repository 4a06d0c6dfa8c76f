"""Results as files: JSON and CSV, WebVTT for players, ELAN and Praat for annotators."""

from __future__ import annotations

import csv
import html
import io
import json
import os
import tempfile
import urllib.parse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from infer.output import timeline
from infer.output.strips import Said, by_face, joined, strips
from infer.prediction.results import Result
from pipeline import atomic
from pipeline.errors import InputError


def json_text(result: Result) -> str:
    """Write everything, see :meth:`Result.to_dict`."""
    return json.dumps(result.to_dict(), indent=1)


def csv_text(result: Result) -> str:
    """Write :meth:`Result.records` as a table."""
    return table(result.records())


def table(rows: Sequence[dict]) -> str:
    """Write rows of one kind as CSV, with a line of names."""
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def vtt_text(result: Result) -> str:
    """Write WebVTT: a cue for each stretch in which a face keeps its label."""
    faces = by_face(result)
    cues = [
        (said, name if len(faces) > 1 else "")
        for name, spans in faces.items()
        for said in joined(spans)
    ]
    cues.sort(key=lambda cue: cue[0].start_seconds)
    notes = "".join(f"NOTE {note.replace('-->', '→')}\n\n" for note in result.notes)
    return "WEBVTT\n\n" + notes + "".join(vtt_cue(said, name) for said, name in cues)


def vtt_cue(said: Said, name: str) -> str:
    """Write a cue, spoken by the face where there are several."""
    voice = f"<v {name}>" if name else ""
    times = f"{clock(said.start_seconds)} --> {clock(said.end_seconds)}"
    return f"{times}\n{voice}{html.escape(said.text)}\n\n"


def clock(seconds: float) -> str:
    """Write a time as WebVTT does, such as ``01:02:03.456``."""
    thousandths = round(1000 * seconds)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def eaf_text(result: Result, shown: str) -> str:
    """Write ELAN's format: a tier for each face, one for the voice, linked to what is shown."""
    elan = pympi().Elan
    document = elan.Eaf(author="")
    address = urllib.parse.quote(shown, errors="surrogateescape")
    document.add_linked_file(result.file, relpath=f"./{address}", mimetype=mime(result, shown))
    for name, spans in strips(result).items():
        document.add_tier(name)
        for said in joined(spans):
            begin, until = round(1000 * said.start_seconds), round(1000 * said.end_seconds)
            if until > begin:
                document.add_annotation(name, begin, until, said.text)
    document.remove_tier("default")
    return written_by(document.to_file, ".eaf")


def textgrid_text(result: Result) -> str:
    """Write Praat's format: a tier of intervals for each face, one for the voice."""
    praat = pympi().Praat
    grid = praat.TextGrid(xmin=0.0, xmax=result.duration_seconds)
    for name, spans in strips(result).items():
        tier = grid.add_tier(name)
        for said in joined(spans):
            if round(1000 * said.end_seconds) > round(1000 * said.start_seconds):
                tier.add_interval(said.start_seconds, said.end_seconds, said.text)
    return written_by(grid.to_file, ".TextGrid")


def mime(result: Result, shown: str) -> str:
    """Name the kind of a file as ELAN does, which knows few."""
    suffix = Path(shown).suffix.lower()
    kinds = {".wav": "audio/x-wav", ".mpg": "video/mpeg", ".mov": "video/quicktime"}
    return kinds.get(suffix, "video/mp4" if result.size_px[0] else "unknown")


def pympi() -> ModuleType:
    """Import the library of annotators' formats.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pympi as library
    except ImportError as error:
        raise InputError(
            "expected pympi-ling for .eaf and .TextGrid, got none; 'pip install pympi-ling', or "
            "leave these formats away"
        ) from error
    return library


def written_by(write: Callable[[str], None], suffix: str) -> str:
    """Return what a library writes into a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        write(str(path))
        return path.read_text(encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[..., str | bytes]]] = {
    "json": (".json", json_text),
    "csv": (".csv", csv_text),
    "vtt": (".vtt", vtt_text),
    "eaf": (".eaf", eaf_text),
    "textgrid": (".TextGrid", textgrid_text),
    "png": (".png", timeline.png_bytes),
    "html": (".html", timeline.html_text),
}
"""Suffix and writer of each format."""

LINKED = {"eaf", "html"}
"""Formats that name a file to play, by its path from where they lie."""

DEFAULT_FORMATS = ("json", "csv", "vtt")


def formats_of(text: str) -> tuple[str, ...]:
    """Read names of formats, separated by commas; ``all`` names every one.

    Raises
    ------
    InputError
        If one is unknown.
    """
    names = tuple(name.strip().lower() for name in text.split(",") if name.strip())
    if names == ("all",):
        return tuple(FORMATS)
    if unknown := [name for name in names if name not in FORMATS]:
        raise InputError(
            f"expected formats out of {', '.join(FORMATS)} or all, got {', '.join(unknown)}"
        )
    return names


def shown_file(result: Result, stem: Path) -> str:
    """Return the path of the annotated video, or where there is none of the recording."""
    annotated = stem.with_name(f"{stem.name}.mp4")
    return os.path.relpath(annotated if annotated.is_file() else result.path, stem.parent)


def write(result: Result, stem: Path, names: Sequence[str] = DEFAULT_FORMATS) -> list[Path]:
    """Write a result in several formats.

    Parameters
    ----------
    result
        What was said.
    stem
        Path of the files without the suffix; its folder is made.
    names
        Out of :data:`FORMATS`.

    Returns
    -------
    list of Path
        The files.
    """
    written = []
    stem.parent.mkdir(parents=True, exist_ok=True)
    for name in formats_of(",".join(names)):
        suffix, make = FORMATS[name]
        path = stem.with_name(f"{stem.name}{suffix}")
        linked = (shown_file(result, stem),) if name in LINKED else ()
        content = make(result, *linked)
        atomic.write_durably(path, content if isinstance(content, bytes) else content.encode())
        written.append(path)
    return written
