"""What reports of several tasks have in common: metrics by length of the text, the words behind an answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.core.errors import HooperError
from app.tasks.attribution import METHODS, Spending
from scripts.tasks.spec import ReportInput

BUDGET = Spending(2048)
MAX_ERRORS, NUM_EXPLAINED = 20, 8
"""Worst errors in a report, and for how many of them it is said which words misled the model."""
MAX_GROUPS = 6
MIN_ROWS = 10
"""Of fewer rows a mean says little."""
Z = 1.96
"""Of a normal distribution 95 % lie within so many standard deviations."""


def by_length(lengths: Sequence[int], values: Sequence[float], is_share: bool) -> list[dict[str, Any]]:
    """Means over up to six groups of about as many rows each, from the shortest texts to the longest.

    Args:
        lengths: in tokens.
        values: of each row, the larger the better.
        is_share: whether a mean of them is a share, of which a Wilson interval tells more; else a normal one is given.
    """
    sizes, measured = np.array(lengths), np.array(values, np.float64)
    groups = max(1, min(MAX_GROUPS, len(sizes) // MIN_ROWS))
    edges = np.unique(np.quantile(sizes, np.linspace(0, 1, groups + 1)[1:], method="inverted_cdf"))
    numbers = np.searchsorted(edges, sizes)  # texts of one length stay together
    rows = []
    for number in range(len(edges)):
        inside = numbers == number
        mean, low, high = _interval(measured[inside], is_share)
        rows.append(
            {
                "tokens": [int(sizes[inside].min()), int(sizes[inside].max())],
                "rows": int(inside.sum()),
                "mean": round(mean, 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return rows


def _interval(values: np.ndarray, is_share: bool) -> tuple[float, float, float]:
    """Mean and its 95 % interval."""
    count, mean = len(values), float(values.mean())
    if is_share:
        return (mean, *wilson(mean, count))
    half = Z * float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else 0.0
    return mean, mean - half, mean + half


def wilson(share: float, count: int) -> tuple[float, float]:
    """Where the true share lies with 95 % confidence (Wilson, "Probable inference", 1927)."""
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def words_for(evaluated: ReportInput, index: int, target: str | None) -> list[dict[str, Any]]:
    """The item's words with their weights in log-odds of the target; none where it cannot be explained, or where the
    model is gone.

    Args:
        evaluated: whose item.
        index: its number.
        target: the label or answer; None: the model's own.
    """
    item, encoded = evaluated.examples[index].item, evaluated.predictions.encoded[index]
    if evaluated.runner is None:
        return []
    try:
        passage = evaluated.task.passage(item, encoded, evaluated.predictions.outputs[index], target)
    except HooperError:
        return []
    search = METHODS["shapley"](passage, BUDGET)
    wave = next(search)
    while True:
        outputs = evaluated.runner.run_rows([passage.without(keep) for keep in wave])
        try:
            wave = search.send([passage.log_odds(output) for output in outputs])
        except StopIteration as end:
            return [
                {"field": word.field, "start": word.start, "end": word.end, "weight": round(float(weight), 4)}
                for word, weight in zip(passage.words, end.value.weights, strict=True)
            ]
