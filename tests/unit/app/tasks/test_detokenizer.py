"""Text that is told while tokens come: nothing is told twice, taken back, lost, or told before it is certain."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.detokenizer import BlankRemover, IncrementalDecoder, RowsDetokenizer, StopFinder, without_blanks
from app.tasks.tokenizer import Tokenizer
from tests.support.writing import byte_level_json, metaspace_json, word_piece_json

TOKENIZERS = {
    "bytes": Tokenizer(byte_level_json(), 64),
    "metaspace": Tokenizer(metaspace_json(), 64),
    "pieces": Tokenizer(word_piece_json(), 64),
}
TEXTS = ["the film was very good.", "Zoë → 東京 👩‍🚀 é", " the  film\nthe", "films, film.", "n't the", "👍🏽🇩🇪", "a"]


def decoder_of(tokenizer: Tokenizer) -> IncrementalDecoder:
    return IncrementalDecoder(lambda ids: tokenizer.decode(ids, skip_special_tokens=True))


def told(tokenizer: Tokenizer, ids: Sequence[int], size: int = 1) -> list[str]:
    decoder = decoder_of(tokenizer)
    return [*(decoder.push(ids[start : start + size]) for start in range(0, len(ids), size)), decoder.end()]


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_all_that_is_told_is_the_text(kind: str, text: str, size: int) -> None:
    tokenizer = TOKENIZERS[kind]
    (tokens,) = tokenizer.pieces().encode([text])
    assert "".join(told(tokenizer, tokens.ids, size)) == tokenizer.decode(tokens.ids, skip_special_tokens=True)


@given(text=st.text(st.characters(exclude_categories=("Cs",)), max_size=20))
@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
def test_any_text_is_told_whole_and_no_half_of_a_character_is(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    (tokens,) = tokenizer.pieces().encode([text])
    parts = told(tokenizer, tokens.ids)
    assert "".join(parts) == tokenizer.decode(tokens.ids, skip_special_tokens=True)
    assert all("\ufffd" not in part for part in parts) or "\ufffd" in text


def test_a_character_is_held_back_until_its_last_byte() -> None:
    tokenizer = TOKENIZERS["bytes"]
    (tokens,) = tokenizer.pieces().encode(["a👍b"])
    assert told(tokenizer, tokens.ids) == ["a", "", "", "", "👍", "b", ""]


@pytest.mark.parametrize("kind", ["bytes", "metaspace"])
def test_bytes_that_are_no_character_are_told_as_soon_as_that_is_certain(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]
    (tokens,) = tokenizer.pieces().encode(["👍"])
    incomplete = tokens.ids[-4:-1]
    (after,) = tokenizer.pieces().encode(["the"])
    parts = told(tokenizer, [*incomplete, *after.ids, *after.ids])
    assert parts[:3] == ["", "", ""]
    assert parts[3].startswith("\ufffd")
    assert "the" in "".join(parts)


def test_the_end_flushes_half_a_character() -> None:
    tokenizer = TOKENIZERS["bytes"]
    (tokens,) = tokenizer.pieces().encode(["a👍"])
    assert told(tokenizer, tokens.ids[:-1])[-1] == "\ufffd"


def test_special_tokens_are_no_text() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    (tokens,) = tokenizer.pieces().encode(["the film"])
    assert "".join(told(tokenizer, [0, 1, *tokens.ids, 1, 9999])) == "the film"


# --- stop strings


@pytest.mark.parametrize(
    ("stop", "parts", "expected"),
    [
        (["\n"], ["a\nb", "c"], ["a", "", ""]),
        (["###"], ["a#", "#", "b"], ["a", "", "##b", ""]),
        (["###"], ["a#", "##", "b"], ["a", "", "", ""]),
        (["abc", "b"], ["xab", "c"], ["xa", "", ""]),
        (["aab"], ["aa", "ab", "x"], ["", "a", "", ""]),
        (["end"], ["the e", "n"], ["the ", "", "en"]),
    ],
)
def test_a_text_ends_before_the_first_stop_string(stop: list[str], parts: list[str], expected: list[str]) -> None:
    finder = StopFinder(stop)
    assert [*(finder.push(part) for part in parts), finder.end()] == expected


@given(text=st.text("ab#", max_size=12), stop=st.lists(st.text("ab#", min_size=1, max_size=3), max_size=3))
def test_it_is_the_same_text_whatever_parts_it_comes_in(text: str, stop: list[str]) -> None:
    finder = StopFinder(stop)
    told_text = "".join([*(finder.push(character) for character in text), finder.end()])
    ends = [place + len(string) for string in stop for place in range(len(text)) if text.startswith(string, place)]
    seen = text[: min(ends)] if ends else text  # nothing is written behind the first that is complete
    starts = [seen.find(string) for string in stop if string in seen]
    assert told_text == (seen[: min(starts)] if starts else seen)
    assert finder.is_hit == bool(starts)


# --- several rows


def test_rows_are_told_in_their_order_with_what_stands_between_them() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    first, second = (list(tokens.ids) for tokens in tokenizer.pieces().encode(["the film", "was good"]))
    rows = RowsDetokenizer(lambda ids: tokenizer.decode(ids, skip_special_tokens=True), (), ("> ", "\n\n", " <"))
    assert rows.push(1, second, is_last=True) == ""
    assert rows.push(0, first[:1], is_last=False) == "> the"
    assert rows.push(0, [*first[1:], 1], is_last=True) == " film\n\nwas good <"
    assert rows.end() == ""


def test_of_several_texts_of_a_piece_the_first_is_told() -> None:
    tokenizer = TOKENIZERS["metaspace"]
    first, second = (list(tokens.ids) for tokens in tokenizer.pieces().encode(["the film", "was good"]))
    rows = RowsDetokenizer(lambda ids: tokenizer.decode(ids, skip_special_tokens=True), (), ("", ""), rows_per_piece=2)
    assert rows.push(1, second, is_last=True) == ""
    assert rows.push(0, first, is_last=True) == "the film"


# --- blanks before punctuation


BLANKS = st.lists(st.sampled_from([" ", " ", "'", ".", "?", ",", "n't", "m", "s", "ve", "re", "a", " ' "]), max_size=16)


def without_blanks_told(parts: Sequence[str]) -> list[str]:
    remover = BlankRemover()
    return [*map(remover.push, parts), remover.end()]


@given(parts=BLANKS)
def test_blanks_are_left_out_of_pieces_as_of_the_whole(parts: list[str]) -> None:
    assert "".join(without_blanks_told(parts)) == without_blanks("".join(parts))


def test_no_more_is_held_back_than_the_last_word() -> None:
    parts = ["the film", " was", " good", " ", ".", " it", " did", " n't"]
    assert without_blanks_told(parts) == ["the", " film", " was", " good", "", ".", " it", " did", "n't"]


def test_a_stop_string_is_looked_for_behind_them() -> None:
    detokenizer = RowsDetokenizer(lambda ids: "".join(map(chr, ids)), ("d.",), ("", ""), removes_blanks=True)
    parts = [detokenizer.push(0, [ord(character)], character == "!") for character in "good . x!"]
    assert "".join([*parts, detokenizer.end()]) == "goo"
