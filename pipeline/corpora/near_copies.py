"""Recordings that are nearly alike, found by their fingerprints in time linear in their number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.corpora.fingerprint import BITS, HOP_SECONDS, QUIET

MOST_ERRORS = 0.2
"""Part of the bits that differ at most between two copies. See ``python -m bench duplicates``."""

LEAST_WORDS = 40
"""Loud frames that two copies have in common at least: 0.64 s."""

NEIGHBOURS = 8
"""Frames with the same word that each is compared with: the next ones by clip."""

TAPS = np.array([-24, -18, -12, -6, 6, 12, 18, 24])
"""Frames around one with the same word that have to be alike before all are compared."""

MOST_TAP_ERRORS = 0.3

BLOCK = 1 << 20
"""Pairs of frames that are compared at once."""

BITS_OF_BYTE = np.array([number.bit_count() for number in range(256)], np.int64)


class NearCopy(NamedTuple):
    """Two recordings that are nearly alike.

    Parameters
    ----------
    first, second
        Their places in the list of fingerprints.
    offset_seconds
        How much later the same moment comes in the first.
    error_rate
        Part of the bits that differ.
    """

    first: int
    second: int
    offset_seconds: float
    error_rate: float


def near_copies(prints: Sequence[NDArray[np.uint32]]) -> list[NearCopy]:
    """Find pairs of recordings that are nearly alike.

    Copies have frames with the same word at one offset; there the fingerprints are compared.
    Each frame is compared with ``NEIGHBOURS`` others of its word at most, so time follows the
    number of recordings, whatever they hold. Of more copies of one recording than that not every
    pair is listed, but every copy is in a pair.

    Parameters
    ----------
    prints
        See :func:`pipeline.corpora.fingerprint.fingerprint`.

    Returns
    -------
    list of NearCopy
        Each pair once, at its best offset; sorted.
    """
    best: dict[tuple[int, int], NearCopy] = {}
    for first, second, offset in candidates(prints).tolist():
        for near in (offset - 1, offset, offset + 1):
            rate = error_rate(prints[first], prints[second], near)
            if rate is None or rate > MOST_ERRORS:
                continue
            found = NearCopy(first, second, near * HOP_SECONDS, rate)
            before = best.get((first, second))
            if before is None or rate < before.error_rate:
                best[first, second] = found
    return sorted(best.values())


def candidates(prints: Sequence[NDArray[np.uint32]]) -> NDArray[np.int64]:
    """Find recordings and offsets that are worth a comparison, int64 (candidates, 3).

    The columns are the first recording, the second, and how many frames later the same moment
    comes in the first.
    """
    sizes = np.array([len(words) for words in prints], np.int64)
    if not sizes.sum():
        return np.zeros((0, 3), np.int64)
    words = np.concatenate(prints)
    owner = np.repeat(np.arange(len(prints)), sizes)
    starts = np.cumsum(sizes) - sizes
    # A word that lasts is one word.
    lasting = np.r_[False, (words[1:] == words[:-1]) & (owner[1:] == owner[:-1])]
    index = np.flatnonzero((words != QUIET) & ~lasting)
    index = index[np.argsort(words[index], kind="stable")]
    found = [
        np.stack(
            [owner[one], owner[other], one - starts[owner[one]] - other + starts[owner[other]]], 1
        )
        for one, other in alike(words, owner, index)
    ]
    return np.unique(np.concatenate([np.zeros((0, 3), np.int64), *found]), axis=0)


def alike(
    words: NDArray[np.uint32], owner: NDArray[np.int64], index: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield places of frames of two recordings with the same word, whose surroundings are alike.

    ``index`` lists the places sorted by word, then by place.
    """
    for step in range(1, NEIGHBOURS + 1):
        for first in range(0, len(index) - step, BLOCK):
            one = index[first : first + BLOCK][: len(index) - step - first]
            other = index[first + step : first + step + len(one)]
            same = (words[one] == words[other]) & (owner[one] != owner[other])
            one, other = one[same], other[same]
            kept = surroundings_alike(words, owner, one, other)
            yield one[kept], other[kept]


def surroundings_alike(
    words: NDArray[np.uint32],
    owner: NDArray[np.int64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether the frames at ``TAPS`` around some pairs of places are alike, shape (pairs,).

    Pairs with fewer than three loud frames there are not.
    """
    errors, loud = np.zeros(len(one), np.int64), np.zeros(len(one), np.int64)
    for tap in TAPS:
        places = [np.clip(place + tap, 0, len(words) - 1) for place in (one, other)]
        both = [words[place] for place in places]
        inside = (owner[places[0]] == owner[one]) & (owner[places[1]] == owner[other])
        counted = inside & (both[0] != QUIET) & (both[1] != QUIET)
        loud += counted
        errors += np.where(counted, bits_set(both[0] ^ both[1]), 0)
    return (loud >= 3) & (errors <= MOST_TAP_ERRORS * BITS * loud)


def error_rate(first: NDArray[np.uint32], second: NDArray[np.uint32], offset: int) -> float | None:
    """Part of the bits that differ where both are loud; None where they share too little."""
    start, other = max(0, offset), max(0, -offset)
    length = min(len(first) - start, len(second) - other)
    if length < LEAST_WORDS:
        return None
    one, two = first[start : start + length], second[other : other + length]
    loud = (one != QUIET) & (two != QUIET)
    count = int(loud.sum())
    if count < LEAST_WORDS:
        return None
    return float(bits_set(one[loud] ^ two[loud]).sum() / (BITS * count))


def bits_set(words: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Count the bits of words that are set."""
    # NumPy has a function for this from version 2 on; the oldest that is supported is 1.26.
    return BITS_OF_BYTE[np.ascontiguousarray(words).view(np.uint8)].reshape(-1, 4).sum(axis=1)
