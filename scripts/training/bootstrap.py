"""Which of two answerers is better on the same rows: the paired bootstrap of the difference of their row scores.

Source: Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979); Koehn, "Statistical Significance Tests for Machine
Translation Evaluation" (2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2000
CONFIDENCE = 0.95
MAX_DRAWS = 4_000_000
"""Numbers that are drawn at a time: 32 MB of them."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better the first is, with its 95 % interval; the larger a row score, the better."""

    mean: float
    low: float
    high: float
    rows: int

    @property
    def is_better(self) -> bool:
        return self.low > 0

    @property
    def is_worse(self) -> bool:
        return self.high < 0

    def as_json(self) -> dict[str, Any]:
        return {"mean": round(self.mean, 4), "low": round(self.low, 4), "high": round(self.high, 4), "rows": self.rows}


def paired_difference(scores: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> Difference | None:
    """The mean of `scores - others` over rows that are drawn anew with replacement, many times, always the same way.

    Args:
        scores: of the first, `TrainingTask.row_scores`: (rows,).
        others: of the second, in the same order; (rows,).

    Returns:
        None where a score is no number, or there are fewer than two rows.
    """
    differences = np.asarray(scores, np.float64) - np.asarray(others, np.float64)
    count = len(differences)
    if count < 2 or not np.isfinite(differences).all():
        return None
    result = bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",  # the others are undefined where all rows differ alike
        batch=max(1, MAX_DRAWS // count),
        rng=np.random.default_rng(0),
    )
    low, high = result.confidence_interval
    return Difference(float(differences.mean()), float(low), float(high), count)
