"""Platt scaling: a score becomes the probability that the answer is right, where no temperature makes it one.

Platt, "Probabilistic Outputs for Support Vector Machines" (1999): the log-odds of the probability are a line over those of the
score. It rises, so that no answer changes places with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

Slope = Annotated[float, Field(ge=1e-6)]
SMALLEST = 1e-9
"""Scores are kept so far from 0 and 1 where log-odds are made of them."""


@dataclass(frozen=True, slots=True)
class PlattScaling:
    """The identity by default."""

    slope: float = 1.0
    """Above 0."""
    intercept: float = 0.0

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of scores between 0 and 1, in any shape."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return np.asarray(scores, np.float64)
        probabilities: NDArray[np.float64] = 1 / (1 + np.exp(-(self.slope * log_odds(scores) + self.intercept)))
        return probabilities


def log_odds(scores: ArrayLike) -> NDArray[np.float64]:
    """Of scores between 0 and 1, in any shape."""
    bounded = np.clip(np.asarray(scores, np.float64), SMALLEST, 1 - SMALLEST)
    odds: NDArray[np.float64] = np.log(bounded) - np.log1p(-bounded)
    return odds
