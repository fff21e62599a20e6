"""Which columns hold texts that belong together, and what becomes of numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from app.core.errors import InvalidSettings
from app.tasks.feature_extraction.task import SimilarityItem
from scripts.tasks import task_names, training_tasks
from scripts.tasks.feature_extraction.pairs import PairColumns, group_of, looks_like_pairs, text_numbers
from scripts.training.columns import TableSample
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe
from scripts.training.records import read_records


def read(path: Path, rows: list[dict[str, Any]], **keys: Any) -> tuple[PairColumns, list[Example | Broken]]:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    source = str(path)
    records = {source: read_records(source)}
    columns = PairColumns.of(Recipe(data=[source], **keys), records)
    return columns, [columns.parse(record, source) for record in records[source]]


@pytest.mark.parametrize(
    "names",
    [
        ("anchor", "positive"),
        ("query", "positive"),
        ("question", "answer"),
        ("query", "passage"),
        ("sentence1", "sentence2"),
        ("sentence_A", "sentence_B"),
        ("text", "text_pair"),
    ],
)
def test_the_columns_of_pairs_are_known_by_their_names(names: tuple[str, str], tmp_path: Path) -> None:
    _, (example, _) = read(tmp_path / "a.jsonl", [dict(zip(names, texts, strict=True)) for texts in ("ab", "cd")])
    assert isinstance(example, Example)
    assert (example.item, example.target) == (SimilarityItem("a", ("b",)), None)


def test_a_triplet_brings_a_negative(tmp_path: Path) -> None:
    rows = [{"negative": negative, "positive": "p", "anchor": "a"} for negative in ("n", None, "")]
    columns, examples = read(tmp_path / "a.jsonl", rows)
    items = [example.item for example in examples if isinstance(example, Example)]
    assert items == [SimilarityItem("a", ("p", "n")), SimilarityItem("a", ("p",)), SimilarityItem("a", ("p",))]
    assert str(columns).endswith("texts that belong together")


def test_numbers_are_scaled_by_what_the_data_span_and_that_is_said(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "score": score} for score in (1, 2, 5, "many")]
    columns, examples = read(tmp_path / "a.jsonl", rows)
    assert [entry.target for entry in examples if isinstance(entry, Example)] == [0.0, 0.25, 1.0]
    assert "numbers from 1 to 5, scaled to 0 to 1" in str(columns)
    assert isinstance(examples[3], Broken)


def test_numbers_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    rows = [{"sentence1": "a", "sentence2": "b", "score": "3"}] * 2
    with pytest.raises(InvalidSettings, match="every row has the number 3; a model learns how alike texts are from two"):
        read(tmp_path / "a.jsonl", rows)
    with pytest.raises(InvalidSettings, match=r"a\.jsonl has one text a row, .* say --text-pair-column NAME"):
        read(tmp_path / "a.jsonl", [{"text": "a"}, {"text": "b"}])


def test_a_positive_makes_it_this_task_and_a_number_alone_does_not() -> None:
    assert "feature-extraction" in task_names()

    def sure(*names: str) -> float:
        return training_tasks()["feature-extraction"].recognizes(Recipe(), table(*names))

    def table(*names: str) -> TableSample:
        return TableSample("a", [type("Column", (), {"name": name})() for name in names])

    assert sure("Anchor", "positive") > 0.9
    assert sure("query", "positive", "negative") > 0.9
    assert sure("sentence1", "sentence2", "score") == 0
    assert not looks_like_pairs(table("text", "negative"))


def test_rows_of_one_first_text_are_held_out_together() -> None:
    rows = [Example(SimilarityItem(first, ("p",)), target, "s", "s:1") for first in ("A  a", "a A") for target in (None, 0.5)]
    together, alone = group_of(rows[0]), group_of(rows[1])
    assert together == group_of(rows[2]) != alone
    assert alone == group_of(rows[3])


def test_texts_that_differ_in_case_and_spaces_have_one_number() -> None:
    number = text_numbers()
    assert [number(text) for text in ("a b", "A  B", "c", "a b")] == [0, 0, 1, 0]
