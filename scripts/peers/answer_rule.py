"""The rule of `app.tasks.question_answering`, written a second time: plainly, slowly, and without a line of it.

Windows and offsets are transformers' own. See docs/adr/0035-a-span-counts-where-it-has-most-context.md.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from app.tasks.question_answering.task import Answer

Logits = Callable[[Sequence[int], Sequence[int]], np.ndarray]
"""Of a row, from its ids and token types: (tokens, 2)."""
JOINERS = "-'’.,:/@_\u2010\u2011"
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR")
NEGLIGIBLE = 1e-9
"""Spans that are less likely than this change no sum that is compared."""


@dataclass(frozen=True, slots=True)
class _Window:
    first: int
    """Number of its first token among the context's."""
    offsets: Sequence[tuple[int, int]]
    starts: np.ndarray
    ends: np.ndarray
    """Probabilities of the context's tokens: (tokens,)."""

    @property
    def stop(self) -> int:
        return self.first + len(self.offsets)


def reference_answer(
    tokenizer: Any, logits: Logits, question: str, context: str, max_tokens: int, stride: int, max_answer_tokens: int
) -> Answer:
    """The likeliest answer.

    Args:
        stride: tokens that neighbouring windows share.
        max_answer_tokens: of the longest answer.
    """
    windows = _windows(tokenizer, logits, question, context, max_tokens, stride)
    best = Answer("", 0.0, 0, 0)
    for number, window in enumerate(windows):
        answers: dict[str, Answer] = {}
        for first, start in enumerate(window.starts):
            for last in range(first, min(first + max_answer_tokens, len(window.ends))):
                score = float(start * window.ends[last])
                if score < NEGLIGIBLE or number != _best_window(windows, window.first + first, window.first + last):
                    continue
                begin, end = whole_words(context, window.offsets[first][0], window.offsets[last][1])
                text = context[begin:end]
                known = answers.get(text.lower(), Answer(text, 0.0, begin, end))  # the first spelling counts
                answers[text.lower()] = Answer(known.answer, known.score + score, known.start, known.end)
        best = max([best, *answers.values()], key=lambda answer: answer.score if answer.answer else -1.0)
    return best


def whole_words(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without blanks at its ends, and with the rest of the words it begins and ends in."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if start == end:
        return start, end
    while start > 0 and _is_within_word(text, start):
        start -= 1
    while end < len(text) and _is_within_word(text, end):
        end += 1
    return start, end


def _windows(tokenizer: Any, logits: Logits, question: str, context: str, max_tokens: int, stride: int) -> list[_Window]:
    encoded = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=max_tokens,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
    )
    windows: list[_Window] = []
    for number, input_ids in enumerate(encoded["input_ids"]):
        positions = [position for position, sequence in enumerate(encoded.sequence_ids(number)) if sequence == 1]
        row = np.asarray(logits(input_ids, encoded["token_type_ids"][number]), np.float64)[[0, *positions]]
        powers = np.exp(row - row.max(axis=0))
        shares = powers / powers.sum(axis=0)
        offsets = [tuple(encoded["offset_mapping"][number][position]) for position in positions]
        first = windows[-1].stop - stride if windows else 0
        windows.append(_Window(first, offsets, shares[1:, 0], shares[1:, 1]))
    return windows


def _best_window(windows: Sequence[_Window], first: int, last: int) -> int:
    """Number of the window in which a span has most context."""
    largest, best = -1.0, 0
    for number, window in enumerate(windows):
        if window.first <= first and last < window.stop:
            before = first - window.first if number > 0 else inf
            after = window.stop - 1 - last if number < len(windows) - 1 else inf
            if min(before, after) > largest:
                largest, best = min(before, after), number
    return best


def _is_within_word(text: str, position: int) -> bool:
    """Whether a word goes on from the character before a position to the one behind it."""
    before, after = text[position - 1], text[position]
    if unicodedata.category(after)[0] == "M":
        return True
    if _is_in_words(before) and _is_in_words(after):
        return True
    if after in JOINERS:
        return _is_in_words(before) and position + 1 < len(text) and _is_in_words(text[position + 1])
    return before in JOINERS and _is_in_words(after) and position >= 2 and _is_in_words(text[position - 2])


def _is_in_words(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Nd" or category[0] == "M":
        return True
    return category[0] in "LN" and not unicodedata.name(character, "").startswith(UNSPACED)
