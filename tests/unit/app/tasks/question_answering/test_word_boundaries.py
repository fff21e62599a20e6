"""Spans grow to the words of the text itself, and to characters where a script has no blanks between words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.question_answering.word_boundaries import JOINERS, WordBoundaries

LETTERS = st.sampled_from([*"aZé9½ßжש", "e\u0301", "हि", "²"])
PARTS = st.one_of(
    LETTERS,
    st.sampled_from([*" \t\n.,;$%()-'’:/@_", "東", "京", "カ", "ー", "한", "ก", "น้ำ", "🙂", "👍🏽", "\u200d", "\u0301"]),
)


def widened(text: str, part: str, whole_words: bool = True) -> str:
    start = text.index(part)
    begin, end = WordBoundaries(text, whole_words).widened((start, start + len(part)))
    return text[begin:end]


@pytest.mark.parametrize(
    ("text", "part", "word"),
    [
        ("cost $1,250,000 in all", "1", "1,250,000"),
        ("cost $1,250,000 in all", "$1", "$1,250,000"),
        ("cost $1,250,000 in all", "$", "$"),
        ("of 2,469.5 kg.", "2,469", "2,469.5"),
        ("of 2,469.5 kg.", "5", "2,469.5"),
        ("at 14:30.", "30", "14:30"),
        ("by Hollingsworth.", "Holling", "Hollingsworth"),
        ("by Jean-Luc O'Neil", "Luc O", "Jean-Luc O'Neil"),
        ("O’Neil’s house", "Neil", "O’Neil’s"),
        ("the dogs' home", "dogs", "dogs"),
        ("see http://www.example.org/a_b/c.html?x=1 now", "example", "www.example.org/a_b/c.html"),
        ("ask ann.smith@example.org.", "smith", "ann.smith@example.org"),
        ("a snake_case name", "snake", "snake_case"),
        ("a--b c..d", "a", "a"),
        ("(1903).", "190", "1903"),
        ("'tis so", "tis", "tis"),
        ("-5 degrees", "5", "5"),
        ("a well\u2011known case", "known", "well\u2011known"),
        ("Ünïcödé cafe\u0301s", "caf", "cafe\u0301s"),
        ("e\u0301-b", "b", "e\u0301-b"),
        ("हिन्दी भाषा", "हि", "हिन्दी"),
        ("می\u200cخواهم بروم", "می", "می\u200cخواهم"),
        ("Donau\u00addampf", "dampf", "Donau\u00addampf"),
        ("Привет, как", "рив", "Привет"),
        ("10 m² of it", "m", "m²"),
        ("東京は2020年に", "20", "2020"),
        ("東京2020大会", "京20", "京2020"),
        ("２０２０年", "２０", "２０２０"),
        ("ソニーのPlayStation5は", "Play", "PlayStation5"),
        ("พ.ศ. ๒๕๖๓ ปี", "๒๕", "๒๕๖๓"),
    ],
)
def test_a_span_grows_to_the_words_that_it_begins_and_ends_in(text: str, part: str, word: str) -> None:
    assert widened(text, part) == word


@pytest.mark.parametrize(
    ("text", "part", "character"),
    [
        ("東京は日本の首都です。", "東京", "東京"),
        ("图书馆在北京。", "北", "北"),
        ("ラーメン", "ラー", "ラー"),
        ("한국어 도서관", "국", "국"),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", "\u1161", "\u1112\u1161\u11ab"),
        ("か\u3099き", "か", "か\u3099"),
        ("ｶﾞｷﾞ", "ｶ", "ｶﾞ"),
        ("น้ำใจ", "น", "น้ำ"),
        ("ນ້ຳໃຈ", "ນ", "ນ້ຳ"),
        ("ស្ត្រី", "ត", "ស្ត្រី"),
        ("မြန်မာ", "န", "န်"),
        ("x 👩\u200d👩\u200d👧 y", "👧", "👩\u200d👩\u200d👧"),
        ("👍🏽👍🏽", "👍", "👍🏽"),
        ("🇩🇪🇫🇷", "🇪", "🇩🇪"),
        ("❤\ufe0f1\ufe0f\u20e3", "❤", "❤\ufe0f"),
        ("1\ufe0f\u20e3", "1", "1\ufe0f\u20e3"),
    ],
)
@pytest.mark.parametrize("whole_words", [True, False])
def test_without_blanks_between_words_a_span_grows_to_whole_characters(
    text: str, part: str, character: str, whole_words: bool
) -> None:
    assert widened(text, part, whole_words) == character


@pytest.mark.parametrize(("part", "kept"), [("2,469", "2,469"), ("Holling", "Holling"), ("caf", "caf"), ("e", "e\u0301")])
def test_words_may_be_cut_where_the_caller_wants_it_and_characters_never(part: str, kept: str) -> None:
    assert widened("2,469.5 cafe\u0301 Hollingsworth", part, whole_words=False) == kept


def test_blanks_at_the_ends_belong_to_no_answer() -> None:
    text = "a \u3000\tb\u00a0 c"
    assert WordBoundaries(text).widened((1, 7)) == (4, 5)
    assert WordBoundaries(text).widened((1, 4)) == (4, 4)


@given(st.lists(PARTS, min_size=1).map("".join), st.data())
def test_no_span_ends_within_a_word(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    boundaries = WordBoundaries(text)
    begin, finish = boundaries.widened((start, end))
    found = text[begin:finish]
    assert found == found.strip()
    if not found:
        assert not text[start:end].strip()
        return
    assert begin <= start + len(text[start:end]) - len(text[start:end].lstrip())
    assert boundaries.widened((begin, finish)) == (begin, finish)
    plain = [place for place in (begin, finish) if 0 < place < len(text)]
    for place in plain:
        around = text[place - 1 : place + 1]
        assert not (around.isascii() and around.isalnum())
        assert not (around[0].isascii() and around[0].isalnum() and around[1] in JOINERS and text[place + 1 : place + 2] == "a")


@given(LETTERS, st.sampled_from(JOINERS), LETTERS)
def test_one_joiner_between_two_letters_joins_them_and_two_do_not(first: str, joiner: str, second: str) -> None:
    assert widened(f"({first}{joiner}{second})", first) == f"{first}{joiner}{second}"
    assert widened(f"({first}{joiner}{joiner}{second})", first) == first


@pytest.mark.parametrize(
    "text", ["a" * 60_000, "a-" * 30_000, "東" * 60_000, "e\u0301" * 30_000, "🇩" * 60_000, "\u0301" * 60_000]
)
def test_a_long_text_without_blanks_is_searched_a_few_times_at_most(text: str) -> None:
    boundaries = WordBoundaries(text)
    for place in range(0, len(text), len(text) // 1000):
        begin, end = boundaries.widened((place, place + 1))
        assert begin <= place < end
    assert sum(stop - start for start, stop in boundaries._units) <= 3 * len(text)


def test_a_word_of_a_thousand_characters_is_kept_whole() -> None:
    for before in (0, 1, 999, 1000, 1001, 2500):
        text = "東" * before + "a" * 999 + "東" * 3000
        for place in (before, before + 500, before + 998):
            assert WordBoundaries(text).widened((place, place + 1)) == (before, before + 999)
