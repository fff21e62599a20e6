"""When a model should say that the context holds no answer: fitted on held-out questions with and without one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.tasks.question_answering.task import Answers
from scripts.tasks.spec import Calibration
from scripts.training.calibration import MIN_ROWS, Decisions, expected_calibration_error, fit_platt, log_loss, scaling_of
from scripts.training.data import Example
from scripts.training.metrics import f1


def fit(answers: Sequence[Answers], examples: Sequence[Example], options: Mapping[str, Any]) -> Calibration:
    """Task options `no_answer_slope` and `no_answer_intercept`, and how well what is said with `allow_no_answer` is right, on
    rows that they were not fitted on. None where rows are too few, or where they help no other rows.

    Args:
        answers: under no fitted options.
        examples: what they answer.
        options: the scaling of the answers' scores, which compete with `no_answer_score`.
    """
    with_answer, without = balanced(examples)
    if len(without) < MIN_ROWS or len(with_answer) < MIN_ROWS:
        return Calibration()
    numbers = np.array([*with_answer, *without])
    is_none = np.isin(numbers, without).astype(np.float64)
    raw = np.array([answers[number].no_answer_score for number in numbers])
    decisions = Decisions(raw, is_none, np.arange(len(raw)), [examples[number].source for number in numbers])
    crossed = np.zeros(len(raw))
    for fitted, measured in decisions.parts:
        crossed[measured] = fit_platt(raw[fitted], is_none[fitted])(raw[measured])
    if log_loss(crossed, is_none) >= log_loss(raw, is_none):
        return Calibration()
    line = fit_platt(raw, is_none)
    scaling = scaling_of(options)
    best = np.array([answers[number].answers[0].score if answers[number].answers else 0.0 for number in numbers])
    texts = [answers[number].answers[0].answer if answers[number].answers else "" for number in numbers]
    golds = [[gold.text for gold in examples[number].target] for number in numbers]
    overlap = np.array([f1(text, gold) for text, gold in zip(texts, golds, strict=True)])
    return Calibration(
        {"no_answer_slope": line.slope, "no_answer_intercept": line.intercept},
        {
            "no_answer_slope": line.slope,
            "no_answer_intercept": line.intercept,
            "before": _figures(raw, raw > best, is_none, overlap),
            "after": _figures(crossed, crossed > scaling(best), is_none, overlap),
            "rows": len(raw),
        },
    )


def balanced(examples: Sequence[Example]) -> tuple[list[int], list[int]]:
    """Numbers of as many questions with an answer as without, drawn where there are more."""
    with_answer = [number for number, example in enumerate(examples) if example.target]
    without = [number for number, example in enumerate(examples) if not example.target]
    size = min(len(with_answer), len(without))
    draw = random.Random(0)
    return sorted(draw.sample(with_answer, size)), sorted(draw.sample(without, size))


def _figures(scores: np.ndarray, says_none: np.ndarray, is_none: np.ndarray, overlap: np.ndarray) -> dict[str, float]:
    """F1 in percent as SQuAD v2.0 counts it, over all questions and over those of each kind."""
    gained = np.where(is_none == 1, says_none, np.where(says_none, 0.0, overlap))
    return {
        "f1": round(100 * float(gained.mean()), 2),
        "f1_answered": round(100 * float(gained[is_none == 0].mean()), 2),
        "f1_unanswered": round(100 * float(gained[is_none == 1].mean()), 2),
        "expected_calibration_error": round(expected_calibration_error(scores, is_none), 4),
    }
