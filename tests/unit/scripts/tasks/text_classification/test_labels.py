"""Labels are one or several a text, some stand for none, and those that look the same are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidSettings
from scripts.tasks.text_classification.labels import LabelKind
from scripts.training.recipe import Recipe


def kind(*cells: Any, **fields: Any) -> LabelKind:
    return LabelKind.of(Recipe(data=["x"], **fields), cells)


def read(*cells: Any, **fields: Any) -> list[Any]:
    found = kind(*cells, **fields)
    return [found.read(cell) for cell in cells]


@pytest.mark.parametrize(
    "cell",
    [
        ["positive", "film"],
        np.array(["positive", "film"]),
        "['positive', 'film']",
        '["positive", "film"]',
        "('positive', 'film')",
        "['positive' 'film']",
        " [ 'positive',  'film' ] ",
    ],
)
def test_lists_in_any_spelling_make_a_multi_label_problem(cell: Any) -> None:
    assert read("negative", cell) == [("negative",), ("film", "positive")]


def test_lists_of_one_label_each_make_one_too() -> None:
    assert read("['a']", "['b']") == [("a",), ("b",)]
    assert read("[unclear] a", "['b']") == ["[unclear] a", "b"]


@pytest.mark.parametrize("sign", [",", ";", "|"])
def test_labels_that_are_joined_in_a_cell_are_refused_with_the_way_out(sign: str) -> None:
    cells = [f"positive{sign}film", f"negative{sign}film", f"positive{sign}book", f"negative{sign}book"]
    with pytest.raises(InvalidSettings) as caught:
        kind(*cells)
    assert f"say --label-separator {sign!r}" in caught.value.detail
    assert "--problem-type single_label_classification" in caught.value.detail
    assert read(*cells, problem_type="single_label_classification") == cells
    several = read(*cells, problem_type="multi_label_classification", label_separator=sign)
    assert several[0] == ("film", "positive")


def test_a_separator_that_is_named_means_several_labels_and_it_is_told() -> None:
    assert read("a;b", "b", "", label_separator=";") == [("a", "b"), ("b",), ()]
    found = kind("a;b", "b", label_separator=";")
    assert found.notes[0] == "several labels a text, with ';' between them (--label-separator), in 1 cells"
    assert found.is_separated
    assert "in 0 cells" in kind("a", "b", label_separator=";").notes[0]
    with pytest.raises(InvalidSettings, match="leave one of them out"):
        kind("a;b", "b", label_separator=";", problem_type="single_label_classification")


def test_a_separator_that_is_another_than_said_is_told() -> None:
    with pytest.raises(InvalidSettings, match="--label-separator ','"):
        kind("positive,film", "positive", "film", problem_type="multi_label_classification")


def test_a_label_with_a_comma_of_its_own_is_a_label_and_told() -> None:
    found = kind("Arts, Music", "Food, Drink", "Korea, South", "Korea, North")
    assert found.read("Arts, Music") == "Arts, Music"
    assert any("'Arts, Music'" in note and "--label-separator" in note for note in found.notes)
    assert read(["a, b"], ["a", "b"]) == [("a, b",), ("a", "b")]


def test_rows_of_zeros_and_ones_are_no_labels() -> None:
    with pytest.raises(InvalidSettings, match="rows of 3 zeros and ones"):
        kind([0, 1, 1], [1, 0, 0])
    assert read([0, 1], [1]) == [("0", "1"), ("1",)]


@pytest.mark.parametrize("cell", [None, float("nan"), np.nan, "", " ", "nan", "NaN", "<NA>", "\u200b"])
def test_nothing_is_no_label(cell: Any) -> None:
    found = kind("a", "b", cell)
    with pytest.raises(ValueError, match="no label"):
        found.read(cell)
    with pytest.raises(ValueError, match="no label"):
        kind(["a"], ["b"]).read([None, "a"])


@pytest.mark.parametrize("labels", [[0, 1, -1], ["0", "1", "-1", "2"], [0.0, 1.0, -1.0]])
def test_minus_one_beside_numbers_from_zero_on_stands_for_no_label_unless_it_is_said_to_be_one(labels: list[Any]) -> None:
    missing = labels[2]
    with pytest.raises(ValueError, match="--minus-one class"):
        kind(*labels).read(missing)
    assert kind(*labels, minus_one="class").read(missing) == "-1"


@pytest.mark.parametrize("labels", [[-1, 1], [-1, 0], [-2, -1, 0, 1], [-1, 0, 2], ["-1", "0", "1", "a"]])
def test_minus_one_is_a_label_among_others(labels: list[Any]) -> None:
    assert read(*labels) == [str(label) for label in labels]


@pytest.mark.parametrize("variant", ["cafe\u0301", "caf\u00e9\u200b", "\ufeffcaf\u00e9", "caf\u00e9\u00a0", " caf\u00e9 "])
def test_labels_that_look_the_same_are_the_same_and_it_is_told(variant: str) -> None:
    found = kind("caf\u00e9", variant, "bar")
    assert found.read(variant) == "caf\u00e9"
    told = [note for note in found.notes if "count as what they look like" in note]
    assert len(told) == (variant.strip(" ") != "caf\u00e9")  # plain blanks at the ends are nobody's question


def test_blanks_within_a_label_are_one_and_joiners_of_its_script_stay() -> None:
    assert read("new\u00a0 york", "a") == ["new york", "a"]
    assert read("می\u200cخواهم", "a") == ["می\u200cخواهم", "a"]


def test_labels_that_differ_in_case_are_told_and_merged_only_when_said() -> None:
    cells = ["Positive", "positive", "positive", "negative"]
    (note,) = kind(*cells).notes
    assert "'positive' (2) and 'Positive' (1); --merge-labels" in note
    assert read(*cells) == cells
    assert read(*cells, merge_labels=True) == ["positive", "positive", "positive", "negative"]
    (note,) = kind(*cells, merge_labels=True).notes
    assert "merged" in note


def test_words_that_may_mean_that_there_is_none_are_told() -> None:
    (note,) = kind("None", "None", "a").notes
    assert "'None' (2 rows)" in note


def test_whole_numbers_are_the_same_labels_with_and_without_a_point() -> None:
    assert read("0.0", "1.0", "0", "2") == ["0", "1", "0", "2"]
    assert kind("0.0", "1.0").notes == ["labels written as decimals are whole numbers: '0', '1'"]
    assert read("1.5", "2.0") == ["1.5", "2.0"]
    assert kind("0", "1").notes == []


def test_minus_one_stands_for_no_label_in_the_spelling_of_a_column_with_gaps_too() -> None:
    found = kind("0.0", "1.0", "-1.0", "", "nan")
    assert found.read("1.0") == "1"
    with pytest.raises(ValueError, match="-1, which beside 0, 1, … stands for no label"):
        found.read("-1.0")
    assert read("0.0", "1.0", "-1.0", minus_one="class") == ["0", "1", "-1"]


def test_sets_as_python_prints_them_are_lists_too() -> None:
    assert read("{'film', 'b'}", "{'b'}") == [("b", "film"), ("b",)]


def test_an_object_is_told_from_no_label() -> None:
    for cell, fields in (({"id": 1}, {}), ("{'id': 1}", {"problem_type": "multi_label_classification"}), ([{"id": 1}], {})):
        with pytest.raises(ValueError, match="object where a label is meant"):
            kind("a", "b", **fields).read(cell)


def test_a_dash_that_may_mean_no_label_is_told() -> None:
    assert "'-' (1 rows) is learnt as a label" in kind("neutral", "entailment", "-").notes[0]
