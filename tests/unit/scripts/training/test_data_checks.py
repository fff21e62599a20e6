"""What may be wrong with the data is told with its number, places and what to do, and what is right is passed over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem
from scripts.tasks.question_answering.answers import MISPLACED, check_offsets
from scripts.training.data import Broken, Dataset, Example, normalized
from scripts.training.data_checks import HUGE, Check, check_labels, check_texts, check_vocabulary, label_key
from tests.support.tiny_model import tiny_tokenizer

PARAGRAPH = "The parcel came two weeks after it was promised, and nobody answers my messages about where it was all that time."


def rows(pairs: Sequence[tuple[str, Any]], source: str = "a.csv") -> list[Example]:
    return [
        Example(ClassificationItem(text), target, source, f"{source}:{line}") for line, (text, target) in enumerate(pairs, 2)
    ]


def even(count: int) -> list[tuple[str, str]]:
    return [(f"text {number}", "ab"[number % 2]) for number in range(count)]


HELD_OUT = rows([("one thing", "a"), ("another", "b")], "b.csv")


def of_texts(*texts: str, validation: Sequence[Example] = HELD_OUT) -> dict[str, Check]:
    pairs = [*even(20), *((text, "a") for text in texts)]
    return by_name(check_texts(Dataset(rows(pairs), validation, [])))


def of_labels(*labels: str, validation: Sequence[Example] = HELD_OUT, texts: str = "text") -> dict[str, Check]:
    pairs = [(f"{texts} {number}", label) for number, label in enumerate(labels)]
    return by_name(check_labels(Dataset(rows(pairs), validation, []), False))


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    found = list(checks)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_sound_data_is_not_talked_about() -> None:
    dataset = Dataset(rows(even(40)), HELD_OUT, [])
    assert [*check_labels(dataset, False), *check_texts(dataset)] == []


def test_a_check_reads_as_a_sentence_with_number_places_and_advice() -> None:
    (check,) = of_texts("ｔｅｘｔ 2").values()
    assert str(check) == (
        "duplicates: 1 duplicate in the training data (ignoring case and whitespace), for example a.csv:22; each counts once"
        " more; leave them out unless that is meant"
    )
    assert check.as_dict()["examples"] == ("a.csv:22",)


def test_repeated_rows_are_counted_and_not_where_a_recipe_repeats_them() -> None:
    once = rows([*even(20), ("Text  1", "b"), ("ｔｅｘｔ 2", "a"), *[("text 0", "a")] * 3])
    (check,) = check_texts(Dataset([*once, *once], HELD_OUT, []))
    assert (check.name, check.count, len(check.examples)) == ("duplicates", 5, 3)


def test_texts_that_nearly_repeat_each_other_are_told_and_across_the_split_apart() -> None:
    other = PARAGRAPH.replace("two", "three")
    checks = of_texts(
        PARAGRAPH, other, validation=rows([(PARAGRAPH.replace("parcel", "package"), "a"), ("x y z", "b")], "b.csv")
    )
    assert set(checks) == {"near-duplicates", "near-leakage"}
    assert checks["near-duplicates"].examples == ("a.csv:23 and a.csv:22",)
    assert checks["near-leakage"].examples[0].startswith("b.csv:2 and a.csv:2")


@pytest.mark.parametrize("text", ["-", "!!", "ok", "12", "字"])
def test_texts_that_say_nothing_are_told(text: str) -> None:
    assert of_texts(text)["short-texts"].examples == ("a.csv:22",)


@pytest.mark.parametrize("text", ["bad", "不错", "123"])
def test_a_short_word_may_be_a_text(text: str) -> None:
    assert of_texts(text) == {}


@pytest.mark.parametrize("text", ["für die Größe", "it’s – “fine” €5", "naïve café", "Все хорошо", "ÂGE Âme"])
def test_utf_8_that_was_read_in_another_encoding_is_told_and_what_is_right_is_not(text: str) -> None:
    assert of_texts(text) == {}
    for encoding in ("cp1252", "latin-1"):
        garbled = text.encode("utf-8").decode(encoding, "replace")
        assert {"mojibake", "lost-characters"} & of_texts(garbled).keys()
    assert "mojibake" in of_texts("f\u00c3\u00bcr")


def test_characters_that_were_lost_are_told() -> None:
    assert of_texts("f\ufffdr die")["lost-characters"].count == 1


def test_a_text_of_a_megabyte_is_told() -> None:
    texts = [("x" * 1_000_000, "a"), ("y" * HUGE, "b")]
    (check,) = check_texts(Dataset(rows(texts), HELD_OUT, []))
    assert check.finding == "1 text has more than 100,000 characters (a.csv:2: 1,000,000)"


# --- labels


def test_uneven_rare_and_single_labels_are_named() -> None:
    checks = of_labels(*"ab" * 10, *"a" * 200, "c", "d", "d")
    assert checks["uneven-labels"].finding == "'a' has 210 training rows, 'c' 1"
    assert checks["single-row-labels"].finding == "1 label has one training row: 'c'"
    assert checks["rare-labels"].finding == "1 label has fewer than 10 training rows: 'd'"
    assert checks["labels-not-evaluated"].finding == "2 labels have no row in the validation set: 'c', 'd'"


def test_many_rare_labels_are_counted() -> None:
    labels = [f"{number}" for number in range(9)]
    validation = rows([("one thing", label) for label in labels])
    assert of_labels(*labels, *labels, validation=validation)["rare-labels"].finding == (
        "9 labels have fewer than 10 training rows: '0', '1', '2', '3', '4' and 4 more"
    )


def test_each_of_several_labels_counts() -> None:
    pairs = [(f"text {number}", ("a", "b")) for number in range(10)]
    assert list(check_labels(Dataset(rows(pairs), rows([("x", ("a", "b"))]), []), True)) == []


def test_a_text_with_two_labels_is_shown_at_both_places() -> None:
    (check,) = check_labels(Dataset(rows([*even(20), ("Text 1", "a")]), HELD_OUT, []), False)
    assert (check.name, check.examples) == ("conflicting-labels", ("a.csv:3 and a.csv:22",))
    assert check.finding == "1 text has different labels in different training rows"


def test_labels_as_many_as_rows_are_an_id_and_dates_are_dates() -> None:
    assert of_labels(*(f"T-{number // 2}" for number in range(40)))["ids-as-labels"].count == 20
    assert of_labels(*["01.02.2024", "2.2.2024"] * 20)["dates-as-labels"].count == 2
    assert not {"ids-as-labels", "dates-as-labels"} & of_labels(*["1", "2"] * 20).keys()


@pytest.mark.parametrize(
    ("label", "other"),
    [("not_spam", "not spam"), ("not-spam", "Not  Spam"), ("spam", "sраm"), ("spam.", "spam"), ("Αlpha", "alpha")],
)
def test_labels_that_look_the_same_are_told(label: str, other: str) -> None:
    assert label_key(label) == label_key(other)
    check = of_labels(*[label, other, "x"] * 10)["look-alike-labels"]
    assert check.count == 2
    assert f"{label!r} (10)" in check.finding


@pytest.mark.parametrize(("label", "other"), [("C", "C++"), ("a b", "ab"), ("1", "-1"), ("спам", "spam")])
def test_labels_that_do_not_look_the_same_are_not(label: str, other: str) -> None:
    assert label_key(label) != label_key(other)


# --- the vocabulary, offsets, items


def vocabulary(*texts: str) -> list[Check]:
    tokenizer = tiny_tokenizer()
    return list(check_vocabulary(Dataset(rows([(text, "a") for text in texts]), HELD_OUT, []), tokenizer))


def test_a_language_that_the_vocabulary_hardly_knows_is_told_with_a_base_model_that_does() -> None:
    (check,) = vocabulary("Посылка пришла слишком поздно", "Никто не отвечает")
    assert "100% of them unknown" in check.finding
    assert "--base-model intfloat/multilingual-e5-small" in check.advice


def test_answers_that_are_not_where_they_are_said_to_be_are_counted() -> None:
    broken = [Broken("a.json#1", f"{MISPLACED[1]}; --repair-offsets takes the nearest place"), Broken("a.json#2", "empty text")]
    (check,) = check_offsets(Dataset([], [], broken))
    assert (check.name, check.count, check.examples) == ("wrong-offsets", 1, ("a.json#1",))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (ClassificationItem("A  b\n"), ClassificationItem("a b"), True),
        (ClassificationItem("a", "b"), ClassificationItem("a b"), False),
        (ClassificationItem("ﬁne"), ClassificationItem("fine"), True),
        (QuestionItem("Who?", "x"), QuestionItem("who?", "X"), True),
        (QuestionItem("Who?", "x"), QuestionItem("Who", "? x"), False),
    ],
)
def test_items_are_alike_but_for_case_spaces_and_the_form_of_characters(one: Any, other: Any, alike: bool) -> None:
    assert (normalized(one) == normalized(other)) == alike
