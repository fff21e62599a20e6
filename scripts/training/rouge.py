"""ROUGE of extractive summaries, the lead that any of them must beat, and the greedy oracle that bounds them.

Figures are those of the package `rouge-score` with stemming, in percent. The oracle is that of Nallapati et al., "SummaRuNNer"
(2017): sentences are added as long as one of them raises the mean F1 of shared words and word pairs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

METRICS = ("rouge1", "rouge2", "rougeLsum")
LEAD = 3
_WORD = re.compile(r"[a-z0-9]+")

Grams = Counter[tuple[str, ...]]


def rouge(reference: Sequence[str], summary: Sequence[str]) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-Lsum in percent, both given as sentences."""
    scores = _scorer().score("\n".join(reference), "\n".join(summary))
    return {metric: 100 * scores[metric].fmeasure for metric in METRICS}


def oracle(reference: Sequence[str], sentences: Sequence[str], count: int) -> list[int]:
    """Indices, in order, of at most `count` sentences that together come closest to the reference."""
    wanted = _words_and_pairs(reference)
    offered = [_words_and_pairs([sentence]) for sentence in sentences]
    chosen: list[int] = []
    so_far: list[Grams] = [Counter(), Counter()]
    best = 0.0
    while len(chosen) < count:
        gains = {
            index: _closeness([so_far[0] + grams[0], so_far[1] + grams[1]], wanted)
            for index, grams in enumerate(offered)
            if index not in chosen
        }
        top = max(gains, key=lambda index: gains[index], default=None)
        if top is None or gains[top] <= best:
            break
        best = gains[top]
        chosen.append(top)
        so_far = [so_far[0] + offered[top][0], so_far[1] + offered[top][1]]
    return sorted(chosen)


def precision(reference: Sequence[str], sentences: Sequence[str]) -> list[float]:
    """Of each sentence alone, the share of its words and of its word pairs that the reference has too, averaged: 0 to 1."""
    wanted = _words_and_pairs(reference)
    return [_precision(_words_and_pairs([sentence]), wanted) for sentence in sentences]


def _words_and_pairs(sentences: Sequence[str]) -> list[Grams]:
    return [_grams(sentences, size) for size in (1, 2)]


def _grams(sentences: Sequence[str], size: int) -> Grams:
    found: Grams = Counter()
    for sentence in sentences:
        words = _WORD.findall(sentence.lower())
        found.update(zip(*(words[start:] for start in range(size)), strict=False))
    return found


def _closeness(grams: Sequence[Grams], wanted: Sequence[Grams]) -> float:
    return sum(_f1(one, other) for one, other in zip(grams, wanted, strict=True))


def _precision(grams: Sequence[Grams], wanted: Sequence[Grams]) -> float:
    shares = [(one & other).total() / one.total() if one else 0.0 for one, other in zip(grams, wanted, strict=True)]
    return sum(shares) / len(shares)


def _f1(one: Grams, other: Grams) -> float:
    total = one.total() + other.total()
    return 2 * (one & other).total() / total if total else 0.0


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(METRICS), use_stemmer=True)
