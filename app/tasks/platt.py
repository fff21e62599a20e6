"""Platt scaling: a score becomes the probability that the answer is right, where no temperature makes it one.

Platt, "Probabilistic Outputs for Support Vector Machines" (1999): the log-odds of the probability are a line over those of the
score. Here the probability may have limits besides, as a psychometric function has them for guesses and lapses (Wichmann and
Hill, 2001): some of the least likely answers are right, and some of the likeliest are not what an annotator wrote. It rises, so
that no answer changes places with another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

Slope = Annotated[float, Field(ge=1e-6)]
Floor = Annotated[float, Field(ge=0, le=0.5)]
Ceiling = Annotated[float, Field(gt=0.5, le=1)]
SMALLEST = 1e-9
"""Scores are kept so far from 0 and 1 where log-odds are made of them."""


@dataclass(frozen=True, slots=True)
class PlattScaling:
    """The identity by default."""

    slope: float = 1.0
    """Above 0."""
    intercept: float = 0.0
    floor: float = 0.0
    ceiling: float = 1.0
    """The probability lies between them."""

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Probabilities of scores between 0 and 1, in any shape."""
        if self == PlattScaling():
            return np.asarray(scores, np.float64)
        shares = 1 / (1 + np.exp(-(self.slope * log_odds(scores) + self.intercept)))
        probabilities: NDArray[np.float64] = self.floor + (self.ceiling - self.floor) * shares
        return probabilities

    def inverse(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Scores of probabilities between the floor and the ceiling."""
        if self == PlattScaling():
            return np.asarray(probabilities, np.float64)
        shares = (np.asarray(probabilities, np.float64) - self.floor) / (self.ceiling - self.floor)
        scores: NDArray[np.float64] = 1 / (1 + np.exp(-(log_odds(shares) - self.intercept) / self.slope))
        return scores


def log_odds(scores: ArrayLike) -> NDArray[np.float64]:
    """Of scores between 0 and 1, in any shape."""
    bounded = np.clip(np.asarray(scores, np.float64), SMALLEST, 1 - SMALLEST)
    odds: NDArray[np.float64] = np.log(bounded) - np.log1p(-bounded)
    return odds
