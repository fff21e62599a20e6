"""Metrics of written texts beside their references: BLEU and chrF by `sacrebleu`, ROUGE by `rouge-score`, with intervals.

Sources. BLEU: Papineni et al. (2002), chrF: Popović (2015), both as Post, "A Call for Clarity in Reporting BLEU Scores" (2018)
wants them: on the texts as they are, cased. Intervals: the bootstrap over rows of Koehn (2004).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from app.tasks.sentences import LANGUAGE, sentences
from scripts.training.bootstrap import CONFIDENCE
from scripts.training.metrics import METRICS, rouge

TRANSLATION = "translation"
"""The task, for those who may not name it: its folder is called alike."""
RESAMPLES = 1000
SEED = 12345
TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char", "lo": "char", "km": "char", "my": "char"}
"""Language to sacrebleu's way of cutting texts into words, where that is another than mteval's 13a."""
Interval = tuple[float, float]


class TranslationMetrics(NamedTuple):
    """What `Trainer.evaluate` gives: percent, cased, by sacrebleu."""

    loss: float
    """Mean cross entropy in nats, per token of the targets."""
    bleu: float
    chrf: float
    mean_chrf: float
    """chrF of each row, on average: what two models are compared by."""


def bleu_tokenizer(language: str) -> str:
    """sacrebleu's name of how texts of a language are cut into words."""
    return TOKENIZERS.get(language, "13a")


def bleu(texts: Sequence[str], references: Sequence[str], language: str = "") -> float:
    """Of the corpus, in percent."""
    return float(_bleu(language).corpus_score(list(texts), [list(references)]).score)


def chrf(texts: Sequence[str], references: Sequence[str]) -> float:
    """chrF2 of the corpus, in percent."""
    return float(_chrf().corpus_score(list(texts), [list(references)]).score)


def row_chrf(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """chrF2 of each text alone, in percent. (texts,)"""
    pairs = zip(texts, references, strict=True)
    return np.array([float(_chrf().sentence_score(text, [reference]).score) for text, reference in pairs])


def row_rouge(texts: Sequence[str], references: Sequence[str], language: str = LANGUAGE) -> dict[str, np.ndarray]:
    """ROUGE-1, ROUGE-2 and ROUGE-Lsum of each text, F1 in percent. (texts,)"""
    rows = [
        rouge(in_sentences(reference, language), in_sentences(text, language), language)
        for text, reference in zip(texts, references, strict=True)
    ]
    return {metric: np.array([row[metric] for row in rows]) for metric in METRICS}


def in_sentences(text: str, language: str) -> list[str]:
    """For ROUGE-Lsum, which compares sentence by sentence."""
    return [text[start:end] for start, end in sentences(text, language)] if text.strip() else [text]


def bleu_interval(texts: Sequence[str], references: Sequence[str], language: str = "") -> Interval:
    """Where 95 % of the BLEU lie of as many rows, drawn anew with replacement."""
    return _corpus_interval(_bleu(language), texts, references)


def chrf_interval(texts: Sequence[str], references: Sequence[str]) -> Interval:
    return _corpus_interval(_chrf(), texts, references)


def mean_interval(scores: np.ndarray) -> Interval:
    """The same for the mean of row scores, (rows,)."""
    return _interval(lambda rows: scores[rows].mean(), len(scores))


def _corpus_interval(metric: Any, texts: Sequence[str], references: Sequence[str]) -> Interval:
    # what a corpus score is computed from is a sum over its rows: so no text is read twice
    statistics = np.array(metric._extract_corpus_statistics(list(texts), [list(references)]), np.float64)
    return _interval(lambda rows: metric._compute_score_from_stats(statistics[rows].sum(0).tolist()).score, len(texts))


def _interval(score: Callable[[np.ndarray], float], num_rows: int) -> Interval:
    generator = np.random.default_rng(SEED)
    draws = [float(score(generator.integers(num_rows, size=num_rows))) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return round(float(low), 2), round(float(high), 2)


@cache
def _bleu(language: str) -> Any:
    from sacrebleu.metrics.bleu import BLEU  # here: the command line lists tasks without it

    return BLEU(tokenize=bleu_tokenizer(language))


@cache
def _chrf() -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF()
