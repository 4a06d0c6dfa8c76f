"""Answers over time without flicker: a low-pass filter, then a label that does not jump."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.spec import EMOTIONS

UNSURE = "unsure"
"""What is said instead of an emotion that is not probable enough."""

SECONDS = 1.0
"""Default time constant."""

MARGIN = 0.05
"""By which another emotion has to be more probable before the label changes."""


class Smoother:
    r"""Filters the answers about one face.

    The probabilities p of the answers at times t become

    .. math:: s_n = s_{n-1} + (1 - e^{-(t_n - t_{n-1}) / \tau}) (p_n - s_{n-1}),

    a low-pass filter of first order whose time constant is tau. The label is the most probable
    emotion of s, but the last one stays until another is more probable by ``MARGIN``.

    Parameters
    ----------
    seconds
        The time constant; 0 leaves the answers as they are, without a margin.
    min_confidence
        A label that is less probable is ``UNSURE``.
    """

    def __init__(self, seconds: float = SECONDS, min_confidence: float = 0.0) -> None:
        self.seconds, self.min_confidence = seconds, min_confidence
        self._time = math.nan
        self._state: NDArray[np.float32] | None = None
        self._label = -1

    def __call__(
        self, time: float, probabilities: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], str]:
        """Take the next answer.

        Parameters
        ----------
        time
            Middle of its window in seconds; an earlier one than before changes nothing.
        probabilities
            Shape (8,).

        Returns
        -------
        smoothed : ndarray of float32, shape (8,)
        label : str
            An emotion, or ``UNSURE``.
        """
        if self._state is None or not self.seconds:
            self._state = probabilities
        else:
            # A stream goes back a little where frames begin to come after sound alone.
            part = -math.expm1(-max(0.0, time - self._time) / self.seconds)
            self._state = self._state + np.float32(part) * (probabilities - self._state)
        self._time = time
        best = int(self._state.argmax())
        margin = MARGIN if self.seconds else 0.0
        if self._label < 0 or self._state[best] > self._state[self._label] + margin:
            self._label = best
        if self._state[self._label] < self.min_confidence:
            return self._state, UNSURE
        return self._state, EMOTIONS[self._label]


def named(probabilities: NDArray[np.float32], min_confidence: float = 0.0) -> str:
    """Name the most probable emotion, or ``UNSURE`` where it is less probable than asked for.

    Where all are as probable there is none.
    """
    best = int(probabilities.argmax())
    known = probabilities[best] - probabilities.min() > 1e-6
    return EMOTIONS[best] if known and probabilities[best] >= min_confidence else UNSURE
