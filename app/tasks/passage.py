"""A passage: what the model read of an item, whose words can be hidden from it, and how much speaks for one target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from app.core.types import Row, RowOutput
from app.tasks.tokenizer import Offsets, Tokenizer
from app.tasks.words import Span, continues, gap, with_tokens, words

Keep = NDArray[np.bool_]
"""Which words the model gets to read: (words,)."""
FIELD_GAP = 3
"""Parts the last word of one field from the first of the next, more strongly than sentences are parted."""
MASKS = ("[MASK]", "<mask>", "[UNK]", "<unk>")


def sigmoid(log_odds: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * log_odds))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of 1 along the last axis, which large logits do not overflow."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares


@dataclass(frozen=True, slots=True)
class Word:
    """`item.<field>[start:end] == text`, counted in the caller's own characters."""

    field: str
    text: str
    start: int
    end: int
    positions: Sequence[int]
    """Of its tokens in the passage's row."""
    gap: int
    """How strongly it is parted from the next word; see `app.tasks.words.gap`."""


@dataclass(frozen=True)
class Passage:
    """One row of an item, the words in it, and the target that the item is explained for."""

    row: Row
    words: Sequence[Word]
    target: str
    log_odds: Callable[[RowOutput], float]
    """Reads the log-odds of the target from what the model answers to the row, whichever words are hidden in it."""
    mask_id: int | None = None
    """Token that stands for each token of a hidden word; None: hidden words are left out."""
    to_score: Callable[[float], float] = sigmoid
    """The score that such log-odds stand for; of a number, which has no odds, it is the number itself."""

    @cached_property
    def costs(self) -> NDArray[np.int64]:
        """Tokens that are saved by hiding a word: (words,)."""
        return np.array([0 if self.mask_id is not None else len(word.positions) for word in self.words], np.int64)

    @property
    def overhead(self) -> int:
        """Tokens of the row when everything is hidden."""
        return self.row.num_tokens - int(self.costs.sum())

    def without(self, keep: Keep) -> Row:
        """The row with only these words in it."""
        visible = np.append(keep, True)[self._word_of]  # (tokens,)
        ids, types = self._tokens
        if self.mask_id is not None:
            return Row(np.where(visible, ids, self.mask_id).tolist(), self.row.token_type_ids, self.row.output_positions)
        places = np.cumsum(visible) - 1
        positions = tuple(int(places[position]) for position in self.row.output_positions)
        return Row(ids[visible].tolist(), types[visible].tolist(), positions)

    @cached_property
    def _tokens(self) -> NDArray[np.int64]:
        """Ids and types: (2, tokens)."""
        return np.array([self.row.input_ids, self.row.token_type_ids], np.int64)

    @cached_property
    def _word_of(self) -> NDArray[np.int64]:
        """The word of each token, -1 for those of none, which are never hidden: (tokens,)."""
        owners = np.full(self.row.num_tokens, -1, np.int64)
        for index, word in enumerate(self.words):
            owners[list(word.positions)] = index
        return owners


def words_of(field: str, text: str, tokens: Sequence[tuple[int, Span]]) -> list[Word]:
    """The words of one field that the model read.

    Args:
        tokens: position in the row and character span of each of its tokens.
    """
    end = max((end for _, (_, end) in tokens), default=0)
    while 0 < end < len(text) and continues(text[end - 1], text[end]):  # a token may leave the accent of its letter out
        end += 1
    begin = min((start for _, (start, _) in tokens), default=0)
    spans = [(begin + start, begin + stop) for start, stop in words(text[begin:end])]
    spans_with_tokens = with_tokens(spans, tokens)
    gaps = [gap(text, span, following) for (span, _), (following, _) in pairwise(spans_with_tokens)]
    return [
        Word(field, text[start:stop], start, stop, positions, parted)
        for ((start, stop), positions), parted in zip(spans_with_tokens, [*gaps, FIELD_GAP], strict=False)
    ]


def words_of_window(fields: Mapping[str, str], sequence_ids: Sequence[int | None], offsets: Offsets) -> list[Word]:
    """The words of a window over one text or a pair of them, in the order of the fields."""
    return [
        word
        for number, (field, text) in enumerate(fields.items())
        for word in words_of(field, text, list(_of_sequence(number, sequence_ids, offsets)))
    ]


def mask_of(tokenizer: Tokenizer) -> int | None:
    """The token that stands for one the model is not to read."""
    return next((token_id for token_id in map(tokenizer.token_id, MASKS) if token_id is not None), None)


def _of_sequence(number: int, sequence_ids: Sequence[int | None], offsets: Offsets) -> Iterator[tuple[int, Span]]:
    """Tokens of one sequence that stand for some of its characters."""
    for position, (sequence, (start, end)) in enumerate(zip(sequence_ids, offsets, strict=True)):
        if sequence == number and start < end:
            yield position, (start, end)
