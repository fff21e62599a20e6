"""Text ranking: how well a document answers a query, by a model that reads both together (a cross-encoder).

What sentence-transformers' `CrossEncoder` does to a pair is done here: blanks at the ends of both texts go, and a pair that is
too long loses tokens of its longer text. By default nothing is lost: a longer document is read in windows, each with the whole
query, and the window that answers it best counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from app.core.errors import HooperError, InvalidInput, TooLarge
from app.core.types import Array, RowOutput, Truncation
from app.tasks.base import Decision, Encoded, Result, refuse_text
from app.tasks.passage import Passage, Word, mask_of, sigmoid, words_of
from app.tasks.text_classification.task import log_odds
from app.tasks.tokenizer import Side, Tokenizer, Tokens

OUTPUT = "logits"
SAME_SCORE = 0.05
"""Scores of one pair that are so near to each other are the same decision."""
PER_SCORE, PER_LOGIT = 8.0, 0.15
"""How far a logit may lie from the published one: so much for each 1 of a score's tolerance (a sigmoid rises by 1/4 at most),
and such a part of itself, since the rounding of large logits, whose scores are all 0 or 1, grows with them."""


@dataclass(frozen=True, slots=True)
class RankingItem:
    query: str
    document: str

    def __len__(self) -> int:
        """Characters: what tokenizing costs."""
        return len(self.query) + len(self.document)


@dataclass(frozen=True, slots=True)
class RankingOptions:
    truncation: Truncation = "window"
    truncation_side: Side | None = None
    """Which end of a longer text `truncate` cuts off; None: the one that the model's tokenizer cuts off."""


@dataclass(frozen=True, slots=True)
class Relevance:
    """How well a document answers a query."""

    score: float
    """Between 0 and 1."""
    logit: float
    """Its log-odds: documents are ordered by it, since scores near 0 and 1 are rounded to ties."""


@dataclass(frozen=True, slots=True)
class PairReading:
    """What an item's rows were made from."""

    query: Tokens
    query_part: range
    """Of its tokens those that are read, in every row."""
    document: Tokens
    windows: Sequence[range]
    """The document's tokens in each row."""


class TextRanking:
    """Satisfies `Task`. Reads an output `logits` of axis `row`: (labels,)."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        labels: Annotated[Sequence[str], Field(min_length=1)],
        window_overlap: Annotated[int, Field(ge=0)] = 64,
    ) -> None:
        """
        Args:
            tokenizer: with the longest input, query and document together.
            labels: names of the graph's outputs; of one its sigmoid is the score, of several the probability of the last.
            window_overlap: tokens of a long document that neighbouring windows share.
        """
        self._pieces = tokenizer.pieces()
        self._template = self._pieces.pair
        self._max_tokens, self._overlap = tokenizer.max_tokens, window_overlap
        self._mask_id = mask_of(tokenizer)
        self.labels = tuple(labels)

    def encode(self, items: Sequence[RankingItem], options: RankingOptions) -> list[Encoded | HooperError]:
        """One row per window of a document. A query that many documents are read with is tokenized once."""
        errors = [refuse_text(item.query, "query") or refuse_text(item.document, "document") for item in items]
        good = [item for item, error in zip(items, errors, strict=True) if error is None]
        texts = [text.strip() for text in (*dict.fromkeys(item.query for item in good), *(item.document for item in good))]
        tokens = self._pieces.encode(texts) if texts else []
        num_queries = len(tokens) - len(good)
        queries = dict(zip(dict.fromkeys(item.query for item in good), tokens[:num_queries], strict=True))
        pairs = iter([(queries[item.query], document) for item, document in zip(good, tokens[num_queries:], strict=True)])
        return [error or self._encoded(*next(pairs), options) for error in errors]

    def _encoded(self, query: Tokens, document: Tokens, options: RankingOptions) -> Encoded | HooperError:
        room = max(2, self._max_tokens - self._template.num_special_tokens)
        num_query, num_document = longest_first(len(query), len(document), room)
        is_long = num_query < len(query) or num_document < len(document)
        if is_long and options.truncation == "error":
            return TooLarge(
                f"query and document have more than {self._max_tokens} tokens, the longest this model reads",
                ("truncate", "window"),
            )
        side = options.truncation_side or self._pieces.side
        query_part = _kept(len(query), num_query, side)
        if options.truncation == "window":
            windows = self._windows(len(document), room - num_query)
        else:
            windows = [_kept(len(document), num_document, side)]
        query_ids = query.ids[query_part.start : query_part.stop]
        rows = [self._template.row(query_ids, document.ids[window.start : window.stop]) for window in windows]
        is_cut = num_query < len(query) or (options.truncation == "truncate" and is_long)
        return Encoded(rows, sum(row.num_tokens for row in rows), is_cut, PairReading(query, query_part, document, windows))

    def _windows(self, num_tokens: int, size: int) -> list[range]:
        step = size - min(self._overlap, size // 2)
        return [range(start, min(start + size, num_tokens)) for start in range(0, max(1, num_tokens - size + step), step)]

    def decode(self, encoded: Encoded, outputs: Sequence[RowOutput], options: RankingOptions) -> Relevance:
        """The best window's."""
        logit = max(self._evidence(output) for output in outputs)
        return Relevance(sigmoid(logit), logit)

    def _evidence(self, output: RowOutput) -> float:
        """Log-odds that the document answers the query: the one logit itself, or of the last label against the others."""
        logits: Array = output[OUTPUT]
        return log_odds(logits, len(self.labels) - 1, "softmax" if len(self.labels) > 1 else "none")

    def decision(self, answer: Relevance, options: RankingOptions) -> Decision:
        return Decision("", answer.score)

    def same_decision(self, answer: Relevance, other: Relevance, options: RankingOptions) -> bool:
        """Whether the scores are near to each other: of a pair alone there is no order to compare."""
        return abs(answer.score - other.score) <= SAME_SCORE

    def golden_difference(self, encoded: Encoded, outputs: Sequence[RowOutput], expected: Any, tolerance: float) -> str:
        """Most scores are next to 0 or 1, where they tell no model from another: the logits are compared, too."""
        now = self.decode(encoded, outputs, RankingOptions())
        if not abs(now.score - expected["score"]) <= tolerance:  # "not": NaN is no score
            return f"the document scores {now.score:.4f}, was {expected['score']:.4f}"
        if not abs(now.logit - expected["logit"]) <= max(PER_SCORE * tolerance, PER_LOGIT * abs(expected["logit"])):
            return f"the logit is {now.logit:.3f}, was {expected['logit']:.3f}"
        return ""

    def passage(self, item: RankingItem, encoded: Encoded, outputs: Sequence[RowOutput], target: str | None) -> Passage:
        """What speaks for the document, in the window that answers the query best.

        Raises:
            InvalidInput: there is nothing else that could be explained.
        """
        label = self.labels[-1]
        if target not in (None, label):
            raise InvalidInput(f"{target!r} is nothing that this model tells; what is explained is {label!r}", "target")
        reading: PairReading = encoded.state
        number = int(np.argmax([self._evidence(output) for output in outputs]))
        window, row = reading.windows[number], encoded.rows[number]
        first_query = self._template.start()
        first_document = self._template.start(range(len(reading.query_part)))
        words = [
            *_words("query", item.query, reading.query, reading.query_part, first_query),
            *_words("document", item.document, reading.document, window, first_document),
        ]
        return Passage(row, words, label, self._evidence, mask_id=self._mask_id)


def _words(field: str, text: str, tokens: Tokens, part: range, first: int) -> list[Word]:
    """The words of a field that a row holds, with their places in the caller's own text, blanks at its beginning included."""
    shift = len(text) - len(text.lstrip())
    spans = [
        (first + place, (start + shift, end + shift))
        for place, (start, end) in enumerate(tokens.offsets[part.start : part.stop])
        if start < end
    ]
    return words_of(field, text, spans)


def _kept(num_tokens: int, limit: int, side: Side) -> range:
    """The tokens of a text that are read, where the others are cut off on one side."""
    return range(max(0, num_tokens - limit), num_tokens) if side == "left" else range(min(num_tokens, limit))


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of each text of a pair are kept where the longer one is cut first, as `tokenizers` does it."""
    if first + second <= room:
        return first, second
    short, long = sorted((first, second))
    long = max(short, room - short)
    if short + long > room:
        short, long = room // 2, room - room // 2
    return (short, long) if first <= second else (long, short)


def by_relevance(results: Sequence[Result | HooperError]) -> list[tuple[int, Result]]:
    """The results that are answers, with their numbers, best first; those that are equal stay in their order."""
    scored = [(number, result) for number, result in enumerate(results) if isinstance(result, Result)]
    return sorted(scored, key=lambda entry: -float(entry[1].answer.logit))
