"""Corrections join what is trained on, and never what is held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings, SetupError
from app.data import Record
from scripts.tasks import training_task
from scripts.tasks.spec import Prepared
from scripts.training.data import read_corrections
from scripts.training.recipe import Recipe
from tests.support.corrections import CORRECTION, labelled, write_feedback

DOCUMENT = "The house burned. It was late. Nobody was hurt."
CHOSEN = ("The house burned.", "Nobody was hurt.")
RECIPE = Recipe(name="tiny", data=["data"], validation=["held out"])


@pytest.fixture
def path(tmp_path: Path) -> str:
    kept = [labelled("one", "bad"), labelled("two", "good"), labelled("one", "mixed"), replace(CORRECTION, model="other")]
    return str(write_feedback(tmp_path / "feedback.db", kept))


def records(source: str, *rows: dict[str, Any]) -> list[Record]:
    return [Record(f"{source}:{number}", row) for number, row in enumerate(rows, start=1)]


def prepared(recipe: Recipe, data: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> Prepared:
    found = {"data": records("data", *data), "held out": records("held out", *held_out)}
    return training_task(recipe.task).prepare(recipe, {**found, **read_corrections(recipe).records})


def reviews(**labels: str) -> list[dict[str, Any]]:
    return [{"review": text, "stars": label} for text, label in labels.items()]


def test_the_last_correction_of_each_text_is_a_record_and_the_rest_is_told(path: str) -> None:
    found = read_corrections(replace(RECIPE, from_feedback=[path]))
    assert {name: [dict(row.columns) for row in rows] for name, rows in found.records.items()} == {
        path: [{"text": "two", "label": "good"}, {"text": "one", "label": "mixed"}]
    }
    assert found.records[path][1].where == f"{path}#3"
    assert found.notes == [
        "1 corrections are left out: the same item was corrected again (1 items had conflicting corrections)"
    ]


def test_across_files_the_later_one_is_the_last_word(path: str, tmp_path: Path) -> None:
    later = str(write_feedback(tmp_path / "later.db", [labelled("two", "bad", at="2026-06-01T00:00:00.000+00:00")]))
    found = read_corrections(replace(RECIPE, from_feedback=[later, path, path]))
    assert [record.columns["text"] for record in found.records[path]] == ["one"]
    assert found.records[later][0].columns["label"] == "bad"


def test_a_file_without_corrections_of_this_model_is_refused_and_says_whose_it_has(path: str) -> None:
    with pytest.raises(InvalidSettings, match=r"no corrections of 'films'; it holds other \(1\), tiny \(3\); say --name"):
        read_corrections(replace(RECIPE, name="films", from_feedback=[path]))
    with pytest.raises(InvalidSettings, match="are of text-classification, not of summarization"):
        read_corrections(replace(RECIPE, task="summarization", from_feedback=[path]))
    with pytest.raises(SetupError, match="does not exist"):
        read_corrections(replace(RECIPE, from_feedback=["missing.db"]))


def test_corrections_are_trained_on_in_place_of_rows_and_never_of_what_is_held_out(path: str) -> None:
    recipe = replace(RECIPE, from_feedback=[path], text_column="review", label_column="stars")
    data = reviews(one="bad", three="good", four="bad")
    dataset = prepared(recipe, data, reviews(two="bad", five="good")).dataset
    assert [(entry.item.text, entry.target) for entry in dataset.train] == [
        ("three", "good"),
        ("four", "bad"),
        ("one", "mixed"),
    ]
    assert [(entry.item.text, entry.target) for entry in dataset.validation] == [("two", "bad"), ("five", "good")]
    assert (dataset.num_corrections, dataset.num_replaced, dataset.num_leaked) == (1, 1, 1)


def test_what_is_held_out_is_the_same_with_corrections_and_without(path: str) -> None:
    recipe = replace(RECIPE, validation=[], text_column="review", label_column="stars")
    data = reviews(**{f"text {number}": "good" if number % 2 else "bad" for number in range(40)})
    before = prepared(recipe, data, []).dataset.validation
    assert prepared(replace(recipe, from_feedback=[path]), data, []).dataset.validation == before


def test_a_new_label_is_learned(path: str) -> None:
    recipe = replace(RECIPE, from_feedback=[path], text_column="review", label_column="stars")
    found = prepared(recipe, reviews(three="good", four="bad"), reviews(five="good"))
    assert found.task_options["labels"] == ["bad", "good", "mixed"]


def test_rows_are_repeated_and_corrections_are_not(path: str) -> None:
    recipe = replace(RECIPE, from_feedback=[path], text_column="review", label_column="stars", repeat=[3])
    dataset = prepared(recipe, reviews(three="good", four="bad"), reviews(five="good")).dataset
    assert [entry.item.text for entry in dataset.train].count("three") == 3
    assert [entry.item.text for entry in dataset.train].count("one") == 1


def test_a_corrected_answer_is_trained_on_unless_its_context_is_held_out(tmp_path: Path) -> None:
    question = replace(CORRECTION, task="question-answering", right={"answer": "two", "start": 4})
    kept = [replace(question, item={"question": "Which?", "context": context}) for context in ("one two three", "six two")]
    path = str(write_feedback(tmp_path / "feedback.db", [kept[0], replace(kept[1], right={"answer": "", "start": 0})]))
    recipe = replace(RECIPE, task="question-answering", from_feedback=[path], no_answer_share=0)
    rows = [{"question": "Who?", "context": "four five", "answers": ["five"]}]
    dataset = prepared(recipe, rows, [{"question": "Who?", "context": "six two", "answers": ["six"]}]).dataset
    assert [(entry.item.context, [gold.text for gold in entry.target]) for entry in dataset.train] == [
        ("four five", ["five"]),
        ("one two three", ["two"]),
    ]
    assert (dataset.num_corrections, dataset.num_leaked) == (1, 1)


def test_corrected_sentences_are_a_summary_to_train_on(tmp_path: Path) -> None:
    one = replace(CORRECTION, task="summarization", item={"text": DOCUMENT}, right={"sentences": list(CHOSEN)})
    path = str(write_feedback(tmp_path / "feedback.db", [one]))
    recipe = replace(RECIPE, task="summarization", from_feedback=[path])
    rows = [{"article": "G h. I j.", "highlights": "G h."}]
    dataset = prepared(recipe, rows, [{"article": "K l. M n.", "highlights": "K l."}]).dataset
    assert dataset.train[-1].item.text == DOCUMENT
    assert dataset.train[-1].target.sentences == CHOSEN
