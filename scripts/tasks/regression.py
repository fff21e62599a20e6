"""Regression offline: a number for each text or pair. What of text classification is different then stands here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.core.errors import InvalidSettings
from app.data.cells import is_missing, plain
from app.tasks.text_classification.task import Classification
from scripts.training.data import Dataset, Example
from scripts.training.recipe import Recipe

LABEL = "score"
"""What the one output is called in the service's answers."""
NUMBER_NAMES = ("score", "value", "rating", "similarity", "stars", "target", "label")
HALF = 0.5
"""In standard deviations of the training data: so near the right number counts as right for the progress bar."""


def number(cell: Any) -> float | None:
    """The number in a cell; none where there is none."""
    try:
        return read_number(cell)
    except ValueError:
        return None


def read_number(cell: Any) -> float:
    """
    Raises:
        ValueError: there is none, in words that go before "in column …".
    """
    cell = plain(cell)
    if is_missing(cell) or isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise ValueError("no number")
    try:
        found = float(cell.replace("_", " ") if isinstance(cell, str) else cell)  # Python would take 1_000 for a thousand
    except ValueError:
        comma = "; decimals are written with a point, and thousands without a sign" if "," in str(cell) else ""
        raise ValueError(f"no number ({str(cell)[:20]!r}{comma})") from None
    if not math.isfinite(found):
        raise ValueError(f"no finite number ({str(cell)[:20]!r})")
    return found


def task_options(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """The model learns numbers of mean 0 and deviation 1; the service turns them back.

    Raises:
        InvalidSettings: all numbers are the same, or an option is for labels alone.
    """
    if recipe.label_smoothing:
        raise InvalidSettings(f"label_smoothing is {recipe.label_smoothing}, but numbers cannot be smoothed; leave it out")
    values = np.array([one.target for one in dataset.train])
    if np.ptp(values) == 0:
        raise InvalidSettings(f"every training row has the number {values[0]:g}; two different ones are needed")
    return {
        "labels": [LABEL],
        "problem_type": "regression",
        "scale": float(f"{values.std():.6g}"),
        "offset": float(f"{values.mean():.6g}"),
    }


def note(dataset: Dataset) -> str:
    values = np.array([one.target for one in dataset.train])
    return f"numbers from {values.min():g} to {values.max():g}, {values.mean():.4g} on average"


def value_of(answer: Classification) -> float:
    return answer.labels[0].score


def figures(answers: Sequence[Classification], examples: Sequence[Example]) -> dict[str, Any]:
    """Root mean squared and mean absolute error in the data's own unit, and both correlations; the same per source."""
    given, right = np.array([value_of(one) for one in answers]), np.array([one.target for one in examples])
    sources: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(examples):
        sources[one.source].append(index)
    return {
        "headline": _figures(given, right),
        "by_source": {source: _figures(given[rows], right[rows]) for source, rows in sources.items()},
    }


def _figures(given: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    off = given - right
    return {
        "rmse": round(float(np.sqrt((off**2).mean())), 4),
        "mae": round(float(np.abs(off).mean()), 4),
        "pearson": round(_correlation(given, right), 4),
        "spearman": round(_correlation(_ranks(given), _ranks(right)), 4),
        "rows": len(right),
    }


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """0 where one of them does not vary."""
    return float(np.corrcoef(one, other)[0, 1]) if len(one) > 1 and np.ptp(one) > 0 and np.ptp(other) > 0 else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
