"""The training half of token classification: labels of first tokens, and figures of whole entities."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidSettings
from app.data import Record
from app.tasks.token_classification.task import Entities, Entity, TagItem
from scripts.tasks.spec import TrainingRow
from scripts.tasks.token_classification import SPEC
from scripts.tasks.token_classification.spans import Span
from scripts.tasks.token_classification.task import NO_LABEL, prf
from scripts.training.data import Broken, Example
from scripts.training.recipe import Recipe
from tests.support.tiny_model import tiny_tokenizer

OPTIONS = {"labels": ["O", "B-GOOD", "I-GOOD"]}
ROWS = [{"tokens": ["the", "films", "was", "good"], "tags": ["O", "B-GOOD", "O", "B-GOOD"]}] * 9 + [
    {"tokens": ["a", "film"], "tags": ["O", "O"]}
]


def records(rows: Sequence[dict[str, Any]] = ROWS) -> dict[str, list[Record]]:
    numbered = [
        {**row, "tokens": [*row["tokens"], str(number)], "tags": [*row["tags"], "O"]} for number, row in enumerate(rows)
    ]
    return {"rows.jsonl": [Record(f"rows.jsonl:{number}", row) for number, row in enumerate(numbered, start=1)]}


def example(text: str, *spans: Span) -> Example:
    return Example(TagItem(text), spans, "rows.jsonl", "rows.jsonl:1")


def answer(*spans: tuple[int, int, str]) -> Entities:
    return Entities([Entity(label, "x", start, end, 0.9) for start, end, label in spans])


def test_labels_are_those_of_the_training_part() -> None:
    prepared = SPEC.prepare(Recipe(data=("rows.jsonl",)), records())
    assert prepared.task_options == OPTIONS
    assert "tokens from column 'tokens', tags from 'tags'; 1 kinds of entities, tags in the scheme BIO" in prepared.notes[0]


def test_data_without_an_entity_teaches_nothing() -> None:
    rows = [{"tokens": ["a"], "tags": ["O"]}] * 10
    with pytest.raises(InvalidSettings, match="no entity"):
        SPEC.prepare(Recipe(data=("rows.jsonl",)), records(rows))


def test_the_first_token_of_each_word_learns_its_tag() -> None:
    (row,) = SPEC.training_rows([example("the films was good", Span(4, 9, "GOOD"))], tiny_tokenizer(), OPTIONS)
    # [CLS] the film ##s was good [SEP]
    assert row.label == [NO_LABEL, 0, 1, NO_LABEL, 0, 0, NO_LABEL]
    assert SPEC.labels([row], 9).tolist() == [[*row.label, NO_LABEL, NO_LABEL]]


def test_an_entity_of_several_words_goes_on() -> None:
    (row,) = SPEC.training_rows([example("very good films", Span(0, 15, "GOOD"))], tiny_tokenizer(), OPTIONS)
    assert row.label == [NO_LABEL, 1, 2, 2, NO_LABEL, NO_LABEL]


def test_a_long_text_has_a_row_for_each_window() -> None:
    rows = SPEC.training_rows([example("film " * 50)], tiny_tokenizer(), OPTIONS)
    assert len(rows) > 1
    assert all(len(row.label) == row.row.num_tokens for row in rows)


def test_a_row_is_cut_with_its_labels() -> None:
    (row,) = SPEC.training_rows([example("the film was good", Span(4, 8, "GOOD"))], tiny_tokenizer(), OPTIONS)
    cut: TrainingRow = SPEC.crop(row, 4, random.Random(0))
    assert (cut.row.num_tokens, cut.label) == (4, [NO_LABEL, 0, 1, NO_LABEL])
    assert cut.row.input_ids[-1] == row.row.input_ids[-1]


def test_only_words_are_counted_on_the_way() -> None:
    logits = np.eye(3)[[0, 1, 2]][None]
    assert SPEC.num_correct(logits, np.array([[0, NO_LABEL, 1]])) == (1, 2)


def test_an_entity_counts_where_its_label_and_both_ends_are_right() -> None:
    examples = [example("x" * 20, Span(0, 4, "A"), Span(5, 9, "B")), example("x" * 20)]
    figures = SPEC.evaluate([answer((0, 4, "A"), (5, 8, "B")), answer((0, 1, "A"))], examples, {"labels": ["O", "A", "B"]})
    assert figures["headline"] == {"precision": 0.3333, "recall": 0.5, "f1": 0.4, "rows": 2}
    assert figures["per_class"]["A"] == {"precision": 0.5, "recall": 1.0, "f1": 0.6667, "rows": 1}
    assert figures["per_class"]["B"]["f1"] == 0.0
    assert figures["by_source"]["rows.jsonl"]["rows"] == 2
    assert prf([]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_figures_are_those_of_seqeval() -> None:
    """Entities of tag sequences, by its default and by its strict mode, which differ only where an entity begins with I-."""
    seqeval = pytest.importorskip("seqeval.metrics")
    from scripts.tasks.token_classification.spans import spans_of

    rng = random.Random(7)
    tags = ["O", "B-A", "I-A", "B-B", "I-B"]
    true, predicted = ([[rng.choice(tags) for _ in range(12)] for _ in range(50)] for _ in range(2))
    pairs = [
        [{(span.label, span.start, span.end) for span in spans_of(["w"] * 12, row)} for row in rows]
        for rows in zip(predicted, true, strict=True)
    ]
    assert prf(pairs)["f1"] == pytest.approx(seqeval.f1_score(true, predicted), abs=1e-4)


def test_a_text_is_right_where_all_its_entities_are() -> None:
    text = example("Anna met", Span(0, 4, "PER"))
    assert SPEC.is_correct(answer((0, 4, "PER")), text)
    assert not SPEC.is_correct(answer(), text)
    assert SPEC.row_scores([answer(), answer()], [text, example("nobody")]).tolist() == [0.0, 1.0]
    assert SPEC.label_texts(text) == ["PER: Anna"]


def test_rows_with_labels_that_a_model_does_not_know_are_named() -> None:
    rows = records()
    parse = SPEC.labelled_parser(Recipe(), rows, {"labels": ["O", "B-X", "I-X"]})
    parsed = [parse(record, "rows.jsonl") for record in rows["rows.jsonl"]]
    assert isinstance(parsed[0], Broken)
    assert "'GOOD' is none of the model's" in parsed[0].why
    assert isinstance(parsed[-1], Example)


def test_the_head_says_whether_a_checkpoint_is_for_it() -> None:
    class Config:
        num_labels, id2label = 3, {0: "O", 1: "B-X", 2: "I-X"}

    assert SPEC.fits_head(Config)
    assert SPEC.checkpoint_options(Config, []) == ({"labels": ["O", "B-X", "I-X"]}, [])
    assert SPEC.checkpoint_options(Config, ["a", "b", "c"])[0] == {"labels": ["a", "b", "c"]}
    with pytest.raises(InvalidSettings, match="3 different labels"):
        SPEC.checkpoint_options(Config, ["a"])
