"""What a report says of a classifier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from app.tasks.text_classification.task import ClassificationItem
from scripts.report.judged import Judged
from scripts.report.label_errors import likely_label_errors
from scripts.report.lengths import by_length
from scripts.report.thresholds import thresholds
from scripts.report.word_weights import words_for
from scripts.tasks.text_classification import scores as class_scores
from scripts.training.metrics import BINS, expected_calibration_error

MOST_PAIRS, MOST_WORST, MOST_SUSPECTS, EXPLAINED = 20, 20, 30, 8
"""How many are told, and for how many of the worst it is said which words misled the model."""


@dataclass(frozen=True)
class Scored:
    """All scores of all examples beside what is right."""

    labels: Sequence[str]
    multi: bool
    logits: np.ndarray
    scores: np.ndarray
    """As the service gives them: (rows, labels)."""
    truth: np.ndarray
    """1 where a label is right: (rows, labels)."""

    @classmethod
    def of(cls, judged: Judged) -> Scored:
        multi = judged.options["problem_type"] == "multi_label_classification"
        logits = class_scores.logits_of(judged.predictions)
        scores = class_scores.scores_of(logits, judged.options.get("temperature", 1.0), multi)
        return cls(judged.options["labels"], multi, logits, scores, class_scores.truth_of(judged.examples, judged.options))

    @cached_property
    def taken(self) -> np.ndarray:
        """1 where a label is decided for: (rows, labels)."""
        return (self.scores > 0.5).astype(int) if self.multi else np.eye(len(self.labels), dtype=int)[self.scores.argmax(-1)]

    @cached_property
    def losses(self) -> np.ndarray:
        return class_scores.losses(self.scores, self.truth, self.multi)


def sections(judged: Judged) -> dict[str, Any]:
    """Everything beyond the figures."""
    scored = Scored.of(judged)
    found: dict[str, Any] = {
        "by_length": by_length(judged.lengths, (scored.taken == scored.truth).all(-1).tolist(), True),
        "calibration": _calibration(scored),
        "worst": worst(judged, scored, MOST_WORST, EXPLAINED),
    }
    if scored.multi:
        found["thresholds"] = thresholds(scored.scores, scored.truth, scored.labels)
    else:
        found["confusion"] = _confusion(scored.truth.argmax(-1), scored.scores.argmax(-1), scored.labels)
        found["suspects"] = list(_suspects(judged, scored))
    return found


def worst(judged: Judged, scored: Scored, most: int, explained: int) -> list[dict[str, Any]]:
    """Those decided wrongly, the largest loss first; of the first ones with the words that spoke for the wrong label."""
    wrong = np.flatnonzero((scored.taken != scored.truth).any(-1))
    order = wrong[np.argsort(-scored.losses[wrong], kind="stable")][:most]
    return [_error(judged, scored, int(index), number < explained) for number, index in enumerate(order)]


def _error(judged: Judged, scored: Scored, index: int, is_explained: bool) -> dict[str, Any]:
    one, scores = judged.examples[index], scored.scores[index]
    named = {"right": scored.truth[index], "guessed": scored.taken[index]}
    # the label that is furthest from where it should be; of one label a text, that which was taken
    off = np.abs(scored.truth[index] - scores) * (scored.taken[index] != scored.truth[index])
    misled = int(off.argmax()) if scored.multi else int(scores.argmax())
    return {
        "where": one.where,
        "fields": fields_of(one.item),
        **{whose: [scored.labels[int(i)] for i in np.flatnonzero(given)] for whose, given in named.items()},
        "score": round(float(scores[misled]), 4),
        "loss": round(float(scored.losses[index]), 4),
        "target": scored.labels[misled],
        "words": words_for(judged, index, scored.labels[misled]) if is_explained else [],
    }


def fields_of(item: ClassificationItem) -> dict[str, str]:
    return {"text": item.text} if item.text_pair is None else {"text": item.text, "text_pair": item.text_pair}


def _calibration(scored: Scored) -> dict[str, Any]:
    """As without a temperature, and as under one fitted on rows that it is not judged on."""
    truth, multi = scored.truth, scored.multi
    told = {
        "before": class_scores.scores_of(scored.logits, 1.0, multi),
        "after": class_scores.calibrated(scored.logits, truth, multi),
    }
    return {
        name: {
            "expected_calibration_error": round(expected_calibration_error(best, right), 4),
            "log_loss": round(class_scores.log_loss(scores, truth, multi), 4),
            "bins": _bins(best, right),
        }
        for name, scores in told.items()
        for best, right in [class_scores.decisions(scores, truth, multi)]
    }


def _bins(scores: np.ndarray, right: np.ndarray) -> list[dict[str, Any]]:
    numbers = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [
        {
            "from": number / BINS,
            "rows": int(inside.sum()),
            "score": round(float(scores[inside].mean()), 4),
            "right": round(float(right[inside].mean()), 4),
        }
        for number in range(BINS)
        for inside in [numbers == number]
        if inside.any()
    ]


def _confusion(given: np.ndarray, guessed: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """The whole matrix, rows by what is right, and the pairs that are taken for each other most often."""
    matrix = confusion_matrix(given, guessed, labels=range(len(labels)))
    wrong = matrix * (1 - np.eye(len(labels), dtype=int))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(one), len(labels)) for one in order]
    return {
        "labels": list(labels),
        "matrix": matrix.tolist(),
        "pairs": [
            {"right": labels[i], "guessed": labels[j], "rows": int(wrong[i, j]), "of": int(matrix[i].sum())}
            for i, j in pairs
            if wrong[i, j]
        ],
    }


def _suspects(judged: Judged, scored: Scored) -> Iterator[dict[str, Any]]:
    given = scored.truth.argmax(-1)
    for row, likely in likely_label_errors(scored.scores, given)[:MOST_SUSPECTS]:
        one = judged.examples[row]
        yield {
            "where": one.where,
            "fields": fields_of(one.item),
            "given": scored.labels[given[row]],
            "likely": scored.labels[likely],
            "score": round(float(scored.scores[row, likely]), 4),
            "score_of_given": round(float(scored.scores[row, given[row]]), 4),
        }
