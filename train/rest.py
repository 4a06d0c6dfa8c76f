"""Knowing the speaker: every clip is read against the person at rest.

A second setting, reported apart: it knows something of the people it is tested on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.cache.index import Index
from pipeline.corpora.actors import format_actors
from pipeline.errors import InputError
from pipeline.spec import CLEAN, EMOTIONS, NOISE
from train import table
from train.table import AtRest, Rows

CHOICES = 12
"""Neutral clips beside a row, the same ones over again where there are fewer. A multiple of what
RAVDESS' speech has for a neutral clip and for another: each is as likely to be drawn."""

STAMP = "knows each speaker at rest: not actor-independent"


def stamp(of_split: str | None, calibrated: bool) -> str | None:
    """Say all that keeps a result from being compared with others, None where nothing does."""
    return "; ".join(filter(None, (STAMP if calibrated else None, of_split))) or None


def beside(rows: Rows, index: Index, left_out: Collection[str] = ()) -> Rows:
    """Give each row a speaker reference: neutral clips of the same actor.

    Never the row's own clip. Training draws one anew each time, because one is what an answer
    needs; evaluation takes the means over all of them, see :func:`deal`. The reference of a noisy
    row is noisy, because noise belongs to the room, where the reference is recorded as well. A
    change of pitch or tempo belongs to the speech: the reference of such a row is clean.

    Parameters
    ----------
    rows
        The table.
    index
        The cache they lie in.
    left_out
        Ids of clips that nobody is read against.

    Returns
    -------
    Rows
        With ``rest``. A row is left out where no other neutral clip of its actor has the modalities
        that it has.

    Raises
    ------
    InputError
        If an actor has no neutral clip.
    """
    actors = np.unique(rows.actor).tolist()
    noisy = np.char.startswith(rows.variant, NOISE)
    room = np.where(noisy, rows.variant, CLEAN)
    known = table.select_rows(index, actors, bool(noisy.any()), left_out)
    is_neutral = known.label == EMOTIONS.index("neutral")
    neutral = known.where(is_neutral & np.isin(known.variant, room))
    if missing := sorted(set(actors) - set(neutral.actor.tolist())):
        raise InputError(
            f"expected a neutral clip of each actor, got none of actors "
            f"{format_actors(missing)}; train and test without --calibrated"
        )
    by_actor: dict[tuple[int, str], list[int]] = {}
    for number, key in enumerate(zip(neutral.actor, neutral.variant, strict=True)):
        by_actor.setdefault(key, []).append(number)
    serving = np.full((len(rows), CHOICES), -1)
    for number, key in enumerate(zip(rows.actor, room, strict=True)):
        at_rest = np.array(by_actor.get(key, []), np.int64)
        suited = neutral.clip[at_rest] != rows.clip[number]
        # A missing modality has no level to be read against.
        suited &= neutral.has_audio[at_rest] >= rows.has_audio[number]
        suited &= neutral.has_video[at_rest] >= rows.has_video[number]
        if suited.any():
            serving[number] = np.resize(at_rest[suited], CHOICES)
    having = serving[:, 0] >= 0
    return dataclasses.replace(rows.where(having), rest=AtRest(neutral, serving[having]))


def deal(
    mfcc: NDArray[np.float32] | None, frames: NDArray[np.uint8] | None
) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None]:
    """Make one row of several of a person at rest: columns and pictures of each of them in turn.

    Only means over time are taken of it, and those of several recordings lie nearer to the person.

    Parameters
    ----------
    mfcc, frames
        Rows, see :func:`relate`; None where it is not wanted.

    Returns
    -------
    mfcc : ndarray of float32, shape (mfcc_count, mfcc_columns, 1)
    frames : ndarray of uint8, shape (frame_count, size, size, 3)
    """
    if mfcc is not None:
        columns = np.arange(mfcc.shape[2])
        heard = np.moveaxis(mfcc, 2, 1)[columns % len(mfcc), columns]
        mfcc = np.ascontiguousarray(heard.swapaxes(0, 1))
    if frames is not None:
        instants = np.arange(frames.shape[1])
        frames = frames[instants % len(frames), instants]
    return mfcc, frames


def relate(
    mfcc: NDArray[np.float32] | None,
    frames: NDArray[np.uint8] | None,
    rest_mfcc: NDArray[np.float32] | None,
    rest_frames: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.float32] | None, NDArray[np.uint8] | None]:
    """Turn rows into what a calibrated network reads; the shapes stay.

    Parameters
    ----------
    mfcc, frames
        Rows, of shapes (rows, mfcc_count, mfcc_columns, 1) and
        (rows, frame_count, size, size, 3); None where it is not wanted.
    rest_mfcc, rest_frames
        As many rows of the same people at rest.

    Returns
    -------
    mfcc : ndarray of float32
        Without the person's mean over time at rest. Columns without sound stay zero.
    frames : ndarray of uint8
        Grey instead of colours: the picture's, the one's at rest, and zero. Black pictures, which
        are missing ones, stay black.
    """
    if mfcc is not None:
        sounding = rest_mfcc.any(axis=1, keepdims=True)
        count = np.maximum(sounding.sum(axis=2, keepdims=True), 1)
        level = rest_mfcc.sum(axis=2, keepdims=True) / count
        related = np.where(mfcc.any(axis=1, keepdims=True), mfcc - level, np.float32(0))
        mfcc = related.astype(np.float32, copy=False)
    if frames is not None:
        shown = frames.any(axis=(2, 3, 4), keepdims=True)[..., 0]
        greys = np.zeros_like(frames)
        greys[..., 0] = grey(frames)
        greys[..., 1] = grey(rest_frames) * shown
        frames = greys
    return mfcc, frames


def grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey of pictures, shape (rows, frame_count, size, size)."""
    rows, count, height, width, _ = frames.shape
    flat = cv2.cvtColor(frames.reshape(-1, width, 3), cv2.COLOR_RGB2GRAY)
    return flat.reshape(rows, count, height, width)
