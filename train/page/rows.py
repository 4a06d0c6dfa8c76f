"""Pictures of cached rows: frames as JPEG, MFCC images as PNG."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.cache.facts import ClipEntry
from pipeline.cache.format import CachedRow
from pipeline.cache.index import Index
from pipeline.errors import InputError
from pipeline.spec import EMOTIONS
from train.data.reader import RowReader
from train.data.rows import Rows, select_rows
from train.page.markup import Markup, data_uri, element

JPEG_QUALITY = 80
MFCC_ZOOM = 2
MFCC_RANGE = 2.5
"""Standard deviations at which the colours of an MFCC image end."""

Tensors = dict[tuple[str, str], CachedRow | str]
"""Rows by clip and variant; for one that cannot be read, why."""

Scale = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Mean and deviation of each coefficient."""


def chosen_clips(index: Index, count: int) -> dict[str, list[ClipEntry]]:
    """Choose clips to show: of each emotion that occurs some of different actors.

    Returns
    -------
    dict
        By emotion at most ``count`` clips, of actors that are evenly spread over the list of all;
        the same ones for the same cache. Clips that have audio and video come first.
    """
    by_emotion: dict[str, dict[int, ClipEntry]] = {}
    for entry in sorted(index.clips, key=lambda clip: not (clip.has_audio and clip.has_video)):
        by_emotion.setdefault(entry.emotion, {}).setdefault(entry.actor, entry)
    chosen = {}
    for emotion in (name for name in EMOTIONS if name in by_emotion):
        actors = sorted(by_emotion[emotion])
        places = np.linspace(0, len(actors) - 1, min(count, len(actors))).round().astype(int)
        chosen[emotion] = [by_emotion[emotion][actors[place]] for place in places]
    return chosen


def read_rows(index: Index, entries: Collection[ClipEntry], variants: bool) -> Tensors:
    """Read the rows of some clips, at their offsets; each is compared with its checksum.

    Raises
    ------
    InputError
        If a shard is missing or has another size.
    """
    if not entries:
        return {}
    part = dataclasses.replace(index, entries=tuple(entries))
    table = select_rows(part, part.actors, variants)
    reader = RowReader(table)
    keys = zip(table.clip.tolist(), table.variant.tolist(), strict=True)
    return {key: read_row(reader, table, number) for number, key in enumerate(keys)}


def read_row(reader: RowReader, table: Rows, number: int) -> CachedRow | str:
    """Read a row; return why where it cannot be read, so that a page shows all the others."""
    try:
        tensors = reader.read(np.array([number]))
    except InputError as error:
        return str(error)
    return CachedRow(tensors["mfcc"][0], tensors["frames"][0])


def middle(row: CachedRow) -> NDArray[np.uint8]:
    """Return the frame in the middle of a row, uint8 (height, width, 3) RGB."""
    return row.frames[len(row.frames) // 2]


def strip(row: CachedRow, count: int = 5) -> NDArray[np.uint8]:
    """Return some frames of a row beside each other, uint8 (height, count * width, 3) RGB."""
    places = np.linspace(0, len(row.frames) - 1, count).round().astype(int)
    return np.concatenate(list(row.frames[places]), axis=1)


def jpeg(image: NDArray[np.uint8]) -> bytes:
    """Encode an RGB image."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def frames_image(image: NDArray[np.uint8], alt: str) -> Markup:
    """Show frames, as an image that is part of the page."""
    height, width, _ = image.shape
    source = data_uri(jpeg(image), "image/jpeg")
    return element("img", src=source, alt=alt, width=width, height=height)


def readable(tensors: Tensors) -> list[CachedRow]:
    """Return those of some rows that could be read."""
    return [row for row in tensors.values() if isinstance(row, CachedRow)]


def scale(rows: Collection[CachedRow]) -> Scale:
    """Mean and deviation of each coefficient over some rows, shape (mfcc_count, 1) both.

    Columns without audio do not count. Without any, 0 and 1.
    """
    columns = [row.mfcc[:, row.mfcc.any(axis=(0, 2)), 0] for row in rows]
    if not any(column.size for column in columns):
        return np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32)
    joined = np.concatenate(columns, axis=1)
    return joined.mean(axis=1, keepdims=True), joined.std(axis=1, keepdims=True) + 1e-6


def mfcc_image(row: CachedRow, scaled: Scale, alt: str) -> Markup:
    """Show an MFCC image, standardised by coefficient; time runs to the right, coefficients up.

    Parameters
    ----------
    row
        What is shown; silence is grey.
    scaled
        See :func:`scale`.
    alt
        What it shows, in words.
    """
    import matplotlib

    values = (row.mfcc[::-1, :, 0] - scaled[0][::-1]) / scaled[1][::-1]
    levels = np.clip(0.5 + values / (2 * MFCC_RANGE), 0, 1)
    colours = (255 * matplotlib.colormaps["magma"](levels)[..., :3]).astype(np.uint8)
    colours[:, ~row.mfcc.any(axis=(0, 2))] = 128
    content = cv2.imencode(".png", colours[..., ::-1])[1].tobytes()
    height, width = (MFCC_ZOOM * side for side in levels.shape)
    source = data_uri(content, "image/png")
    return element("img", src=source, alt=alt, width=width, height=height, class_="mfcc")
