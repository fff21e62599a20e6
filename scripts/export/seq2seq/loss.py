"""What a smaller form of a decoder's step costs: how much less it expects the tokens of texts than the step in fp32 does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from app.core.errors import InvalidSettings
from app.core.types import Row
from scripts.export.seq2seq.greedy import GreedyWriter
from scripts.export.seq2seq.steps import Graphs

MAX_READ = 96
"""Tokens of a text that are looked at, its first ones."""
READ_FIRST = 16
"""Of these at most so many are read at once, as a prompt is, but no more than half of a short text: a step may multiply
otherwise then."""
MIN_EXPECTED = 500
"""Of fewer tokens the figure is chance."""


@dataclass(frozen=True, slots=True)
class Loss:
    """Perplexities of the same tokens."""

    before: float
    """In fp32."""
    after: float
    num_tokens: int

    @property
    def share(self) -> float:
        """By how much it is larger, as a share; below 0: it is smaller."""
        return self.after / self.before - 1

    def __str__(self) -> str:
        figures = f"perplexity {self.before:.4g} in fp32, then {self.after:.4g} ({100 * self.share:+.1f} %)"
        return f"{figures} over {self.num_tokens:,} tokens"


def measure_loss(graphs: Graphs, formed: Graphs, rows: Sequence[Row]) -> Loss:
    """Perplexity of the rows' own tokens, in fp32 and in a form.

    Args:
        graphs: of a model that continues texts.
        formed: the same with the form of its step.
        rows: texts, of which the first `MAX_READ` tokens are read; the first few of each are given.

    Raises:
        InvalidSettings: they have too few tokens to say anything.
    """
    texts = [list(row.input_ids[:MAX_READ]) for row in rows if row.num_tokens > 1]
    num_tokens = sum(len(text) - _num_given(text) for text in texts)
    if num_tokens < MIN_EXPECTED:
        raise InvalidSettings(
            f"the texts have {num_tokens:,} tokens that could be expected, and at least {MIN_EXPECTED:,} are needed to measure"
            " what int4 loses; name more of them"
        )
    before, after = (_surprise(version, texts) / num_tokens for version in (graphs, formed))
    return Loss(math.exp(before), math.exp(after), num_tokens)


def _surprise(graphs: Graphs, texts: Sequence[Sequence[int]]) -> float:
    """Of all tokens but the first few of each text: the sum of their negative log-probabilities."""
    writer = GreedyWriter(graphs.encoder_file, graphs.graph, graphs.decoder_file, graphs.decoder)
    given = [(text, _num_given(text)) for text in texts]
    rows, tokens = [Row(text[:num], [0] * num) for text, num in given], [text[num:] for text, num in given]
    total = 0.0
    for logits, own in zip(writer.logits_of_each(rows, tokens), tokens, strict=True):
        total += float(np.sum(logsumexp(logits, axis=-1) - logits[np.arange(len(own)), own]))
    return total


def _num_given(text: Sequence[int]) -> int:
    return min(READ_FIRST, len(text) // 2)
