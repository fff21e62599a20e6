"""Thresholds of labels of which a text may have several: fitted on held-out rows, and measured on others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from app.tasks.text_classification.task import DEFAULT_THRESHOLD
from scripts.training.calibration import halves

MIN_LABEL_ROWS = 5
"""Of a label with fewer texts the default threshold is kept: another would fit these texts alone."""


def fit(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each label the threshold of the best F1, to four digits: (labels,). Scores and truth: (rows, labels)."""
    best = [_best(scores[:, label], truth[:, label]) for label in range(scores.shape[1])]
    return np.array([float(f"{threshold:.4g}") for threshold in best])


def evaluate(scores: np.ndarray, truth: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Thresholds fitted on all rows, for use; their figures are of each half of the rows under thresholds of the other half."""
    predicted = np.zeros_like(truth)
    for fitted, measured in halves(len(scores)):
        predicted[measured] = scores[measured] >= fit(scores[fitted], truth[fitted])
    at_half = (scores > DEFAULT_THRESHOLD).astype(int)
    per_label = zip(labels, fit(scores, truth), _f1(truth, at_half), _f1(truth, predicted), truth.sum(0), strict=True)
    return {
        "per_label": [
            {
                "label": label,
                "threshold": float(threshold),
                "f1_at_half": round(float(before), 4),
                "f1": round(float(after), 4),
                "rows": int(count),
            }
            for label, threshold, before, after, count in per_label
        ],
        "macro_f1_at_half": round(float(_f1(truth, at_half).mean()), 4),
        "macro_f1": round(float(_f1(truth, predicted).mean()), 4),
        "accuracy_at_half": round(float((truth == at_half).all(-1).mean()), 4),
        "accuracy": round(float((truth == predicted).all(-1).mean()), 4),
        "method": "F1 of rows that the threshold was not fitted on: each half of the rows is judged by the other's",
    }


def measure(scores: np.ndarray, truth: np.ndarray, published: Mapping[str, float]) -> dict[str, Any]:
    """What a model's own thresholds reach on rows that they were not fitted on.

    Args:
        scores: (rows, labels).
        truth: 1 where a label is right: (rows, labels).
        published: label to threshold, in the order of the labels.
    """
    predicted = (scores >= np.array(list(published.values()))).astype(int)
    f1 = _f1(truth, predicted)
    return {
        "f1": {label: round(float(value), 4) for label, value in zip(published, f1, strict=True)},
        "macro_f1": round(float(f1.mean()), 4),
        "accuracy": round(float((truth == predicted).all(-1).mean()), 4),
    }


def _best(scores: np.ndarray, truth: np.ndarray) -> float:
    if truth.sum() < MIN_LABEL_ROWS:
        return DEFAULT_THRESHOLD
    precision, recall, cuts = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1[:-1].argmax())  # the last point has no threshold
    below = scores[scores < cuts[best]]
    return float((cuts[best] + below.max()) / 2) if len(below) else float(cuts[best])  # between two scores, on neither


def _f1(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Of each label: (labels,)."""
    figures: np.ndarray = 2 * (truth * predicted).sum(0) / np.maximum(truth.sum(0) + predicted.sum(0), 1)
    return figures
