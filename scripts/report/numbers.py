"""What a report says of regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from scripts.report.classification import fields_of
from scripts.report.judged import Judged
from scripts.report.lengths import by_length
from scripts.report.word_weights import words_for
from scripts.tasks.regression import value_of

MOST_WORST, EXPLAINED, MOST_POINTS = 20, 8, 1000


def sections(judged: Judged) -> dict[str, Any]:
    """Every number beside the right one, the error by length, and the largest errors."""
    given, right = _values(judged)
    return {
        "points": [[round(float(one), 4) for one in pair] for pair in zip(right, given, strict=True)][:MOST_POINTS],
        "by_length": by_length(judged.lengths, np.abs(given - right).tolist(), False),
        "worst": worst(judged, MOST_WORST, EXPLAINED),
    }


def worst(judged: Judged, most: int, explained: int) -> list[dict[str, Any]]:
    """The largest errors first; of the first ones with what each word added to the number."""
    given, right = _values(judged)
    return [
        {
            "where": judged.examples[index].where,
            "fields": fields_of(judged.examples[index].item),
            "right": [f"{right[index]:.4g}"],
            "guessed": [f"{given[index]:.4g}"],
            "loss": round(float(abs(given[index] - right[index])), 4),
            "words": words_for(judged, int(index), None) if number < explained else [],
        }
        for number, index in enumerate(np.argsort(-np.abs(given - right), kind="stable")[:most])
    ]


def _values(judged: Judged) -> tuple[np.ndarray, np.ndarray]:
    given = np.array([value_of(one) for one in judged.predictions.answers])
    return given, np.array([one.target for one in judged.examples])
