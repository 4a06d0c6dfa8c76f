"""Statistics of the rows that a training starts from: MFCCs, and frequencies of the emotions."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.spec import EMOTIONS
from train.data.reader import RowReader
from train.data.rows import Rows

Prior = Sequence[float] | Sequence[Sequence[float]]
"""Frequency of each emotion; with several corpora a line for each."""


class MfccStatistics(NamedTuple):
    """Statistics of the MFCCs of some rows, each of shape (mfcc_count,) and type float32.

    Parameters
    ----------
    mean, variance
        Of each coefficient.
    speaker_deviation
        Standard deviation of the speakers' own means.
    checksum
        CRC-32 of the MFCCs as they were read.
    """

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    speaker_deviation: NDArray[np.float32]
    checksum: int = 0


def mfcc_statistics(rows: Rows) -> MfccStatistics:
    """Describe the MFCCs of some rows, read one at a time, without their frames.

    Rows are not compared with their checksums, which need the frames: the first epoch of a
    training on these rows does that, and a resumed one is refused unless ``checksum`` is what it
    was. Only values that are not finite are compared at once, before they make the loss NaN.

    Parameters
    ----------
    rows
        Clean training rows. Those without audio do not count.

    Returns
    -------
    MfccStatistics
        Those of a standard normal distribution where no row has audio.

    Raises
    ------
    InputError
        If a value is not finite because a row is not what was written.
    """
    rows = rows.where(rows.has_audio)
    if not len(rows):
        zeros = np.zeros(rows.spec.mfcc_count, np.float32)
        return MfccStatistics(zeros, zeros + 1, zeros)
    reader = RowReader(rows, check=False)
    actors, places = np.unique(rows.actor, return_inverse=True)
    sums = np.zeros((len(actors), 2, rows.spec.mfcc_count))
    checksum = 0
    for number, actor in enumerate(places):
        chosen = np.array([number])
        mfcc = reader.read(chosen, ("mfcc",))["mfcc"]
        if not np.isfinite(mfcc).all():
            RowReader(rows).read(chosen, ("mfcc",))
        checksum = zlib.crc32(mfcc, checksum)
        image = mfcc[0, ..., 0].astype(np.float64)
        sums[actor] += image.mean(axis=1), np.square(image).mean(axis=1)
    mean, square = sums.sum(axis=0) / len(rows)
    speakers = sums[:, 0] / np.bincount(places)[:, np.newaxis]
    found = (mean, square - mean**2, speakers.std(axis=0))
    mean, variance, deviation = (values.astype(np.float32) for values in found)
    return MfccStatistics(mean, variance, deviation, checksum)


def class_prior(rows: Rows) -> Prior:
    """Frequency of each emotion, one more clip of each being counted.

    With several corpora there is a line for each, 0 for the emotions that it lacks.
    """
    if rows.corpora is None:
        counts = np.bincount(rows.label, minlength=len(EMOTIONS)) + 1
        return tuple(counts / counts.sum())
    lines = []
    for number, present in enumerate(rows.corpora.emotions):
        own = rows.label[rows.corpora.number == number]
        counts = (np.bincount(own, minlength=len(EMOTIONS)) + 1) * present
        lines.append(tuple(counts / counts.sum()))
    return tuple(lines)
