"""Which columns hold source and target, and in which languages they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import Record
from app.tasks.generation import SourceText
from scripts.tasks.generation.pairs import SourceTargetColumns, choose_pairs, is_language
from scripts.tasks.translation.task import SOURCE, TARGET
from scripts.training.columns import LABEL
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe

RECIPE = Recipe(task="translation", data=["a"])
ENGLISH, GERMAN, FRENCH = "The dog runs over the bridge.", "Der Hund läuft über die Brücke.", "Le chien court sur le pont."


def records(rows: Sequence[dict[str, Any]]) -> dict[str, list[Record]]:
    return {"a": [Record(f"a:{number}", row) for number, row in enumerate(rows)]}


def choose(row: dict[str, Any], **keys: str) -> SourceTargetColumns:
    varied = [
        {name: f"{text} {number}" if isinstance(text, str) else text for name, text in row.items()} for number in range(8)
    ]
    return choose_pairs(SOURCE, TARGET, replace(RECIPE, **keys), records(varied), is_translation=True)  # type: ignore[arg-type]


def chosen(columns: SourceTargetColumns) -> tuple[str, str, tuple[str, str]]:
    return columns.names["text"], columns.names[LABEL], columns.languages


def test_columns_named_by_languages_are_read_in_the_order_of_the_table() -> None:
    assert chosen(choose({"en": ENGLISH, "de": GERMAN})) == ("en", "de", ("en", "de"))
    assert chosen(choose({"deu_Latn": GERMAN, "eng_Latn": ENGLISH})) == ("deu_Latn", "eng_Latn", ("deu_Latn", "eng_Latn"))


@pytest.mark.parametrize(
    "keys",
    [
        {"source_language": "de"},
        {"target_language": "en"},
        {"source_column": "de"},
        {"target_column": "en"},
        {"text_column": "de", "label_column": "en"},
    ],
)
def test_one_named_side_says_the_other(keys: dict[str, str]) -> None:
    assert chosen(choose({"en": ENGLISH, "de": GERMAN}, **keys)) == ("de", "en", ("de", "en"))


def test_of_three_languages_two_must_be_named() -> None:
    row = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH}
    with pytest.raises(InvalidSettings, match="The data has columns for 'en', 'de', 'fr'; say which"):
        choose(row)
    assert chosen(choose(row, source_language="fr", target_language="de")) == ("fr", "de", ("fr", "de"))


def test_an_object_of_languages_is_as_good_as_columns() -> None:
    columns = choose({"id": 3, "translation": {"en": ENGLISH, "de": GERMAN}})
    assert chosen(columns) == ("en", "de", ("en", "de"))
    example = columns.parse(Record("a:1", {"translation": {"en": ENGLISH, "de": f" {GERMAN}\n"}}), "a", SourceText)
    assert example == Example(SourceText(ENGLISH), GERMAN, "a", "a:1")


def test_other_columns_need_a_language_to_be_named_where_it_matters() -> None:
    assert chosen(choose({"source": ENGLISH, "target": GERMAN})) == ("source", "target", ("", ""))
    named = choose({"source": ENGLISH, "target": GERMAN}, source_language="en", target_language="de")
    assert named.languages == ("en", "de")


def test_errors_name_the_options_of_pairs() -> None:
    with pytest.raises(InvalidSettings, match=r"--source-column: .* has no column 'es'"):
        choose({"en": ENGLISH, "de": GERMAN}, source_column="es")
    with pytest.raises(InvalidSettings, match="source_column and text_column name the same column"):
        choose({"en": ENGLISH, "de": GERMAN}, source_column="en", text_column="en")
    with pytest.raises(InvalidSettings, match="both in English"):
        choose({"en": ENGLISH, "de": GERMAN}, target_language="en", target_column="de")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"en": ENGLISH}, "missing column 'de'"),
        ({"en": "  ", "de": GERMAN}, "'en' must not be empty"),
        ({"en": ENGLISH, "de": 3}, "'de' is not text"),
    ],
)
def test_rows_without_both_texts_are_broken(row: dict[str, Any], reason: str) -> None:
    assert choose({"en": ENGLISH, "de": GERMAN}).parse(Record("a:1", row), "a", SourceText) == Broken("a:1", reason)


def test_codes_of_languages_are_told_from_other_names() -> None:
    assert [name for name in ("en", "de", "pt-BR", "deu_Latn", "text", "no2", "target", "xx", "src") if is_language(name)] == [
        "en", "de", "pt-BR", "deu_Latn",
    ]  # fmt: skip
