"""From which score on a label is taken to be there, for texts that may have several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from scripts.training.metrics import halves

USUAL = 0.5
FEWEST_ROWS = 5
"""Of a label with fewer texts the usual threshold is kept: another would fit these texts alone."""


def best_thresholds(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each label that of the best F1: (labels,). Scores and truth: (rows, labels)."""
    return np.array([_best(scores[:, label], truth[:, label]) for label in range(scores.shape[1])])


def thresholds(scores: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Fitted on all rows for use, and on the other half of the rows each time for the figures."""
    chosen = best_thresholds(scores, truth)
    taken = np.zeros_like(truth)
    for fitted, measured in halves(len(scores)):
        taken[measured] = scores[measured] >= best_thresholds(scores[fitted], truth[fitted])
    usual = (scores > USUAL).astype(int)
    per_label = zip(labels, chosen, _f1(truth, usual), _f1(truth, taken), truth.sum(0), strict=True)
    return {
        "per_label": [
            {
                "label": label,
                "threshold": round(float(value), 4),
                "f1_at_half": round(float(before), 4),
                "f1": round(float(after), 4),
                "rows": int(count),
            }
            for label, value, before, after, count in per_label
        ],
        "macro_f1_at_half": round(float(_f1(truth, usual).mean()), 4),
        "macro_f1": round(float(_f1(truth, taken).mean()), 4),
        "method": "F1 of rows that the threshold was not fitted on: each half of the rows is judged by the other's",
    }


def _best(scores: np.ndarray, truth: np.ndarray) -> float:
    if truth.sum() < FEWEST_ROWS:
        return USUAL
    precision, recall, cuts = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())  # the last point has no threshold
    below = scores[scores < cuts[best]]
    return float((cuts[best] + below.max()) / 2) if len(below) else float(cuts[best])  # between two scores, on neither


def _f1(truth: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Of each label: (labels,)."""
    figures: np.ndarray = 2 * (truth * taken).sum(0) / np.maximum(truth.sum(0) + taken.sum(0), 1)
    return figures
