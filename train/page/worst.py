"""The clips that are answered most wrongly, with pictures and a player."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from pipeline.cache.facts import ClipEntry
from pipeline.cache.format import CachedRow
from pipeline.corpora import sources
from pipeline.corpora.sources import Source
from train.heads import HEADS
from train.page import rows
from train.page.markup import Markup, data_uri, element, join, paragraph, percent, table
from train.page.material import Material
from train.page.model import HEAD_NAMES

WORST = 12

EMBEDDED_BYTES = 400_000
"""Longer recordings are linked to, not embedded."""

ALL_EMBEDDED_BYTES = 2_200_000
"""What all recordings of a page may take; base64 adds a third."""

KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".webm": "video/webm",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".flac": "audio/flac",
}
"""MIME types of what browsers play, by suffix."""

Line = dict[str, str]


def acted_probability(line: Line, head: str = "fused") -> float:
    """Return what a head gave the emotion that was acted."""
    return float(line[f"p_{head}_{line['emotion']}"])


def worst_lines(predictions: list[Line], count: int = WORST) -> list[Line]:
    """Return the wrong answers whose acted emotion got the least probability, the worst first."""
    wrong = [line for line in predictions if line["fused"] != line["emotion"]]
    return sorted(wrong, key=acted_probability)[:count]


def section(material: Material) -> Markup:
    """Show the worst clips, each with its answers, its pictures and its recording."""
    predictions = material.trained.predictions
    lines = worst_lines(predictions)
    if not lines:
        said = "No clip is answered wrongly." if predictions else "There are no predictions."
        return paragraph(said)
    wrong = sum(line["fused"] != line["emotion"] for line in predictions)
    wanted = {line["clip"] for line in lines}
    cached = material.index.clips if material.index else ()
    entries = {entry.clip: entry for entry in cached if entry.clip in wanted}
    tensors = rows.read_rows(material.index, entries.values(), variants=False) if entries else {}
    scaled = rows.scale(rows.readable(tensors))
    cards, left = [], ALL_EMBEDDED_BYTES
    for line in lines:
        shown: list[Markup] = []
        if entry := entries.get(line["clip"]):
            row = tensors[entry.clip, material.index.spec.row_names[0]]
            shown, used = players(entry, material, left, poster_of(row))
            left -= used
            shown = [strip_of(row, scaled, entry), *shown]
        cards.append(card(line, shown))
    return join(
        [
            paragraph(
                f"{wrong} of {len(predictions)} test clips are answered wrongly. These are the "
                f"{len(lines)} whose acted emotion got the least probability."
            ),
            element("div", *cards, class_="clips"),
        ]
    )


def card(line: Line, shown: list[Markup]) -> Markup:
    """Show one clip: what was acted, what was answered, pictures and players."""
    said = paragraph(
        f"Actor {line['actor']} acted ",
        element("b", line["emotion"]),
        ", the answer is ",
        element("b", line["fused"], class_="bad"),
        ".",
    )
    return element(
        "article", element("h3", line["clip"]), said, *shown, answers(line), class_="clip"
    )


def poster_of(row: CachedRow | str) -> str | None:
    """Return what a player shows before it plays; None where the row cannot be read."""
    return None if isinstance(row, str) else data_uri(rows.jpeg(rows.middle(row)), "image/jpeg")


def strip_of(row: CachedRow | str, scaled: rows.Scale, entry: ClipEntry) -> Markup:
    """Show frames and MFCC image of a clip."""
    if isinstance(row, str):
        return paragraph(row, class_="bad")
    alt = f"clip {entry.clip}, {entry.emotion}"
    images = [
        rows.frames_image(rows.strip(row), f"Five frames of {alt}"),
        rows.mfcc_image(row, scaled, f"MFCC image of {alt}"),
    ]
    return element("div", *images, class_="strip")


def answers(line: Line) -> Markup:
    """Table of what each head said."""
    lines = []
    for head in (head for head in HEADS if line.get(head)):
        said = percent(float(line[f"p_{head}_{line[head]}"]))
        acted = percent(acted_probability(line, head), 1)
        lines.append((HEAD_NAMES[head], f"{line[head]}, {said}", acted))
    return table(["", "answer", line["emotion"]], lines)


def players(
    entry: ClipEntry, material: Material, left: int, poster: str | None
) -> tuple[list[Markup], int]:
    """Players or links of a clip's recordings, and how many bytes of them are in the page.

    A clip with a video file of its own and an audio file has a player for each: the video may be
    silent.

    Parameters
    ----------
    entry, material
        The clip, and what is known of its raw folder.
    left
        Most bytes that may go into the page.
    poster
        Address of what a video shows before it plays.
    """
    written, used = [], 0
    for source in entry.sources:
        path = material.raw / source.path
        if problem := changed(path, source):
            written.append(paragraph(problem, class_="soft"))
            continue
        kind = KINDS.get(path.suffix.lower(), "")
        embedded = bool(kind) and source.bytes <= min(EMBEDDED_BYTES, left - used)
        address = relative_address(path, material.out.parent)
        if kind:
            name = kind.partition("/")[0]
            written.append(
                element(
                    name,
                    src=data_uri(path.read_bytes(), kind) if embedded else address,
                    controls=True,
                    # What is not in the page is not read before it is played.
                    preload="metadata" if embedded else "none",
                    poster=poster if name == "video" else None,
                    aria_label=f"Recording of clip {entry.clip}",
                )
            )
        if embedded:
            used += source.bytes
        else:
            link = element("a", source.path, href=address)
            written.append(paragraph("Not in this page: ", link, class_="soft"))
    return written, used


def relative_address(path: Path, folder: Path) -> str:
    """Write the path of a file from a folder as an address."""
    return urllib.parse.quote(os.fsencode(os.path.relpath(path, folder).replace(os.sep, "/")))


def changed(path: Path, source: Source) -> str:
    """Say why a recording cannot be shown; empty if it is what the rows were made from."""
    if not path.is_file():
        return f"The recording {source.path} is not in the raw folder."
    if path.stat().st_size != source.bytes or sources.file_sha256(path) != source.sha256:
        return f"The recording {source.path} has changed since it was extracted."
    return ""
