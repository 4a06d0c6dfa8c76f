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
from pipeline.errors import InputError
from pipeline.spec import CLEAN, EMOTIONS, NOISE
from train import protocol, table
from train.table import AtRest, Rows

CHOICES = 12
"""Neutral clips beside a row, the same ones over again where there are fewer. A multiple of what
RAVDESS' speech has for a neutral clip and for another: each is as likely to be drawn."""

STAMP = "knows each speaker at rest: not actor-independent"


def stamp(of_split: str | None, calibrated: bool) -> str | None:
    """Say all that keeps a result from being compared with others, None where nothing does."""
    return "; ".join(filter(None, (STAMP if calibrated else None, of_split))) or None


def beside(rows: Rows, index: Index, left_out: Collection[str] = ()) -> Rows:
    """Set neutral clips of the same person beside each row: the person at rest.

    Never the row's own clip. Training draws one anew each time, because one is what an answer
    needs; judging takes the means over all of them, see :func:`deal`. A noisy row stands
    beside noisy ones, because noise belongs to the room, where the person at rest is heard as
    well. A change of pitch or tempo belongs to the speech: such a row stands beside clean ones.

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
        With ``rest``. A row whose clip is its person's only neutral one is left out.

    Raises
    ------
    InputError
        If a person has no neutral clip.
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
            f"{protocol.format_actors(missing)}; train and test without --calibrated"
        )
    serving = np.full((len(rows), CHOICES), -1)
    for actor, variant in sorted(set(zip(rows.actor.tolist(), room.tolist(), strict=True))):
        at_rest = np.flatnonzero((neutral.actor == actor) & (neutral.variant == variant))
        for number in np.flatnonzero((rows.actor == actor) & (room == variant)):
            others = at_rest[neutral.clip[at_rest] != rows.clip[number]]
            if len(others):
                serving[number] = np.resize(others, CHOICES)
    having = serving[:, 0] >= 0
    return dataclasses.replace(rows.where(having), rest=AtRest(neutral, serving[having]))


def deal(
    mfcc: NDArray[np.float32], frames: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Make one row of several of a person at rest: columns and pictures of each of them in turn.

    Only means over time are taken of it, and those of several recordings lie nearer to the person.

    Parameters
    ----------
    mfcc, frames
        Rows, see :func:`relate`.

    Returns
    -------
    mfcc : ndarray of float32, shape (mfcc_count, mfcc_columns, 1)
    frames : ndarray of uint8, shape (frame_count, size, size, 3)
    """
    columns, instants = np.arange(mfcc.shape[2]), np.arange(frames.shape[1])
    turn = len(mfcc)
    heard = np.moveaxis(mfcc, 2, 1)[columns % turn, columns]
    return np.ascontiguousarray(heard.swapaxes(0, 1)), frames[instants % turn, instants]


def relate(
    mfcc: NDArray[np.float32],
    frames: NDArray[np.uint8],
    rest_mfcc: NDArray[np.float32],
    rest_frames: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Turn rows into what a calibrated network reads; the shapes stay.

    Parameters
    ----------
    mfcc, frames
        Rows, of shapes (rows, mfcc_count, mfcc_columns, 1) and
        (rows, frame_count, size, size, 3).
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
    sounding = rest_mfcc.any(axis=1, keepdims=True)
    count = np.maximum(sounding.sum(axis=2, keepdims=True), 1)
    level = rest_mfcc.sum(axis=2, keepdims=True) / count
    related = np.where(mfcc.any(axis=1, keepdims=True), mfcc - level, np.float32(0))
    shown = frames.any(axis=(2, 3, 4), keepdims=True)[..., 0]
    greys = np.zeros_like(frames)
    greys[..., 0] = grey(frames)
    greys[..., 1] = grey(rest_frames) * shown
    return related.astype(np.float32, copy=False), greys


def grey(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey of pictures, shape (rows, frame_count, size, size)."""
    rows, count, height, width, _ = frames.shape
    flat = cv2.cvtColor(frames.reshape(-1, width, 3), cv2.COLOR_RGB2GRAY)
    return flat.reshape(rows, count, height, width)
