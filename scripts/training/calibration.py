"""Calibration: what makes a score the probability of being right, how far it is from that, and which scores may be trusted.

Whatever is fitted here is measured on rows that it was not fitted on: on either half of them, fitted on the other. Sources.
Temperature and expected calibration error: Guo et al., "On Calibration of Modern Neural Networks" (2017). A line over log-odds:
Platt, "Probabilistic Outputs for Support Vector Machines" (1999). Trusted scores: El-Yaniv and Wiener, "On the Foundations of
Noise-free Selective Classification" (2010).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from sklearn.linear_model import LogisticRegression

from app.tasks.platt import PlattScaling, log_odds
from scripts.tasks.spec import Calibration

BINS = 15
WANTED_ACCURACY = 0.95
"""Of the answers that are kept where others are left to a person."""
MIN_ROWS = 100
"""Of fewer held-out rows a temperature says more about chance than about the model."""
SMALLEST = 1e-6
TEMPERATURES = (0.25, 8.0)
"""Between these a temperature is looked for."""
METHOD = "fitted on one half of the held-out rows, error measured on the other, both ways"
NUM_DRAWS = 100
SCORE_OPTIONS = tuple(f"score_{entry.name}" for entry in fields(PlattScaling))
"""Task options of a scaling of scores."""

Parts = Sequence[tuple[np.ndarray, np.ndarray]]
"""Pairs of what something is fitted on and what it is measured on, as numbers."""


@dataclass(frozen=True)
class Decisions:
    """What a model decided over some rows: one answer to each, or any number."""

    scores: np.ndarray
    """Between 0 and 1: (decisions,)."""
    right: np.ndarray
    """1 where the answer was right, else 0: (decisions,)."""
    rows: np.ndarray
    """The number of the row that each is of: (decisions,)."""
    sources: Sequence[str] = field(repr=False)
    """Where each row is from."""

    @property
    def parts(self) -> Parts:
        """Two halves of the decisions, both ways; those of one row are on the same side."""
        return [
            (np.flatnonzero(np.isin(self.rows, fitted)), np.flatnonzero(np.isin(self.rows, measured)))
            for fitted, measured in halves(len(self.sources))
        ]


def fit_temperature(loss: Callable[[float], float]) -> float:
    """The temperature with the least loss, to four digits."""
    low, high = map(math.log, TEMPERATURES)
    return round(math.exp(minimize_scalar(lambda log: loss(math.exp(log)), bounds=(low, high), method="bounded").x), 4)


def fit_platt(scores: np.ndarray, right: np.ndarray) -> PlattScaling:
    """The line of the least log loss; the identity where there is none that rises. Scores and whether they were right:
    (decisions,) each."""
    if len(np.unique(right)) < 2:
        return PlattScaling()
    fitted = LogisticRegression(C=1e6).fit(log_odds(scores)[:, None], right)
    slope, intercept = round(float(fitted.coef_[0, 0]), 4), round(float(fitted.intercept_[0]), 4)
    return PlattScaling(slope, intercept) if slope > 0 else PlattScaling()


def fit_curve(scores: np.ndarray, right: np.ndarray) -> PlattScaling:
    """A line with a floor and a ceiling, of the least log loss; the arguments are those of `fit_platt`."""
    line = fit_platt(scores, right)
    if line == PlattScaling():
        return line
    begin = [line.slope, line.intercept, 0.02, 0.98]
    bounds = [(1e-3, None), (None, None), (0.0, 0.5), (0.8, 1.0)]
    found = minimize(lambda values: log_loss(PlattScaling(*values)(scores), right), begin, method="L-BFGS-B", bounds=bounds)
    return PlattScaling(*(round(float(value), 4) for value in found.x))


def scale_scores(decisions: Decisions) -> Calibration:
    """Task options `score_slope`, `score_intercept` and perhaps `score_floor` and `score_ceiling`, for a task whose scores are
    of single answers, fitted on all rows. None where rows are too few, or where they make rows worse that they were not fitted
    on."""
    num_rows = len(decisions.sources)
    if num_rows < MIN_ROWS or not len(decisions.scores):
        return Calibration(metrics=too_few(num_rows))
    best, options, served = decisions.scores, {}, decisions.scores
    for fit in (fit_platt, fit_curve):
        crossed = np.zeros(len(decisions.scores))
        for fitted, measured in decisions.parts:
            crossed[measured] = fit(decisions.scores[fitted], decisions.right[fitted])(decisions.scores[measured])
        if log_loss(crossed, decisions.right) < log_loss(best, decisions.right):
            scaling = fit(decisions.scores, decisions.right)
            best, options, served = crossed, score_options(scaling), scaling(decisions.scores)
    return Calibration(options, calibration_figures(options, decisions, best, served))


def score_options(scaling: PlattScaling) -> dict[str, float]:
    """Task options of a scaling of scores: those that are not the identity's."""
    return {
        f"score_{entry.name}": getattr(scaling, entry.name)
        for entry in fields(scaling)
        if getattr(scaling, entry.name) != entry.default
    }


def scaling_of(task_options: Mapping[str, Any]) -> PlattScaling:
    """The scaling of scores that task options say."""
    return PlattScaling(
        **{entry.name: task_options.get(f"score_{entry.name}", entry.default) for entry in fields(PlattScaling)}
    )


def too_few(num_rows: int) -> dict[str, Any]:
    """What evaluation.json says where nothing was fitted."""
    return {"rows": num_rows, "rows_wanted": MIN_ROWS}


def calibration_figures(
    options: Mapping[str, Any], before: Decisions, crossed: np.ndarray, served: np.ndarray, is_selective: bool = True
) -> dict[str, Any]:
    """What evaluation.json says of what was fitted.

    Args:
        options: that was fitted on all rows; empty: nothing helped.
        before: scores without it.
        crossed: scores under what was fitted on the other half of the rows: (decisions,).
        served: scores under `options`: (decisions,).
        is_selective: whether one score may say from where on answers are trusted.
    """
    after = replace(before, scores=crossed)
    figures = {
        **options,
        "expected_calibration_error_before": round(expected_calibration_error(before.scores, before.right), 4),
        "expected_calibration_error": round(expected_calibration_error(after.scores, after.right), 4),
        "expected_calibration_error_by_chance": round(_error_by_chance(after.scores), 4),
        "rows": len(before.sources),
        "by_source": _by_source(after),
        "bins": reliability(after.scores, after.right),
        "method": METHOD,
    }
    return {**figures, "selective": selective_accuracy(served, before.right, before.parts)} if is_selective else figures


def _by_source(decisions: Decisions) -> dict[str, Any]:
    """The error of each source by itself."""
    sources = np.array(decisions.sources, object)[decisions.rows]
    return {
        str(source): {
            "expected_calibration_error": round(
                expected_calibration_error(decisions.scores[sources == source], decisions.right[sources == source]), 4
            ),
            "answers": int((sources == source).sum()),
        }
        for source in dict.fromkeys(sources)
    }


def expected_calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean distance between score and share of right answers over fifteen bins of equal width, weighted by their rows."""
    bins = _bins(scores)
    gaps = np.bincount(bins, right, BINS) - np.bincount(bins, scores, BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _error_by_chance(scores: np.ndarray) -> float:
    """The mean error of so many answers that are right as often as their scores say."""
    generator = np.random.default_rng(0)
    draws = [(generator.random(len(scores)) < scores).astype(float) for _ in range(NUM_DRAWS)]
    return float(np.mean([expected_calibration_error(scores, right) for right in draws]))


def reliability(scores: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    """Mean score and share of right answers in each of the bins that has any."""
    numbers = _bins(scores)
    return [
        {
            "from": round(number / BINS, 4),
            "rows": int(inside.sum()),
            "score": round(float(scores[inside].mean()), 4),
            "right": round(float(right[inside].mean()), 4),
        }
        for number in range(BINS)
        for inside in [numbers == number]
        if inside.any()
    ]


def _bins(scores: np.ndarray) -> np.ndarray:
    """The number of each score's bin."""
    bins: np.ndarray = np.minimum((scores * BINS).astype(int), BINS - 1)
    return bins


def halves(count: int, seed: int = 0) -> Parts:
    """Indices of two random halves, as (fit, measure) both ways; one row is in both."""
    if count < 2:
        return [(np.arange(count), np.arange(count))]
    order = list(range(count))
    random.Random(seed).shuffle(order)
    first, second = np.array(order[: count // 2]), np.array(order[count // 2 :])
    return [(first, second), (second, first)]


def threshold_for(scores: np.ndarray, right: np.ndarray, wanted: float = WANTED_ACCURACY) -> float | None:
    """The lowest score from which on at least the share `wanted` of the answers is right; None where there is none. The share
    must be above it by one standard error: the lowest of many scores that seem good enough is there by luck.

    Args:
        scores: (rows,) of the answers.
        right: (rows,) 1 where the answer was right, else 0.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.arange(1, len(order) + 1)
    accuracy = np.cumsum(right[order]) / kept - np.sqrt(wanted * (1 - wanted) / kept)
    is_last_of_score = np.append(scores[order][:-1] > scores[order][1:], True)  # equal scores are kept together
    enough = np.flatnonzero(is_last_of_score & (accuracy >= wanted))
    return float(scores[order[enough[-1]]]) if len(enough) else None


def selective_accuracy(
    scores: np.ndarray, right: np.ndarray, parts: Parts | None = None, wanted: float = WANTED_ACCURACY
) -> dict[str, Any]:
    """What is kept, and how much of it is right, where answers below a score are not taken. The score is fitted on one half of
    the rows and the figures are measured on the other, both ways; the one that is told is fitted on all: None where no score
    has enough right answers above it."""
    threshold = threshold_for(scores, right, wanted)
    parts = halves(len(scores)) if parts is None else parts
    by_half = [(threshold_for(scores[fitted], right[fitted], wanted), measured) for fitted, measured in parts]
    kept = [row for least, measured in by_half if least is not None for row in measured[scores[measured] >= least]]
    if threshold is None or not kept:
        return {"wanted": wanted, "score": None, "rows": len(scores)}
    return {
        "wanted": wanted,
        "score": math.floor(threshold * 10_000) / 10_000,
        "accuracy": round(float(right[kept].mean()), 4),
        "share": round(len(kept) / len(scores), 4),
        "rows": len(scores),
    }


def log_loss(scores: np.ndarray, right: np.ndarray) -> float:
    """Mean cross entropy in nats of scores and whether they were right: (decisions,) each."""
    bounded = np.clip(scores, SMALLEST, 1 - SMALLEST)
    return float(-(right * np.log(bounded) + (1 - right) * np.log(1 - bounded)).mean())
