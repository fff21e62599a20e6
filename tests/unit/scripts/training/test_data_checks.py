"""Each thing that may be wrong with the data is told in one sentence, and what is right is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem
from scripts.tasks.text_classification.labels import check_labels
from scripts.training.data import HUGE, Dataset, Example, check_texts, normalized


def rows(pairs: Sequence[tuple[str, Any]], source: str = "a.csv") -> list[Example]:
    return [
        Example(ClassificationItem(text), target, source, f"{source}:{line}") for line, (text, target) in enumerate(pairs, 2)
    ]


def even(count: int) -> list[tuple[str, str]]:
    return [(f"text {number}", "ab"[number % 2]) for number in range(count)]


HELD_OUT = rows([("x", "a"), ("y", "b")], "b.csv")


def test_sound_data_is_not_talked_about() -> None:
    dataset = Dataset(rows(even(40)), HELD_OUT, [])
    assert [*check_labels(dataset, False), *check_texts(dataset)] == []


def test_uneven_and_rare_labels_are_named() -> None:
    pairs = [*even(20), *((f"more {number}", "a") for number in range(200)), ("one", "c")]
    uneven, rare, unjudged = check_labels(Dataset(rows(pairs), HELD_OUT, []), False)
    assert uneven.startswith("labels are uneven: 'a' has 210 training rows, 'c' 1;")
    assert rare == "1 label has fewer than 10 training rows: 'c'"
    assert unjudged == "1 label not in the validation set, not evaluated: 'c'"


def test_many_rare_labels_are_counted() -> None:
    (rare,) = check_labels(
        Dataset(rows([(str(n), f"{n}") for n in range(9)]), rows([("x", f"{n}") for n in range(9)]), []), False
    )
    assert rare == "9 labels have fewer than 10 training rows: '0', '1', '2', '3', '4' and 4 more"


def test_each_of_several_labels_counts() -> None:
    pairs = [(f"text {number}", ("a", "b")) for number in range(10)]
    assert list(check_labels(Dataset(rows(pairs), rows([("x", ("a", "b"))]), []), True)) == []


def test_repeated_rows_are_counted_but_for_case_and_spaces_and_not_where_a_recipe_repeats_them() -> None:
    once = rows([*even(20), ("Text  1", "b"), ("ｔｅｘｔ 2", "a")])
    assert list(check_texts(Dataset([*once, *once], HELD_OUT, []))) == [
        "2 duplicates in the training data (ignoring case and whitespace)"
    ]


def test_a_text_with_two_labels_is_shown_at_both_places() -> None:
    (told,) = check_labels(Dataset(rows([*even(20), ("Text 1", "a")]), HELD_OUT, []), False)
    assert told == "1 text stands in the training data with different labels, for example a.csv:3 and a.csv:22"


def test_a_text_of_a_megabyte_is_told() -> None:
    (told,) = check_texts(Dataset(rows([("x" * 1_000_000, "a"), ("x" * HUGE, "b")]), HELD_OUT, []))
    assert told.startswith("1 text has more than 100,000 characters (a.csv:2: 1,000,000)")


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
