"""The training half of token classification: labels of first tokens, and figures of whole entities."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.core.errors import InvalidSettings
from app.data import Record
from app.tasks.base import Encoded
from app.tasks.token_classification.task import Entities, Entity, TagItem, TagOptions, TokenClassification
from scripts.tasks.spec import TrainingRow
from scripts.tasks.token_classification import SPEC
from scripts.tasks.token_classification.spans import Span, labels_for, tags_for
from scripts.tasks.token_classification.task import NO_LABEL, decisions_of, pieces, prf
from scripts.training.data import Broken, Example
from scripts.training.evaluation import Predictions
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
    strict = {"strict_precision": 0.3333, "strict_recall": 0.5, "strict_f1": 0.4}
    assert figures["headline"] == {"precision": 0.3333, "recall": 0.5, "f1": 0.4, **strict, "rows": 2}
    of_a = {"precision": 0.5, "recall": 1.0, "f1": 0.6667}
    assert figures["per_class"]["A"] == {**of_a, **{f"strict_{name}": value for name, value in of_a.items()}, "rows": 1}
    assert figures["per_class"]["B"]["f1"] == 0.0
    assert figures["by_source"]["rows.jsonl"]["rows"] == 2
    assert prf([]) == {"precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_every_entity_that_was_found_counts_for_what_its_score_means() -> None:
    examples = [example("x" * 20, Span(0, 4, "A"), Span(5, 9, "B")), example("x" * 20)] * 60
    answers = [answer((0, 4, "A"), (5, 8, "B")), answer((0, 1, "A"))] * 60
    decisions = decisions_of(answers, examples)
    assert decisions.right[:3].tolist() == [1, 0, 0]
    assert decisions.rows[:4].tolist() == [0, 0, 1, 2]
    found = SPEC.calibrate(Predictions(answers, [], []), examples, tiny_tokenizer(), {})
    assert found.metrics["expected_calibration_error_before"] == pytest.approx(0.9 - 1 / 3, abs=1e-3)
    assert (found.metrics["rows"], found.metrics["selective"]["rows"]) == (120, 180)


@pytest.mark.parametrize(("scheme", "name"), [("BIO", "IOB2"), ("BIOES", "IOBES")])
def test_figures_are_those_of_seqeval_lenient_and_strict(scheme: Any, name: str) -> None:
    """Of random tags as a model gives them, whole entities or not, against entities of the same kinds."""
    seqeval_scheme = pytest.importorskip("seqeval.scheme")  # not in 0.0.10
    seqeval_metrics = pytest.importorskip("seqeval.metrics")
    labels = labels_for(["A", "B"], scheme, True)
    task = TokenClassification(tiny_tokenizer(), labels)
    text, words = " ".join(["film"] * 12), [(start, start + 4) for start in range(0, 60, 5)]
    rng = random.Random(7)
    (encoded,) = task.encode([TagItem(text)], TagOptions())
    assert isinstance(encoded, Encoded)
    examples, answers, true, predicted = [], [], [], []
    for _ in range(60):
        starts = sorted(rng.sample(range(0, 12, 2), 3))
        spans = [Span(5 * start, 5 * start + rng.choice((4, 9)), rng.choice("AB")) for start in starts]
        examples.append(example(text, *spans))
        true.append(tags_for(words, spans, scheme))
        predicted.append([rng.choice(labels) if rng.random() < 0.2 else tag for tag in true[-1]])
        logits = np.full((14, len(labels)), -9.0)
        logits[range(1, 13), [labels.index(tag) for tag in predicted[-1]]] = 9.0
        answers.append(task.decode(encoded, [{"logits": logits}], TagOptions()))
    figures = SPEC.evaluate(answers, examples, {"labels": labels})
    lenient = seqeval_metrics.classification_report(true, predicted, output_dict=True)
    strict = seqeval_metrics.classification_report(
        true, predicted, mode="strict", scheme=getattr(seqeval_scheme, name), output_dict=True
    )
    for own, theirs in ((figures["headline"], "micro avg"), (figures["per_class"]["A"], "A"), (figures["per_class"]["B"], "B")):
        for report, prefix in ((lenient, ""), (strict, "strict_")):
            expected = [report[theirs][key] for key in ("precision", "recall", "f1-score")]
            assert [own[prefix + key] for key in ("precision", "recall", "f1")] == pytest.approx(expected, abs=1e-4)
    assert figures["headline"]["strict_f1"] != figures["headline"]["f1"]


def test_the_report_shows_what_was_predicted_beside_what_is_true() -> None:
    assert pieces("Anna met Bob", [Span(0, 4, "PER"), Span(9, 12, "PER")]) == [
        ("Anna", "PER"),
        (" met ", ""),
        ("Bob", "PER"),
    ]
    assert pieces("Anna", []) == [("Anna", "")]


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
