"""Calibration: a temperature under which scores are probabilities of being right, and how far they are from that.

Source: Guo et al., "On Calibration of Modern Neural Networks" (2017).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

BINS = 10
SMALLEST = 1e-6


def fit_temperature(scores: Mapping[float, np.ndarray], right: np.ndarray) -> float:
    """Of the temperatures tried, the one whose scores have the least log loss.

    Args:
        scores: temperature to scores (rows,) between 0 and 1.
        right: (rows,) 1 where the answer was right, else 0.
    """
    return min(scores, key=lambda one: _log_loss(scores[one], right))


def expected_calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between score and share of right answers over ten bins of equal width, weighted by their rows."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    gaps = [abs(float(right[bins == one].sum() - scores[bins == one].sum())) for one in range(BINS)]
    return sum(gaps) / len(scores)


def halves(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Indices of two random halves, as (fit, measure) both ways; one row is in both."""
    if count < 2:
        return [(np.arange(count), np.arange(count))]
    order = list(range(count))
    random.Random(seed).shuffle(order)
    one, other = np.array(order[: count // 2]), np.array(order[count // 2 :])
    return [(one, other), (other, one)]


def _log_loss(scores: np.ndarray, right: np.ndarray) -> float:
    bounded = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return float(-(right * np.log(bounded) + (1 - right) * np.log(1 - bounded)).mean())
