"""Scores of classes for many items at once, and the temperature under which they are probabilities of being right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from app.tasks.text_classification.task import OUTPUT
from scripts.tasks.spec import Calibration
from scripts.training.data import Example
from scripts.training.evaluation import Predictions
from scripts.training.metrics import calibration_figures, fit_temperature, halves, selective_accuracy

TEMPERATURES = np.geomspace(0.5, 4.0, 43)
MIN_ROWS = 100
"""Of fewer held-out rows a temperature says more about chance than about the model."""


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
    table = _table(logits, truth, multi)
    scores = np.zeros_like(logits)
    for fitted, measured in halves(len(logits)):
        temperature = fit_temperature(
            {key: entry[fitted].ravel() for key, entry in table.items()}, _right(truth, multi)[fitted].ravel()
        )
        scores[measured] = scores_of(logits[measured], temperature, multi)
    return scores


def fit(logits: np.ndarray, truth: np.ndarray, multi: bool) -> Calibration:
    """A temperature for all of them; none where there are too few, or where it makes rows worse that it was not fitted on."""
    if len(logits) < MIN_ROWS:
        return Calibration()
    plain, fitted = scores_of(logits, 1.0, multi), calibrated(logits, truth, multi)
    if log_loss(fitted, truth, multi) >= log_loss(plain, truth, multi):
        selective = _selective(plain, truth, multi)
        return Calibration(metrics={"selective": selective} if selective else {})
    table = {key: entry.ravel() for key, entry in _table(logits, truth, multi).items()}
    temperature = round(fit_temperature(table, _right(truth, multi).ravel()), 4)
    selective = _selective(scores_of(logits, temperature, multi), truth, multi)
    before, after = (decisions(scores, truth, multi) for scores in (plain, fitted))
    return Calibration({"temperature": temperature}, calibration_figures(temperature, before, after, len(logits), selective))


def _selective(scores: np.ndarray, truth: np.ndarray, multi: bool) -> dict[str, Any]:
    """For the evaluation; where an item may have several labels, each has a threshold of its own instead."""
    return {} if multi else selective_accuracy(*decisions(scores, truth, multi))


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


def _table(logits: np.ndarray, truth: np.ndarray, multi: bool) -> dict[float, np.ndarray]:
    """By temperature the scores whose log loss is that of the items: of the right label, or of all where there are several."""
    scores = {float(entry): scores_of(logits, float(entry), multi) for entry in TEMPERATURES}
    return scores if multi else {key: (score * truth).sum(-1, keepdims=True) for key, score in scores.items()}


def _right(truth: np.ndarray, multi: bool) -> np.ndarray:
    return truth if multi else np.ones((len(truth), 1))
