"""Which texts a model is least sure of, and which of those are alike.

The three measures are those of uncertainty sampling in Settles, "Active Learning Literature Survey" (2009), section 3.1, each
between 0 (sure) and 1.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Measure = Literal["margin", "entropy", "least-confidence"]
ALIKE = 0.7
"""Shared words, of all words of two texts, from which they say the same."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be worth labelling."""

    line: Mapping[str, Any]
    """What is printed of it."""
    texts: Sequence[str]
    uncertainty: float


def uncertainty(answer: Mapping[str, Any], measure: Measure, is_multi: bool = False) -> float:
    """How unsure an answer is.

    Args:
        answer: of `/v1/classify`, with all labels, or of `/v1/answer`.
        measure: one of Settles's.
        is_multi: any number of labels may hold: then the least sure of them decides.
    """
    of = MEASURES[measure]
    scores = [float(one["score"]) for one in answer.get("labels", answer.get("answers"))]
    if is_multi:
        return max(of(sorted((score, 1 - score), reverse=True), 2) for score in scores)
    if "answers" in answer:  # they are some of very many, and how many is not told
        scores = sorted([*scores, float(answer["no_answer_score"])], reverse=True)
    return of(scores, max(2, len(scores)))


def varied(candidates: Iterable[Candidate], count: int) -> Iterator[Candidate]:
    """The first `count` candidates of which no two are alike, in their order."""
    chosen: list[list[frozenset[str]]] = []
    for one in candidates:
        if len(chosen) == count:
            return
        words = [frozenset(_WORD.findall(text.casefold())) for text in one.texts]
        if not any(_are_alike(words, other) for other in chosen):
            chosen.append(words)
            yield one


def _are_alike(one: Sequence[frozenset[str]], other: Sequence[frozenset[str]]) -> bool:
    """In every field: two questions about one text are not alike, nor is one question about two texts."""
    return len(one) == len(other) and all(_overlap(a, b) >= ALIKE for a, b in zip(one, other, strict=True))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard index; 1 where neither has a word."""
    both = one | other
    return len(one & other) / len(both) if both else 1.0


def _margin(scores: Sequence[float], num_classes: int) -> float:
    return 1.0 - (scores[0] - (scores[1] if len(scores) > 1 else 0.0))


def _entropy(scores: Sequence[float], num_classes: int) -> float:
    return -sum(score * math.log(score) for score in scores if score > 0) / math.log(num_classes)


def _least_confidence(scores: Sequence[float], num_classes: int) -> float:
    return (1.0 - scores[0]) * num_classes / (num_classes - 1)


MEASURES: Mapping[Measure, Callable[[Sequence[float], int], float]] = {
    "margin": _margin,
    "entropy": _entropy,
    "least-confidence": _least_confidence,
}
"""From the scores, best first, and the number of classes."""
