"""Columns are chosen by what a person says, by name, and by content where that leaves one; and the task that they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.core.manifest import DataFormat
from app.data import Record
from scripts.tasks import training_task
from scripts.tasks.spec import Prepared
from scripts.training.columns import choose_columns, data_format, known_columns, with_task
from scripts.training.data import Dataset
from scripts.training.recipe import AUTO, Recipe

CLASSIFICATION = training_task("text-classification")
TEXTS = ["The parcel came too late", "My card was charged twice", "Where is my refund now", "It broke after two days"] * 3
TABLE: dict[str, list[Any]] = {
    "Nr": [str(number) for number in range(12)],
    "Eingang": [f"0{number % 9 + 1}.03.2024" for number in range(12)],
    "Was passiert ist": [f"{text}, again {number}" for number, text in enumerate(TEXTS)],
    "Wohin": ["delivery", "billing", "billing"] * 4,
}


def rows(table: dict[str, list[Any]], source: str = "a.csv") -> dict[str, list[Record]]:
    cells = zip(*table.values(), strict=True)
    return {source: [Record(f"{source}:{line}", dict(zip(table, row, strict=True))) for line, row in enumerate(cells, start=2)]}


def choose(records: dict[str, list[Record]], **fields: Any) -> Any:
    recipe = Recipe(data=["a.csv"], **fields)
    return choose_columns(CLASSIFICATION.fields, CLASSIFICATION.label_field, recipe, records)


def refusal(records: dict[str, list[Record]], **fields: Any) -> str:
    with pytest.raises(InvalidSettings) as caught:
        choose(records, **fields)
    return caught.value.detail


def test_what_names_do_not_say_is_guessed_by_content_and_told() -> None:
    chosen = choose(rows(TABLE))
    assert chosen.matches == {"text": "Was passiert ist", "label": "Wohin"}
    assert chosen.notes == [
        "text guessed to be column 'Was passiert ist': the only one with texts of several words",
        "label guessed to be column 'Wohin': the only one with few values, which are 2",
    ]


def test_texts_of_a_script_without_blanks_are_texts() -> None:
    texts = [f"这个产品的质量非常好我很喜欢它的颜色{number}" for number in range(12)]
    assert choose(rows({"甲": texts, "乙": TABLE["Wohin"]})).matches == {"text": "甲", "label": "乙"}


def test_where_several_can_be_meant_they_are_listed_with_a_command() -> None:
    table = {**TABLE, "Wer": ["Ann", "Bob", "Cem"] * 4}
    assert refusal(rows(table)) == (
        "which column holds the label? It may be any of 'Wohin', 'Wer' (text from column 'Was passiert ist'); say which, for"
        " example: hooper train a.csv --label-column Wohin"
    )
    assert choose(rows(table), label_column="wohin").matches["label"] == "Wohin"


def test_of_several_names_that_may_be_meant_the_content_decides_where_it_can() -> None:
    table = {"Comment": TABLE["Nr"], "Beschreibung": TABLE["Was passiert ist"], "Kategorie": TABLE["Wohin"]}
    assert choose(rows(table)).matches["text"] == "Beschreibung"
    table["Comment"] = [f"see the other note {number}" for number in range(12)]
    assert "'Comment', 'Beschreibung'" in refusal(rows(table))


@pytest.mark.parametrize("content", ["numbers", "texts"])
def test_a_name_that_may_be_a_text_or_a_rating_is_what_its_cells_are(content: str) -> None:
    if content == "numbers":
        table = {"Bewertung": ["1", "5", "4"] * 4, "Kommentar": TABLE["Was passiert ist"]}
        assert choose(rows(table)).matches == {"text": "Kommentar", "label": "Bewertung"}
    else:
        table = {"Bewertung": TABLE["Was passiert ist"], "Sterne": ["1", "5", "4"] * 4}
        assert choose(rows(table)).matches == {"text": "Bewertung", "label": "Sterne"}


def test_dates_numbers_and_rows_that_all_differ_are_never_guessed_to_be_labels() -> None:
    table = {**TABLE, "Wohin": TABLE["Nr"]}
    assert "which column holds the label? The data has 'Nr', 'Eingang', 'Wohin'" in refusal(rows(table))


def test_a_second_source_may_spell_its_columns_otherwise_or_call_them_something_else() -> None:
    records = {
        **rows({"Text": ["x", "y"], "Label": ["a", "b"]}),
        **rows({"text ": ["x"], "LABEL": ["a"]}, "b.csv"),
        **rows({"review": ["x"], "category": ["a"]}, "c.csv"),
    }
    chosen = choose(records)
    assert chosen.of("b.csv") == {"text": "text ", "label": "LABEL"}
    assert chosen.of("c.csv") == {"text": "review", "label": "category"}
    assert "in c.csv: text from column 'review', label from 'category'" in chosen.notes


def test_a_column_that_the_first_object_of_json_lines_lacks_is_there_all_the_same() -> None:
    records = {"a.csv": [Record("a.csv:1", {"text": "x"}), Record("a.csv:2", {"text": "y", "label": "b"})]}
    assert choose(records).matches == {"text": "text", "label": "label"}


# --- the task


def inferred(path: Path, content: str, **fields: Any) -> str:
    path.write_text(content, encoding="utf-8")
    return with_task(Recipe(data=[str(path)], task=AUTO, **fields))[0].task


SQUAD = {
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {"context": "It opened in 1903.", "qas": [{"question": "When?", "id": "1", "answers": [{"text": "1903"}]}]}
            ],
        }
    ]
}
SUMMARIES = "\n".join(
    json.dumps(
        {
            "title": f"t{n}",
            "document": f"The council met on day {n}. {'It talked for long. ' * 9}",
            "summary": f"It met on {n} twice.",
        }
    )
    for n in range(5)
)


def table(column: str, labels: list[Any]) -> str:
    return "\n".join([f"text,{column}", *(f"a text of row {number},{label}" for number, label in enumerate(labels))])


@pytest.mark.parametrize(
    ("name", "content", "task"),
    [
        ("a.json", json.dumps(SQUAD), "question-answering"),
        ("a.jsonl", SUMMARIES, "summarization"),
        ("a.csv", table("label", ["a", "b", "a"]), "text-classification"),
        ("a.csv", table("stars", [1, 2, 3, 4, 5, 1, 2]), "text-classification"),
        ("a.csv", table("rating", [number / 7 for number in range(30)]), "text-regression"),
        ("a.csv", table("score", list(range(30))), "text-regression"),
        ("a.csv", table("label", list(range(30))), "text-classification"),
        ("a.csv", "a,b\n1,2\n", "text-classification"),
        ("a.conll", "Anna B-PER\nslept O\n", "token-classification"),
        ("a.conllu", "\t".join(["1", "slept", "sleep", "VERB", *"______"]), "token-classification"),
        ("a.csv", "Frage,Kontext,Antwort\nWann?,Es war 1903 im Mai.,1903\n", "question-answering"),
    ],
)
def test_the_task_is_what_the_columns_are_for(tmp_path: Path, name: str, content: str, task: str) -> None:
    assert inferred(tmp_path / name, content) == task


def test_a_problem_type_or_a_named_column_of_labels_says_that_texts_are_classified(tmp_path: Path) -> None:
    scores = table("score", [number / 7 for number in range(30)])
    assert inferred(tmp_path / "a.csv", scores, problem_type="single_label_classification") == "text-classification"
    assert inferred(tmp_path / "a.jsonl", SUMMARIES, label_column="title") == "text-classification"


def test_a_task_that_is_named_stays_and_nothing_is_read() -> None:
    recipe = Recipe(data=["absent.csv"], task="summarization")
    assert with_task(recipe) == (recipe, "")


# --- what is kept with a model


def test_what_a_model_was_trained_on_is_read_again_where_the_data_has_it_and_nobody_says_otherwise() -> None:
    known = DataFormat(columns={"text": "Was", "text_pair": "Wozu", "label": "Wohin"}, label_separator=";")
    records = rows({"was ": ["x"], "Wohin": ["a"], "text": ["y"], "label": ["b"]})
    filled = known_columns(Recipe(), known, records)
    assert (filled.text_column, filled.text_pair_column, filled.label_column) == ("was ", "", "Wohin")
    assert filled.label_separator == ";"
    named = known_columns(Recipe(text_column="text", label_column="label", label_separator="|"), known, records)
    assert (named.text_column, named.label_column, named.label_separator) == ("text", "label", "|")
    assert known_columns(Recipe(), known, rows({"text": ["y"]})) == Recipe(label_separator=";")


def test_names_alone_are_kept() -> None:
    prepared = Prepared(Dataset([], [], []), {}, columns={"text": "Was", "label": "Wohin"}, label_separator=";")
    kept = data_format(Recipe(delimiter=";", encoding="cp1252", sheet="Tickets"), prepared)
    assert kept.model_dump() == {
        "columns": {"text": "Was", "label": "Wohin"},
        "label_separator": ";",
        "delimiter": ";",
        "encoding": "cp1252",
        "sheet": "Tickets",
    }
