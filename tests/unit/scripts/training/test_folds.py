"""Folds: each row is judged once, rows that are alike together, labels spread evenly, and corrections never judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidSettings
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem
from scripts.training import folds as module
from scripts.training.data import Example, normalized
from scripts.training.folds import Folds

LONG = "the courier left my parcel with a neighbour who has since moved to another town and took it along"


def row(text: str, target: Any = "good", source: str = "a.csv") -> Example:
    return Example(ClassificationItem(text), target, source, f"{source}:{text}")


def labels_of(example: Example) -> Sequence[str]:
    return example.target if isinstance(example.target, tuple) else (example.target,)


def cut(rows: Sequence[Example], num_folds: int, labels: Any = labels_of, seed: int = 0, **more: Any) -> Folds:
    """Folds of texts."""
    return module.cut(rows, num_folds, lambda example: normalized(example.item), labels, seed, **more)


def texts(examples: Sequence[Example]) -> list[str]:
    return [example.item.text for example in examples]


def parts(folds: Folds) -> list[list[str]]:
    """The texts that each fold judges."""
    return [texts(folds.dataset(number).validation) for number in range(folds.num_folds)]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.sampled_from(["x", "y"])), min_size=1, max_size=40), st.integers(2, 4)
)
def test_a_row_is_judged_by_one_fold_at_most_and_its_like_is_never_trained_on_meanwhile(
    rows: list[tuple[str, str]], num_folds: int
) -> None:
    examples = [
        row(f"{text} {'!' * (number % 2)}".upper() if number % 3 else text, label) for number, (text, label) in enumerate(rows)
    ]
    try:
        folds = cut(examples, num_folds, labels_of)
    except InvalidSettings:
        return
    judged: Counter[int] = Counter()
    for number in range(num_folds):
        dataset = folds.dataset(number)
        judged.update(map(id, dataset.validation))
        assert not {normalized(entry.item) for entry in dataset.validation} & {
            normalized(entry.item) for entry in dataset.train
        }
        assert len(dataset.train) + len(dataset.validation) == len(examples)
        assert {label for entry in dataset.validation for label in labels_of(entry)} <= {
            label for entry in dataset.train for label in labels_of(entry)
        }
    assert set(judged.values()) == {1}
    assert set(judged) == set(map(id, folds.judged))


def test_each_label_is_spread_evenly_and_folds_are_of_one_size() -> None:
    rows = [row(f"text {number}", "rare" if number % 5 == 0 else "common") for number in range(50)]
    for number in range(5):
        held_out = cut(rows, 5, labels_of).dataset(number).validation
        assert Counter(entry.target for entry in held_out) == {"rare": 2, "common": 8}


def test_each_of_several_labels_a_text_is_spread() -> None:
    rows = [row(f"text {number}", ("all", *(["some"] if number < 4 else []))) for number in range(20)]
    parts = [cut(rows, 4, labels_of).dataset(number).validation for number in range(4)]
    assert [len(part) for part in parts] == [5, 5, 5, 5]
    assert [sum("some" in entry.target for entry in part) for part in parts] == [1, 1, 1, 1]


def test_texts_that_nearly_repeat_each_other_are_in_one_fold_and_that_is_said() -> None:
    rows = [row(f"{LONG} {number}") for number in range(3)] + [row(f"text {number}") for number in range(9)]
    folds = cut(rows, 4, labels_of)
    assert [sum(text.startswith(LONG) for text in part) for part in parts(folds) if part].count(3) == 1
    assert any(note.startswith("3 rows stay in one fold with others") for note in folds.notes)


def test_questions_about_one_context_are_in_one_fold() -> None:
    rows = [
        Example(QuestionItem(f"question {number}", f"context {number // 4}"), (), "a.json", str(number)) for number in range(24)
    ]
    folds = module.cut(rows, 3, lambda example: example.item.context, lambda example: ())
    for number in range(3):
        dataset = folds.dataset(number)
        assert len(dataset.validation) == 8
        assert not {entry.item.context for entry in dataset.validation} & {entry.item.context for entry in dataset.train}


def test_a_label_with_one_text_is_always_trained_on_and_one_with_few_is_named() -> None:
    rows = [row(f"text {number}") for number in range(9)] + [row("alone", "single"), row("one", "few"), row("two", "few")]
    folds = cut(rows, 3, labels_of)
    assert all("alone" in texts(folds.dataset(number).train) for number in range(3))
    assert "alone" not in texts(folds.judged)
    assert folds.notes == (
        [
            "rows of 'single' are trained on in every fold and judged in none, for all rows of such a label are in one place",
            "1 label has fewer rows than there are folds, and some folds judge none of them: 'few' (2)",
        ]
    )


def test_a_row_that_an_epoch_sees_several_times_is_judged_once_and_trained_on_as_often() -> None:
    often = row("often")
    folds = cut([often, often, often, *(row(f"text {number}") for number in range(3))], 2, labels_of)
    datasets = [folds.dataset(number) for number in range(2)]
    assert sorted(texts(folds.judged)) == ["often", "text 0", "text 1", "text 2"]
    assert sorted(texts(dataset.train).count("often") for dataset in datasets) == [0, 3]
    assert sorted(texts(dataset.validation).count("often") for dataset in datasets) == [0, 1]


def test_a_correction_is_trained_on_in_place_of_its_row_and_left_out_while_that_is_judged() -> None:
    rows = [row(f"text {number}") for number in range(6)]
    corrections = [row("text 0", "bad", "feedback.db"), row("other", "bad", "feedback.db")]
    folds = cut(rows, 2, labels_of, corrections=corrections)
    for number in range(2):
        dataset = folds.dataset(number)
        assert not any(entry.source == "feedback.db" for entry in dataset.validation)
        is_held_out = "text 0" in texts(dataset.validation)
        trained = [entry.target for entry in dataset.train if entry.item.text == "text 0"]
        assert trained == ([] if is_held_out else ["bad"])
        assert (dataset.num_corrections, dataset.num_replaced) == ((1, 0) if is_held_out else (2, 1))
    assert len(folds.judged) == 6


def test_a_correction_that_nearly_repeats_a_row_is_left_out_while_that_is_judged() -> None:
    rows = [row(LONG), *(row(f"text {number}") for number in range(3))]
    folds = cut(rows, 2, labels_of, corrections=[row(f"{LONG} 7", "bad", "feedback.db")])
    assert {folds.dataset(number).num_corrections for number in range(2) if LONG in parts(folds)[number]} == {0}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [row("one"), row("two")],
            "2 rows cannot be cut into 3 folds, for only 2 parts .*; there can be 2 folds; for more, bring more rows",
        ),
        ([row("same")] * 5, "1 row cannot be cut"),
        ([row("one", "a"), row("two", "b"), row("three", "c")], "only 0 parts of them can be held out: .*; bring more rows"),
    ],
)
def test_too_few_rows_are_refused_with_the_folds_that_there_may_be(rows: list[Example], sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        cut(rows, 3, labels_of)


def test_the_seed_decides_the_folds_and_the_order_of_labels_does_not() -> None:
    rows = [row(f"text {number}", "ab"[number % 2]) for number in range(40)]
    assert parts(cut(rows, 4, labels_of, 1)) == parts(cut(rows, 4, labels_of, 1))
    assert parts(cut(rows, 4, labels_of, 1)) != parts(cut(rows, 4, labels_of, 2))
