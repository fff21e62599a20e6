"""What a report says of a classifier: confusion, calibration, thresholds, worst errors, likely label errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from app.tasks.text_classification.task import DEFAULT_THRESHOLD
from scripts.report.sections import MAX_ERRORS, NUM_EXPLAINED, by_length, words_for
from scripts.tasks.spec import ReportInput
from scripts.tasks.text_classification import scores as class_scores
from scripts.tasks.text_classification import thresholds
from scripts.training.calibration import expected_calibration_error, reliability

MAX_PAIRS, MAX_SUSPECTS = 20, 30


@dataclass(frozen=True)
class ClassScores:
    """All scores of all examples beside what is right."""

    labels: Sequence[str]
    multi: bool
    logits: np.ndarray
    scores: np.ndarray
    """As the service gives them: (rows, labels)."""
    truth: np.ndarray
    """1 where a label is right: (rows, labels)."""

    @classmethod
    def of(cls, evaluated: ReportInput) -> ClassScores:
        multi = evaluated.task_options["problem_type"] == "multi_label_classification"
        logits = class_scores.logits_of(evaluated.predictions)
        scores = class_scores.scores_of(logits, evaluated.task_options.get("temperature", 1.0), multi)
        return cls(
            evaluated.task_options["labels"],
            multi,
            logits,
            scores,
            class_scores.truth_of(evaluated.examples, evaluated.task_options),
        )

    @cached_property
    def predicted(self) -> np.ndarray:
        """1 where a label is decided for: (rows, labels)."""
        return (self.scores > 0.5).astype(int) if self.multi else np.eye(len(self.labels), dtype=int)[self.scores.argmax(-1)]

    @cached_property
    def losses(self) -> np.ndarray:
        return class_scores.losses(self.scores, self.truth, self.multi)


def sections(evaluated: ReportInput) -> dict[str, Any]:
    """Everything beyond the figures."""
    scored = ClassScores.of(evaluated)
    result: dict[str, Any] = {
        "by_length": by_length(evaluated.lengths, (scored.predicted == scored.truth).all(-1).tolist(), True),
        "calibration": _calibration(scored),
        "worst": worst(evaluated, scored, MAX_ERRORS, NUM_EXPLAINED),
    }
    if scored.multi:
        result["thresholds"] = _thresholds(evaluated, scored)
    else:
        result["confusion"] = _confusion(scored.truth.argmax(-1), scored.scores.argmax(-1), scored.labels)
        result["suspects"] = list(_suspects(evaluated, scored))
    return result


def _thresholds(evaluated: ReportInput, scored: ClassScores) -> dict[str, Any]:
    """Of these rows, beside those that the model is published with, and what the latter reach where they were not fitted."""
    own = evaluated.task_options.get("thresholds", {})
    result = thresholds.evaluate(scored.scores, scored.truth, scored.labels)
    published = {label: own.get(label, DEFAULT_THRESHOLD) for label in scored.labels} if own else {}
    is_measured = published and not evaluated.are_options_fitted
    at_published = thresholds.measure(scored.scores, scored.truth, published) if is_measured else {}
    return {**result, "published": published, "at_published": at_published}


def worst(evaluated: ReportInput, scored: ClassScores, limit: int, num_explained: int) -> list[dict[str, Any]]:
    """Those decided wrongly, the largest loss first; of the first ones with the words that spoke for the wrong label."""
    wrong = np.flatnonzero((scored.predicted != scored.truth).any(-1))
    order = wrong[np.argsort(-scored.losses[wrong], kind="stable")][:limit]
    return [_error(evaluated, scored, int(index), number < num_explained) for number, index in enumerate(order)]


def _error(evaluated: ReportInput, scored: ClassScores, index: int, is_explained: bool) -> dict[str, Any]:
    scores = scored.scores[index]
    indicators = {"right": scored.truth[index], "guessed": scored.predicted[index]}
    # the label that is furthest from where it should be; of one label a text, that which was taken
    off = np.abs(scored.truth[index] - scores) * (scored.predicted[index] != scored.truth[index])
    misled = int(off.argmax()) if scored.multi else int(scores.argmax())
    return evaluated.error(
        index,
        words_for(evaluated, index, scored.labels[misled]) if is_explained else (),
        **{whose: [scored.labels[int(i)] for i in np.flatnonzero(indicator)] for whose, indicator in indicators.items()},
        score=round(float(scores[misled]), 4),
        loss=round(float(scored.losses[index]), 4),
        target=scored.labels[misled],
    )


def _calibration(scored: ClassScores) -> dict[str, Any]:
    """As without a temperature, and as under one fitted on rows that it is not evaluated on."""
    truth, multi = scored.truth, scored.multi
    stages = {
        "before": class_scores.scores_of(scored.logits, 1.0, multi),
        "after": class_scores.calibrated(scored.logits, truth, multi),
    }
    return {
        name: {
            "expected_calibration_error": round(expected_calibration_error(best, right), 4),
            "log_loss": round(class_scores.log_loss(scores, truth, multi), 4),
            "bins": reliability(best, right),
        }
        for name, scores in stages.items()
        for best, right in [class_scores.decisions(scores, truth, multi)]
    }


def _confusion(gold: np.ndarray, guessed: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """The whole matrix, rows by what is right, and the pairs that are taken for each other most often."""
    matrix = confusion_matrix(gold, guessed, labels=range(len(labels)))
    wrong = matrix * (1 - np.eye(len(labels), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MAX_PAIRS]
    pairs = [divmod(int(entry), len(labels)) for entry in order]
    return {
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "pairs": [
            {"right": labels[i], "guessed": labels[j], "rows": int(wrong[i, j]), "of": int(matrix[i].sum())}
            for i, j in pairs
            if wrong[i, j]
        ],
    }


def _suspects(evaluated: ReportInput, scored: ClassScores) -> Iterator[dict[str, Any]]:
    gold = scored.truth.argmax(-1)
    for row, likely in likely_label_errors(scored.scores, gold)[:MAX_SUSPECTS]:
        example = evaluated.examples[row]
        yield {
            "where": example.where,
            "fields": evaluated.training.item_fields(example.item),
            "given": scored.labels[gold[row]],
            "likely": scored.labels[likely],
            "score": round(float(scored.scores[row, likely]), 4),
            "score_of_given": round(float(scored.scores[row, gold[row]]), 4),
        }


def likely_label_errors(scores: np.ndarray, gold: np.ndarray) -> list[tuple[int, int]]:
    """Rows that are confidently counted under another label than their own, the clearest first.

    Confident learning: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels" (2021). The
    scores must be of texts that the model was not trained on.

    Args:
        scores: (rows, labels), each row adding up to 1.
        gold: the rows' own labels, as numbers: (rows,).

    Returns:
        Of each such row its number and that of the label it more likely has. A row counts under a label when its score
        reaches the mean score of the rows that were given this label; of several, under that of the highest score.
    """
    numbers = np.arange(scores.shape[1])
    usual = np.array(
        [scores[gold == number, number].mean() if (gold == number).any() else np.inf for number in numbers]
    )  # (labels,)
    reached = np.where(scores >= usual, scores, -np.inf)
    better = reached.argmax(-1)
    is_off = (reached.max(-1) > -np.inf) & (better != gold) & (scores.argmax(-1) == better)
    margin = np.take_along_axis(scores, better[:, None], 1)[:, 0] - np.take_along_axis(scores, gold[:, None], 1)[:, 0]
    return [(int(row), int(better[row])) for row in np.flatnonzero(is_off)[np.argsort(-margin[is_off], kind="stable")]]
