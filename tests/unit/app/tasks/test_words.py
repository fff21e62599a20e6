"""Words as a reader sees them, and their tokens."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.words import gap, with_tokens, words


def texts(text: str) -> list[str]:
    return [text[start:end] for start, end in words(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't like it!!!", ["I", "don't", "like", "it", "!!!"]),
        ("the actors' 'best' film", ["the", "actors", "'", "'", "best", "'", "film"]),
        ("well-made, 3.5", ["well", "-", "made", ",", "3", ".", "5"]),
        ("a\t\tb\r\n c", ["a", "b", "c"]),
        ("Cafe\u0301 e\u0301tude", ["Cafe\u0301", "e\u0301tude"]),
        ("电影很好。", ["电", "影", "很", "好", "。"]),
        ("👩\u200d👩\u200d👧 👍🏽ok 🇩🇪", ["👩\u200d👩\u200d👧", "👍🏽", "ok", "🇩🇪"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        (" \n", []),
    ],
)
def test_words_are_what_a_reader_takes_for_one(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@given(st.text())
def test_words_are_in_order_and_leave_nothing_but_whitespace_out(text: str) -> None:
    spans = words(text)
    assert all(start < end for start, end in spans)
    assert all(span[1] <= other[0] for span, other in pairwise(spans))
    assert "".join(texts(text)) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Good. Bad", [0, 2]), ("good, bad", [0, 1]), ("good\nbad", [2]), ("3.5", [0, 0]), ("好。坏", [0, 2])],
)
def test_a_gap_is_wider_between_clauses_and_widest_between_sentences(text: str, expected: list[int]) -> None:
    spans = words(text)
    assert [gap(text, span, other) for span, other in pairwise(spans)] == expected


def test_a_word_has_the_tokens_that_begin_in_it() -> None:
    assert with_tokens([(0, 5), (6, 8)], [(1, (0, 4)), (2, (4, 5)), (3, (6, 8))]) == [((0, 5), [1, 2]), ((6, 8), [3])]


def test_words_that_share_a_token_are_one_word() -> None:
    assert with_tokens([(0, 1), (1, 6), (7, 8)], [(1, (0, 6)), (2, (7, 8))]) == [((0, 6), [1]), ((7, 8), [2])]


def test_a_token_with_the_space_before_its_word_is_of_that_word() -> None:
    assert with_tokens([(0, 2), (3, 5)], [(1, (0, 2)), (2, (2, 5))]) == [((0, 2), [1]), ((3, 5), [2])]


def test_words_without_a_token_and_tokens_without_a_word_are_left_out() -> None:
    assert with_tokens([(0, 2), (3, 5)], [(1, (0, 2)), (2, (2, 3))]) == [((0, 2), [1])]
