"""Scores of classes for many items at once, and the temperature under which they are probabilities of being right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from app.tasks.text_classification.task import OUTPUT
from scripts.tasks.spec import Calibration
from scripts.training.calibration import MIN_ROWS, Decisions, calibration_figures, fit_temperature, halves, too_few
from scripts.training.data import Example
from scripts.training.evaluation import Predictions


def logits_of(predictions: Predictions) -> np.ndarray:
    """Of each item, those of its windows averaged by their tokens, as the service does: (items, labels)."""
    return np.array(
        [
            np.average([output[OUTPUT] for output in outputs], axis=0, weights=[row.num_tokens for row in encoded.rows])
            for encoded, outputs in zip(predictions.encoded, predictions.outputs, strict=True)
        ],
        np.float64,
    )


def scores_of(logits: np.ndarray, temperature: float, multi: bool) -> np.ndarray:
    """Scores as the service gives them: (items, labels)."""
    scores: np.ndarray = expit(logits / temperature) if multi else softmax(logits / temperature, axis=-1)
    return scores


def truth_of(examples: Sequence[Example], task_options: Mapping[str, Any]) -> np.ndarray:
    """1 where a label is right, else 0: (items, labels)."""
    index = {label: number for number, label in enumerate(task_options["labels"])}
    indicators = np.zeros((len(examples), len(index)), np.int64)
    for line, example in enumerate(examples):
        for label in example.target if isinstance(example.target, tuple) else (example.target,):
            indicators[line, index[label]] = 1
    return indicators


def decisions(scores: np.ndarray, truth: np.ndarray, multi: bool) -> tuple[np.ndarray, np.ndarray]:
    """What calibration is about: the best score of each item, or every score where an item may have several labels; and
    whether it was right: (decisions,) twice."""
    if multi:
        return scores.ravel(), truth.ravel()
    best = scores.argmax(-1)
    return scores.max(-1), np.take_along_axis(truth, best[:, None], 1)[:, 0]


def calibrated(logits: np.ndarray, truth: np.ndarray, multi: bool) -> np.ndarray:
    """Scores under a temperature that was fitted on the other half of the items each time: (items, labels)."""
    scores = np.zeros_like(logits)
    for fitted, measured in halves(len(logits)):
        scores[measured] = scores_of(logits[measured], _temperature(logits[fitted], truth[fitted], multi), multi)
    return scores


def fit(logits: np.ndarray, truth: np.ndarray, multi: bool, sources: Sequence[str]) -> Calibration:
    """A temperature for all of them; none where there are too few, or where it makes rows worse that it was not fitted on.

    Args:
        logits: (items, labels).
        truth: 1 where a label is right: (items, labels).
        multi: whether an item may have several labels; then each has a threshold of its own, and no score is trusted for all.
        sources: where each item is from.
    """
    if len(logits) < MIN_ROWS:
        return Calibration(metrics=too_few(len(logits)))
    plain, crossed = scores_of(logits, 1.0, multi), calibrated(logits, truth, multi)
    options, served = {}, plain
    if log_loss(crossed, truth, multi) < log_loss(plain, truth, multi):
        options = {"temperature": _temperature(logits, truth, multi)}
        served = scores_of(logits, options["temperature"], multi)
    else:
        crossed = plain
    best, right = decisions(plain, truth, multi)
    before = Decisions(best, right, np.arange(len(best)) // (len(best) // len(logits)), sources)
    after, last = (decisions(scores, truth, multi)[0] for scores in (crossed, served))
    return Calibration(options, calibration_figures(options, before, after, last, is_selective=not multi))


def _temperature(logits: np.ndarray, truth: np.ndarray, multi: bool) -> float:
    return fit_temperature(lambda temperature: log_loss(scores_of(logits, temperature, multi), truth, multi))


def losses(scores: np.ndarray, truth: np.ndarray, multi: bool) -> np.ndarray:
    """Cross entropy of each item in nats; where it may have several labels, the mean over them: (items,)."""
    bounded = np.clip(scores, 1e-12, 1 - 1e-12)
    if multi:
        each: np.ndarray = -(truth * np.log(bounded) + (1 - truth) * np.log(1 - bounded)).mean(-1)
        return each
    log_loss: np.ndarray = -np.log((bounded * truth).sum(-1))
    return log_loss


def log_loss(scores: np.ndarray, truth: np.ndarray, multi: bool) -> float:
    return float(losses(scores, truth, multi).mean())
