"""Tagged text in its usual forms, as entities with their characters."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import Record
from scripts.tasks.token_classification.spans import Span, TagColumns, labels_for, scheme_of, spans_of, tags_for
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe

TOKENS = ["Anna", "Lena", "met", "Bob"]


def parse(columns: dict[str, Any], **recipe: Any) -> Example | Broken:
    record = Record("rows.jsonl:1", columns)
    return TagColumns.choose(Recipe(**recipe), {"rows.jsonl": [record]}).parse(record, "rows.jsonl")


def texts(example: Example | Broken) -> list[tuple[str, str]]:
    assert isinstance(example, Example), example
    return [(span.label, example.item.text[span.start : span.end]) for span in example.target]


@pytest.mark.parametrize(
    ("tags", "entities"),
    [
        (["B-PER", "I-PER", "O", "B-PER"], ["Anna Lena", "Bob"]),
        (["I-PER", "B-PER", "O", "I-PER"], ["Anna", "Lena", "Bob"]),
        (["B-PER", "E-PER", "O", "S-PER"], ["Anna Lena", "Bob"]),
        (["B-PER", "L-PER", "O", "U-PER"], ["Anna Lena", "Bob"]),
        (["PER", "PER", "O", "PER"], ["Anna Lena", "Bob"]),
        (["NOUN", "NOUN", "VERB", "NOUN"], ["Anna Lena", "met", "Bob"]),
        (["O", "O", "O", "O"], []),
    ],
)
def test_tags_of_any_scheme_are_entities(tags: list[str], entities: list[str]) -> None:
    assert [text for _, text in texts(parse({"tokens": TOKENS, "tags": tags}))] == entities


@pytest.mark.parametrize("form", [" ".join, repr, lambda value: str(value).replace("'", '"'), list, tuple])
def test_lists_may_be_written_down_in_any_way(form: Any) -> None:
    columns = {"words": form(TOKENS), "ner_tags": form(["B-PER", "I-PER", "O", "O"])}
    assert texts(parse(columns)) == [("PER", "Anna Lena")]


@pytest.mark.parametrize(
    "entities",
    [
        [{"start": 0, "end": 4, "label": "PER"}],
        [{"start_offset": 0, "end_offset": 4, "entity": "PER"}],
        [[0, 4, "PER"]],
        '[[0, 4, "PER"]]',
    ],
)
def test_marked_texts_keep_their_own_characters(entities: Any) -> None:
    assert texts(parse({"text": "Anna,  met Bob", "entities": entities})) == [("PER", "Anna")]


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "2 tokens, but 1 tags"),
        ({"tokens": ["a", " "], "tags": ["O", "O"]}, "without a character"),
        ({"tokens": ["a"], "tags": None}, "no list"),
        ({"text": "Anna", "entities": [{"start": 0, "end": 9, "label": "PER"}]}, "a text of 4 characters"),
        ({"text": "Anna", "entities": [{"start": 2, "end": 2, "label": "PER"}]}, "from 2 to 2"),
        ({"text": "Anna", "entities": [[0, 3, "A"], [2, 4, "B"]]}, "overlaps"),
        ({"text": "Anna", "entities": [{"start": 0, "label": "PER"}]}, "needs `start`, `end` and `label`"),
        ({"text": "Anna", "entities": 7}, "no list of entities"),
        ({"text": " ", "entities": []}, "empty text"),
        ({"text": "a\ud800", "entities": []}, "not valid Unicode"),
    ],
)
def test_a_row_that_is_none_says_why(columns: dict[str, Any], why: str) -> None:
    broken = parse(columns)
    assert isinstance(broken, Broken)
    assert why in broken.why


def test_columns_can_be_named_and_must_be_there() -> None:
    columns = {"Satz": "Anna met", "Marken": "B-PER O"}
    assert texts(parse(columns, text_column="Satz", label_column="Marken")) == [("PER", "Anna")]
    with pytest.raises(InvalidSettings, match="no column 'Text'"):
        parse(columns, text_column="Text")
    with pytest.raises(InvalidSettings, match="tagged text is needed"):
        parse({"a": "b"})


def test_tags_that_are_numbers_are_the_models_labels(tmp_path: Path) -> None:
    record = Record("rows.jsonl:1", {"tokens": TOKENS, "tags": [1, 2, 0, 0]})
    columns = TagColumns("tokens", "tags", True)
    assert texts(columns.parse(record, "rows.jsonl", ["O", "B-PER", "I-PER"])) == [("PER", "Anna Lena")]


def test_the_scheme_is_the_datas_own() -> None:
    assert scheme_of(Counter(["O", "B-PER"]), 1) == "BIO"
    assert scheme_of(Counter(["O", "I-PER"]), 1) == "BIO"
    assert scheme_of(Counter(["O", "B-PER", "S-PER"]), 1) == "BIOES"
    assert scheme_of(Counter(["NOUN", "VERB"]), 2) == "plain"
    assert scheme_of(Counter(), 2) == "BIO"


def test_a_model_has_a_label_for_each_place_in_an_entity() -> None:
    assert labels_for(["PER", "LOC"], "BIO", True) == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert labels_for(["A"], "BIOES", True) == ["O", "B-A", "I-A", "E-A", "S-A"]
    assert labels_for(["NOUN", "ADJ"], "plain", False) == ["ADJ", "NOUN"]


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_tags_of_words_are_those_that_their_entities_came_from(scheme: Any) -> None:
    words = [(0, 4), (5, 9), (10, 13), (14, 17), (17, 18)]
    spans = [Span(0, 9, "PER"), Span(14, 17, "PER")]
    tags = tags_for(words, spans, scheme)
    assert tags == {
        "BIO": ["B-PER", "I-PER", "O", "B-PER", "O"], "BIOES": ["B-PER", "E-PER", "O", "S-PER", "O"],
    }[scheme]  # fmt: skip
    assert [span.label for span in spans_of(["anna", "lena", "met", "bob"], tags[:4])] == ["PER", "PER"]


def test_a_word_that_an_entity_covers_in_part_belongs_to_it() -> None:
    assert tags_for([(0, 10), (11, 14)], [Span(5, 10, "X")], "plain") == ["X", "O"]
