"""Sentences of any text: in order, not overlapping, nothing but whitespace left out."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.tasks.sentences import LANGUAGE, LONGEST, READ_AT_ONCE, sentences
from scripts.peers.sentence_boundaries import BoundaryCase, cases


def split(text: str, language: str = LANGUAGE) -> list[str]:
    return [text[start:end] for start, end in sentences(text, language)]


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
    assert all(len(match) <= LONGEST and match == match.strip() for match in found)
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
    assert all(entry[1] <= other[0] for entry, other in itertools.pairwise(found))
    assert "".join("".join(text[start:end].split()) for start, end in found) == "".join(text.split())


def test_a_long_line_ends_a_sentence_before_a_blank_line_or_after_a_colon() -> None:
    line = "The engineers of the city had warned for many years that the roof could fall"
    assert split(f"{line}\n\nIt did not") == [line, "It did not"]
    assert split(f"{line}:\nIt did not") == [f"{line}:", "It did not"]


UNDECIDED = {"待って…何だろう？"}
"""An ellipsis in Japanese mostly stands within a sentence."""


@pytest.mark.parametrize(
    "case", [case for case in cases("tuned") if case.text not in UNDECIDED], ids=lambda case: case.text[:60]
)
def test_hard_cases_are_split_where_a_person_drew_the_boundaries(case: BoundaryCase) -> None:
    assert split(case.text, case.language) == case.sentences


def test_of_the_cases_that_no_table_was_tuned_on_all_but_one_at_most_are_split_as_drawn() -> None:
    aside = cases("kept_aside")
    assert len(aside) >= 60
    assert sum(split(case.text, case.language) != case.sentences for case in aside) <= 1


def test_words_that_look_like_abbreviations_end_sentences_and_abbreviations_before_numbers_do_not() -> None:
    text = "It was me. A man came. He said no. I left. No. 5 is out. Who? Me. I know. She may. Anna, too. He is ill. Al knows."
    assert split(text) == [
        "It was me.", "A man came.", "He said no.", "I left.", "No. 5 is out.", "Who?", "Me.", "I know.", "She may.",
        "Anna, too.", "He is ill.", "Al knows.",
    ]  # fmt: skip


def test_japanese_goes_on_after_what_somebody_said() -> None:
    assert split("彼は「行く。」と言った。私も行く。", "ja") == ["彼は「行く。」と言った。", "私も行く。"]


def test_in_german_a_number_behind_an_article_is_an_ordinal_and_another_ends_its_sentence() -> None:
    text = "Am 3. Advent kam sein 2. Kind. Er ist 25. Anna ist 30. Der 1. FC siegt. Es kostet 20. Peter zahlt."
    assert split(text, "de") == [
        "Am 3. Advent kam sein 2. Kind.", "Er ist 25.", "Anna ist 30.", "Der 1. FC siegt.", "Es kostet 20.", "Peter zahlt.",
    ]  # fmt: skip
    assert split("3. Liga: Sieg.", "de") == ["3. Liga: Sieg."]


def test_a_letter_after_a_reference_is_its_number_and_after_a_word_begins_a_sentence() -> None:
    assert split("See Vol. I of it. Fig. B shows it. Turn up the vol. I said no. I left.") == [
        "See Vol. I of it.", "Fig. B shows it.", "Turn up the vol.", "I said no.", "I left.",
    ]  # fmt: skip


def test_a_missing_blank_after_a_full_stop_joins_no_sentences_but_names_with_a_full_stop_stay_whole() -> None:
    assert split("It is an ASP.NET page from the URN.These are many.") == [
        "It is an ASP.NET page from the URN.",
        "These are many.",
    ]


@pytest.mark.parametrize(
    ("text", "language", "other"),
    [
        ("Am 3. Quartal war es. Gut so.", "de", "en"),
        ("Il y a env. 5 chats. Ils dorment.", "fr", "en"),
        ("La Sra. Paz va al mar. Ana no.", "es", "fr"),
    ],
)
def test_the_language_decides_what_is_an_abbreviation(text: str, language: str, other: str) -> None:
    assert len(split(text, language)) == 2
    assert split(text, language) != split(text, other)


def test_a_region_behind_the_language_changes_nothing_and_an_unknown_language_is_split_by_its_marks() -> None:
    text = "Er kommt z. B. Montag. Dann geht er."
    assert split(text, "de-AT") == split(text, "DE") == split(text, "de") == ["Er kommt z. B. Montag.", "Dann geht er."]
    assert split("Ena dva. Tri štiri! Pet?", "xx") == ["Ena dva.", "Tri štiri!", "Pet?"]


def test_a_paragraph_longer_than_what_is_split_at_once_is_split_as_its_sentences_are() -> None:
    parts = [f'The {number}th time Mr. Ray said "No. {number} is mine," and left.' for number in range(READ_AT_ONCE // 8)]
    assert split(" ".join(parts)) == parts


TANGLED = st.lists(
    st.sampled_from(
        [
            *"ab .!?…\n-1\"'“”«»„()（）「」。¿",
            *("No. ", "z. B. ", "EE. UU. ", "M. ", "J. ", "I. ", "etc. ", "A", "L'", "……", "Dr. "),
        ]
    )
).map("".join)


@given(TANGLED, st.sampled_from(["en", "de", "fr", "es", "zh", "ja", "xx"]))
def test_in_every_language_every_character_is_in_exactly_one_sentence(text: str, language: str) -> None:
    found = sentences(text, language)
    assert all(start < end for start, end in found)
    assert all(entry[1] <= other[0] for entry, other in itertools.pairwise(found))
    assert "".join("".join(text[start:end].split()) for start, end in found) == "".join(text.split())


@pytest.mark.parametrize(
    "unit", ["a.a.a.", "a. ", "No. ", "“a. ", "« a. ", "「a。", "(a. ", "（a。", "a\n", "a.\n", "... ", "J. R. "]
)
def test_the_time_grows_with_the_text_and_no_faster(unit: str) -> None:
    language = "zh" if "。" in unit else "en"

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        began = time.process_time()
        sentences(text, language)
        return time.process_time() - began

    short, long = (min(seconds(size) for _ in range(2)) for size in (3_000, 24_000))
    assert long < 24 * max(short, 0.001)  # 8 where it grows with the text, 64 with its square


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It cost est. $5 million in all."),
        ("en", "The budget is max. US$5 million a year."),
        ("en", "It holds approx. ~30 people."),
        ("de", "Das sind max. €5 am Tag."),
        ("fr", "Cela coûte max. €5 ici."),
        ("es", "Cuesta aprox. $5 hoy."),
    ],
)
def test_a_number_behind_a_currency_s_sign_is_a_number(language: str, text: str) -> None:
    assert split(text, language) == [text]


@pytest.mark.parametrize(
    ("language", "first", "second"),
    [
        ("en", "He left in May.", "Anna stayed."),
        ("en", "It has a fine narrative arc.", "Anna wept."),
        ("en", "She was ill.", "5 others died."),
        ("en", "She paid me.", "$5 was enough."),
        ("en", "“It is me.”", "I agreed."),
        ("en", 'He said: "It is over."', "Then he left."),
        ("de", "Er trug einen Bart.", "Dann ging er."),
        ("fr", "« C'est fini. »", "Il partit."),
    ],
)
def test_a_word_like_any_other_and_what_somebody_said_end_a_sentence(language: str, first: str, second: str) -> None:
    assert split(f"{first} {second}", language) == [first, second]
