"""Answers by the same rule as `app.tasks.question_answering`, written a second time: plainly, slowly, and without a line of it.

Windows and offsets are transformers' own. See docs/adr/0035-a-span-counts-where-it-has-most-context.md.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

Logits = Callable[[Sequence[int], Sequence[int]], np.ndarray]
"""Of a row, from its ids and token types: (tokens, 2)."""
JOINERS = "-'’.,:/@_\u2010\u2011"
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR")
NOTHING = 1e-9
"""Spans that are less likely than this change no sum that is compared."""


@dataclass(frozen=True, slots=True)
class ReferenceAnswer:
    text: str
    start: int
    end: int
    score: float


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
    tokenizer: Any, logits: Logits, question: str, context: str, max_tokens: int, stride: int, longest: int
) -> ReferenceAnswer:
    """The likeliest answer.

    Args:
        tokenizer: a fast one of transformers.
        logits: what the model says of a row.
        question, context: the item.
        max_tokens: of a window.
        stride: tokens that neighbouring windows share.
        longest: tokens of the longest answer.
    """
    windows = _windows(tokenizer, logits, question, context, max_tokens, stride)
    best = ReferenceAnswer("", 0, 0, 0.0)
    for number, window in enumerate(windows):
        found: dict[str, ReferenceAnswer] = {}
        for first, start in enumerate(window.starts):
            for last in range(first, min(first + longest, len(window.ends))):
                score = float(start * window.ends[last])
                if score < NOTHING or number != _counting(windows, window.first + first, window.first + last):
                    continue
                begin, end = whole_words(context, window.offsets[first][0], window.offsets[last][1])
                text = context[begin:end]
                known = found.get(text.lower(), ReferenceAnswer(text, begin, end, 0.0))
                likeliest = known if known.score else ReferenceAnswer(text, begin, end, 0.0)
                found[text.lower()] = ReferenceAnswer(likeliest.text, likeliest.start, likeliest.end, known.score + score)
        best = max([best, *found.values()], key=lambda answer: answer.score if answer.text else -1.0)
    return best


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
        places = [place for place, sequence in enumerate(encoded.sequence_ids(number)) if sequence == 1]
        said = np.asarray(logits(input_ids, encoded["token_type_ids"][number]), np.float64)[[0, *places]]
        powers = np.exp(said - said.max(axis=0))
        shares = powers / powers.sum(axis=0)
        offsets = [tuple(encoded["offset_mapping"][number][place]) for place in places]
        first = windows[-1].stop - stride if windows else 0
        windows.append(_Window(first, offsets, shares[1:, 0], shares[1:, 1]))
    return windows


def _counting(windows: Sequence[_Window], first: int, last: int) -> int:
    """Number of the window in which a span has most context."""
    most, best = -1.0, 0
    for number, window in enumerate(windows):
        if window.first <= first and last < window.stop:
            before = first - window.first if number > 0 else inf
            behind = window.stop - 1 - last if number < len(windows) - 1 else inf
            if min(before, behind) > most:
                most, best = min(before, behind), number
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


def _is_within_word(text: str, place: int) -> bool:
    """Whether a word goes on from the character before a place to the one behind it."""
    before, behind = text[place - 1], text[place]
    if unicodedata.category(behind)[0] == "M":
        return True
    if _is_in_words(before) and _is_in_words(behind):
        return True
    if behind in JOINERS:
        return _is_in_words(before) and place + 1 < len(text) and _is_in_words(text[place + 1])
    return before in JOINERS and _is_in_words(behind) and place >= 2 and _is_in_words(text[place - 2])


def _is_in_words(character: str) -> bool:
    category = unicodedata.category(character)
    return (
        category == "Nd"
        or category[0] == "M"
        or (category[0] in "LN" and not unicodedata.name(character, "").startswith(UNSPACED))
    )
