"""Metrics: ROUGE of summaries, exact match and F1 of answers.

Sources. ROUGE: the package `rouge-score` with stemming, in percent; the greedy oracle is that of Nallapati et al.,
"SummaRuNNer" (2017): sentences are added as long as one of them raises the mean F1 of shared words and word pairs. Answers:
Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016) and "Know What You Don't Know" (2018),
and the evaluation scripts published with them.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

METRICS = ("rouge1", "rouge2", "rougeLsum")
LEAD = 3
_WORD = re.compile(r"[a-z0-9]+")
_ANY_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]+")

Grams = Counter[tuple[str, ...]]


def rouge(reference: Sequence[str], summary: Sequence[str], language: str = "en") -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-Lsum in percent, both given as sentences; of languages other than English without
    stemming, on words in any script and on each letter of those that write no blanks."""
    scores = _scorer(language == "en").score("\n".join(reference), "\n".join(summary))
    return {metric: 100 * scores[metric].fmeasure for metric in METRICS}


def oracle(reference: Sequence[str], sentences: Sequence[str], count: int) -> list[int]:
    """Indices, in order, of at most `count` sentences that together come closest to the reference."""
    target = _words_and_pairs(reference)
    offered = [_words_and_pairs([sentence]) for sentence in sentences]
    picks: list[int] = []
    so_far: list[Grams] = [Counter(), Counter()]
    best = 0.0
    while len(picks) < count:
        gains = {
            index: _closeness([so_far[0] + grams[0], so_far[1] + grams[1]], target)
            for index, grams in enumerate(offered)
            if index not in picks
        }
        top = max(gains, key=lambda index: gains[index], default=None)
        if top is None or gains[top] <= best:
            break
        best = gains[top]
        picks.append(top)
        so_far = [so_far[0] + offered[top][0], so_far[1] + offered[top][1]]
    return sorted(picks)


def precision(reference: Sequence[str], sentences: Sequence[str]) -> list[float]:
    """Of each sentence alone, the share of its words and of its word pairs that the reference has too, averaged: 0 to 1."""
    target = _words_and_pairs(reference)
    return [_precision(_words_and_pairs([sentence]), target) for sentence in sentences]


def _words_and_pairs(sentences: Sequence[str]) -> list[Grams]:
    return [_grams(sentences, size) for size in (1, 2)]


def _grams(sentences: Sequence[str], size: int) -> Grams:
    grams: Grams = Counter()
    for sentence in sentences:
        words = _WORD.findall(sentence.lower())
        grams.update(zip(*(words[start:] for start in range(size)), strict=False))
    return grams


def _closeness(grams: Sequence[Grams], target: Sequence[Grams]) -> float:
    return sum(_overlap(gram, other) for gram, other in zip(grams, target, strict=True))


def _precision(grams: Sequence[Grams], target: Sequence[Grams]) -> float:
    shares = [(gram & other).total() / gram.total() if gram else 0.0 for gram, other in zip(grams, target, strict=True)]
    return sum(shares) / len(shares)


def _overlap(grams: Grams, other: Grams) -> float:
    total = grams.total() + other.total()
    return 2 * (grams & other).total() / total if total else 0.0


@cache
def _scorer(is_english: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    # the package's own words are of the letters a to z alone
    return RougeScorer(list(METRICS), use_stemmer=is_english, tokenizer=None if is_english else _AnyWords())


class _AnyWords:
    def tokenize(self, text: str) -> list[str]:
        return _ANY_WORD.findall(text.lower())


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra whitespace."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, truths: Sequence[str]) -> float:
    """1 where the prediction reads like one of the truths, else 0. No truths at all: the right answer is the empty one."""
    return max(float(normalized(prediction) == normalized(truth)) for truth in truths or [""])


def f1(prediction: str, truths: Sequence[str]) -> float:
    """Best harmonic mean of word precision and recall over the truths; no truths: 1 for the empty answer."""
    return max(_f1(prediction, truth) for truth in truths or [""])


def _f1(prediction: str, truth: str) -> float:
    guessed, gold = normalized(prediction).split(), normalized(truth).split()
    if not guessed or not gold:  # as the v2.0 script: an empty answer only matches an empty one
        return float(guessed == gold)
    shared = sum((Counter(guessed) & Counter(gold)).values())
    return 2 * shared / (len(guessed) + len(gold))
