"""The rule for answers, written a second time: words, windows and the sum over spellings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from scripts.peers.answer_rule import reference_answer, whole_words


@pytest.mark.parametrize(
    ("text", "span", "widened"),
    [
        ("the old library", "ibra", "library"),
        (" the  old ", "  old ", "old"),
        ("a well-known man", "known", "well-known"),
        ("it cost 1,903.50 then", "903", "1,903.50"),
        ("in 1903.", "19", "1903"),
        ("Cafe\u0301 noir", "Cafe", "Cafe\u0301"),
        ("東京都に住む", "京", "京"),
        ("he said - no", "-", "-"),
        ("   ", " ", ""),
    ],
)
def test_a_span_is_widened_to_whole_words(text: str, span: str, widened: str) -> None:
    start, end = whole_words(text, text.index(span), text.index(span) + len(span))
    assert text[start:end] == widened


class WordTokenizer:
    """One token a word, and windows of the context that share some, as a fast tokenizer of transformers cuts them."""

    def __call__(self, question: str, context: str, max_length: int, stride: int, **_: Any) -> Any:
        offsets, position = [], 0
        for word in context.split():
            start = context.index(word, position)
            position = start + len(word)
            offsets.append((start, position))
        size = max_length - 3  # [CLS] question [SEP] … [SEP], the question a word
        starts = [0]
        while starts[-1] + size < len(offsets):
            starts.append(starts[-1] + size - stride)
        return WordEncoding([offsets[start : start + size] for start in starts], starts)


class WordEncoding(dict[str, Any]):
    def __init__(self, windows: Sequence[Sequence[tuple[int, int]]], starts: Sequence[int]) -> None:
        super().__init__(
            input_ids=[
                [1, 2, 3, *range(start + 10, start + 10 + len(part))] for start, part in zip(starts, windows, strict=True)
            ],
            token_type_ids=[[0, 0, 0, *[1] * len(window)] for window in windows],
            offset_mapping=[[(0, 0), (0, 1), (0, 0), *window] for window in windows],
        )  # fmt: skip

    def sequence_ids(self, number: int) -> list[int | None]:
        return [None, 0, None, *[1] * (len(self["input_ids"][number]) - 3)]


def likely(*words: int) -> Any:
    """A model that finds these words of the context, by number, equally likely to be the whole answer."""

    def logits(ids: Sequence[int], types: Sequence[int]) -> np.ndarray:
        return np.array([[9.0, 9.0] if token - 10 in words else [-9.0, -9.0] for token in ids])

    return logits


def test_the_likeliest_words_are_the_answer() -> None:
    answer = reference_answer(WordTokenizer(), likely(3), "When?", "It opened in 1903 they say.", 99, 1, 5)
    assert (answer.answer, answer.start, answer.end) == ("1903", 13, 17)
    assert answer.score == pytest.approx(1.0, abs=1e-3)


def test_spellings_that_differ_in_case_share_their_chances() -> None:
    context = "Ann met ann and Bob met Eve"
    answer = reference_answer(WordTokenizer(), likely(0, 2), "Who?", context, 99, 1, 1)
    assert (answer.answer, answer.start) == ("Ann", 0)
    assert answer.score == pytest.approx(0.5, abs=1e-3)  # 0.25 each; starts and ends that do not meet are the rest


def test_a_span_counts_in_the_window_where_it_has_most_context() -> None:
    context = " ".join(f"w{number}" for number in range(12))
    answer = reference_answer(WordTokenizer(), likely(5), "Which?", context, 10, 3, 2)
    assert answer.answer == "w5"


def test_a_text_without_a_likely_span_has_the_empty_answer() -> None:
    def none(ids: Sequence[int], types: Sequence[int]) -> np.ndarray:
        return np.array([[99.0, 99.0] if token == 1 else [0.0, 0.0] for token in ids])

    assert reference_answer(WordTokenizer(), none, "When?", "Nobody knows.", 99, 1, 5).answer == ""
