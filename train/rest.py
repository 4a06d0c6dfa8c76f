"""Knowing the speaker: answers are read against how the person looks and sounds at rest.

A second setting, reported apart: it knows something of the people it is tested on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.spec import EMOTIONS
from train.confidence import SMALLEST_PROBABILITY, scale
from train.table import Rows

SHARE = 0.25
"""Part of a person's deviation at rest that is taken away. Chosen on six validation actors, with
references of two and of five others: more helps only where the reference is of many."""

STAMP = "knows each speaker at rest: not actor-independent"


def levels(
    probabilities: Mapping[str, NDArray[np.float32]], weights: NDArray[np.float64] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Mean logarithm of each head's probabilities, shape (clips, 8), over clips: shape (8,)."""
    return {
        head: np.average(
            np.log(np.maximum(values.astype(np.float64), SMALLEST_PROBABILITY)),
            axis=0,
            weights=weights,
        )
        for head, values in probabilities.items()
    }


def actor_levels(
    rows: Rows, probabilities: Mapping[str, NDArray[np.float32]]
) -> dict[int, dict[str, NDArray[np.float64]]]:
    """Levels of each actor's neutral clips; an actor without any is left out."""
    neutral = rows.label == EMOTIONS.index("neutral")
    return {
        int(actor): levels({head: values[chosen] for head, values in probabilities.items()})
        for actor in np.unique(rows.actor[neutral])
        for chosen in [neutral & (rows.actor == actor)]
    }


def reference(
    rows: Rows, probabilities: Mapping[str, NDArray[np.float32]]
) -> dict[str, list[float]]:
    """Levels of people at rest in general: the mean over actors, empty without neutral clips.

    Parameters
    ----------
    rows
        Clips of the validation actors: what the network says of people it has learned from is
        surer than what it says of new ones.
    probabilities
        The network's own, without temperatures, of each head, shape (rows, 8).
    """
    of_actors = list(actor_levels(rows, probabilities).values())
    return {
        head: np.mean([of_actor[head] for of_actor in of_actors], axis=0).tolist()
        for head in (probabilities if of_actors else ())
    }


def relate(
    probabilities: Mapping[str, NDArray[np.float32]],
    person: Mapping[str, NDArray[np.float64]],
    general: Mapping[str, list[float]],
) -> dict[str, NDArray[np.float32]]:
    """Take away what a person's answers at rest have beyond those of people in general.

    Parameters
    ----------
    probabilities
        The network's own, of each head, shape (rows, 8), of one person.
    person, general
        Levels at rest, see :func:`levels` and :func:`reference`. A head that lacks either stays
        as it is.
    """
    related = dict(probabilities)
    for head in probabilities.keys() & person.keys() & general.keys():
        deviation = person[head] - np.asarray(general[head])
        values = probabilities[head] * np.exp(-SHARE * deviation)
        related[head] = scale(values, 1.0).astype(np.float32)
    return related


def relate_actors(
    rows: Rows, probabilities: Mapping[str, NDArray[np.float32]], general: Mapping[str, list[float]]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float32]]]:
    """Relate every actor's clips to the actor's own neutral ones.

    Returns
    -------
    scored : ndarray of bool, shape (rows,)
        False where a clip was calibrated with, or its actor has no neutral clip.
    probabilities : dict of str to ndarray
        Of each head, shape (rows, 8).
    """
    related = {head: values.copy() for head, values in probabilities.items()}
    scored = np.zeros(len(rows), bool)
    for actor, person in actor_levels(rows, probabilities).items():
        chosen = rows.actor == actor
        own = relate({head: values[chosen] for head, values in related.items()}, person, general)
        for head, values in own.items():
            related[head][chosen] = values
        scored |= chosen & (rows.label != EMOTIONS.index("neutral"))
    return scored, related
