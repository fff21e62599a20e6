"""Texts that a published model is judged on are read as training data is, by the model's own labels."""

from __future__ import annotations

from typing import Any

import pytest

from app.core.errors import InvalidInput, InvalidSettings
from app.data import Record
from scripts.export.eval_data import read_labelled
from scripts.tasks.question_answering.task import QuestionAnsweringTraining
from scripts.tasks.text_classification.task import TextClassificationTraining
from scripts.training.data import Example
from scripts.training.recipe import Recipe


def read(labels: list[str], *cells: Any, problem_type: str = "single_label_classification") -> list[Any]:
    records = {"dev": [Record(f"dev:{number}", {"text": "fine", "label": cell}) for number, cell in enumerate(cells)]}
    options = {"labels": labels, "problem_type": problem_type}
    examples, broken = read_labelled(TextClassificationTraining(), options, Recipe(validation=["dev"]), records)
    assert not broken
    return [example.target for example in examples]


def test_a_label_that_looks_like_one_of_the_model_s_is_that_one() -> None:
    assert read(["cafe\u0301", "bar"], "café", "\ufeffbar", "cafe\u0301") == ["cafe\u0301", "bar", "cafe\u0301"]


def test_numbers_stand_for_the_model_s_labels_in_any_spelling() -> None:
    assert read(["bad", "good"], 0, 1.0, "1") == ["bad", "good", "good"]


def test_a_model_that_learnt_decimals_has_labels_for_them() -> None:
    assert read(["-1.0", "0.0", "1.0"], "-1.0", "0.0", "1.0") == ["-1.0", "0.0", "1.0"]
    assert read(["-1.0", "0.0", "1.0"], 0, 1) == ["0.0", "1.0"]


def test_minus_one_is_a_label_of_a_model_that_has_it() -> None:
    assert read(["-1", "0", "1"], -1, 0, 1) == ["-1", "0", "1"]
    with pytest.raises(InvalidSettings, match="-1, which beside 0, 1, … stands for no label"):
        read(["bad", "good"], -1, 0, 1)


def test_lists_in_a_cell_are_labels_of_a_multi_label_model() -> None:
    found = read(["a", "b"], "['a', 'b']", ["b"], "a|b", problem_type="multi_label_classification")
    assert found == [("a", "b"), ("b",), ("a", "b")]


def test_figures_of_answers_do_not_depend_on_where_they_stand() -> None:
    row = {"question": "q?", "context": "film, film", "answer": "film", "answer_start": 3}
    records = {"dev": [Record("dev:1", row), Record("dev:2", {**row, "answer_start": None})]}
    examples, broken = read_labelled(QuestionAnsweringTraining(), {}, Recipe(validation=["dev"]), records)
    assert not broken
    assert all(isinstance(example, Example) and example.target[0].text == "film" for example in examples)


def test_where_no_row_could_be_read_the_reason_is_told() -> None:
    records = {"dev": [Record("dev:1", {}, InvalidInput("not UTF-8"))]}
    with pytest.raises(InvalidSettings, match=r"no row of the data could be read: 1 invalid row: dev:1 \(not UTF-8\)"):
        read_labelled(
            TextClassificationTraining(),
            {"labels": ["a", "b"], "problem_type": "single_label_classification"},
            Recipe(),
            records,
        )
