"""How well vectors find what belongs to a text: its partner is looked for among those of all held-out rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.tasks.feature_extraction.task import SimilarityItem
from scripts.tasks.feature_extraction.pairs import key_of
from scripts.training.data import Example

DEPTHS = (1, 5, 10)
AT_ONCE = 512
"""First texts whose cosines with all others are held in memory together."""


@dataclass(frozen=True)
class Search:
    """What each first text found."""

    ranks: np.ndarray
    """Place of its partner among the others, from 1 on. (rows,)"""
    nearest: Sequence[str]
    """The most similar text that does not belong to it; empty: there is no other."""
    cosines: np.ndarray
    """With the partner, and with that nearest other: (rows, 2)."""
    num_texts: int
    """That were looked among."""


def search(answers: Sequence[Any], examples: Sequence[Example]) -> Search:
    """Look for the partner of each row's first text among the other texts of all rows.

    A text that is there twice is there once, and of several partners of one first text the others do not compete. Of equal
    cosines the partner's comes last: a tie is no merit.

    Args:
        answers: `Similarities` of each row.
        examples: the rows; their targets are not looked at.
    """
    numbers: dict[str, int] = {}
    vectors, texts = [], []
    belongs: dict[str, set[int]] = defaultdict(set)
    partners = np.zeros(len(examples), np.int64)
    for row, (answer, example) in enumerate(zip(answers, examples, strict=True)):
        item: SimilarityItem = example.item
        for place, text in enumerate(item.sentences):
            key = key_of(text)
            if key not in numbers:
                numbers[key] = len(numbers)
                vectors.append(answer.vectors[place + 1])
                texts.append(text)
            if place == 0:
                partners[row] = numbers[key]
                belongs[key_of(item.source_sentence)].add(numbers[key])
    firsts = np.array([answer.vectors[0] for answer in answers], np.float32)
    others = np.array(vectors, np.float32)
    ranks, nearest, cosines = np.ones(len(examples), np.int64), [], np.zeros((len(examples), 2))
    for start in range(0, len(examples), AT_ONCE):
        block = firsts[start : start + AT_ONCE] @ others.T  # (rows, texts)
        for row, scores in enumerate(block, start):
            first = key_of(examples[row].item.source_sentence)
            own = scores[partners[row]]
            scores[[*belongs[first], *([numbers[first]] if first in numbers else [])]] = -np.inf
            ranks[row] += int((scores >= own).sum())
            best = int(scores.argmax())
            nearest.append(texts[best] if scores[best] > -np.inf else "")
            cosines[row] = own, scores[best] if nearest[-1] else 0.0
    return Search(ranks, nearest, cosines, len(others))


def retrieval_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Share of the partners among the first places, and the mean reciprocal rank, over all places."""
    recalls = {f"recall_at_{depth}": round(float((ranks <= depth).mean()), 4) for depth in DEPTHS}
    return {**recalls, "mrr": round(float((1 / ranks).mean()), 4)}
