"""Sentences of any text: in order, not overlapping, nothing but whitespace left out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.sentences import LONGEST, sentences


def split(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def test_abbreviations_and_numbers_end_no_sentence() -> None:
    text = "Dr. Smith paid 3.5 million. Did he? Yes! He works in New York."
    assert split(text) == ["Dr. Smith paid 3.5 million.", "Did he?", "Yes!", "He works in New York."]


def test_full_stops_of_other_scripts_are_known() -> None:
    assert split("电影很好。我喜欢！真的吗？") == ["电影很好。", "我喜欢！", "真的吗？"]


def test_headlines_and_list_items_are_sentences_of_their_own() -> None:
    text = "Council closes market hall\n\nThe hall was old. It leaked.\n- fish\n- cheese\n1. bread\nOpening hours\nMonday on"
    assert split(text) == [
        "Council closes market hall", "The hall was old.", "It leaked.", "- fish", "- cheese", "1. bread", "Opening hours",
        "Monday on",
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_wrapped_line_goes_on_in_the_next(end: str) -> None:
    text = f"The engineers of the city had warned for many years that the roof of{end}Market Hall could fall.{end}It did."
    assert split(text) == [text[: text.index("It did") - len(end)], "It did."]
    assert split(f"It was{end}not so.") == [f"It was{end}not so."]


def test_a_blank_line_ends_a_sentence_whatever_follows() -> None:
    assert split("it was\n\nnot so") == ["it was", "not so"]
    assert split("it was\r\n\r\nnot so") == ["it was", "not so"]


def test_text_without_any_mark_is_broken_between_words() -> None:
    text = "word " * 1000
    found = split(text)
    assert all(len(one) <= LONGEST and one == one.strip() for one in found)
    assert " ".join(found) == text.strip()


def test_a_word_longer_than_any_sentence_is_broken_too() -> None:
    assert "".join(split("x" * (3 * LONGEST + 5))) == "x" * (3 * LONGEST + 5)


@pytest.mark.parametrize(
    ("text", "found"), [("", []), (" \n\t ", []), ("...", ["..."]), ("One", ["One"]), ("\r\n a \r\n", ["a"])]
)
def test_texts_with_hardly_anything_in_them(text: str, found: list[str]) -> None:
    assert split(text) == found


@given(st.lists(st.sampled_from([*"ab .!?\n\r-1", "é", "🙂", "。", "\u2028", "Dr. ", "\t", "A"])).map("".join))
def test_every_character_that_is_no_space_is_in_exactly_one_sentence(text: str) -> None:
    found = sentences(text)
    assert all(start < end for start, end in found)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(found))
    assert "".join("".join(text[start:end].split()) for start, end in found) == "".join(text.split())


def test_a_long_line_ends_a_sentence_before_a_blank_line_or_after_a_colon() -> None:
    line = "The engineers of the city had warned for many years that the roof could fall"
    assert split(f"{line}\n\nIt did not") == [line, "It did not"]
    assert split(f"{line}:\nIt did not") == [f"{line}:", "It did not"]
