"""What items look like and what is made of them is summed up alike when a model is published and when it is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import DriftReference, read_manifest
from app.tasks.base import Decision, Encoded
from app.tasks.drift import MAX_LABELS, OTHER, Sums, named_labels, reference_of, summed
from app.tasks.extractive_summarization.task import ExtractiveSummarization, Sentence, Summary, SummaryOptions
from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionAnswering
from app.tasks.text_classification.task import (
    Activation,
    Classification,
    ClassificationItem,
    ClassificationOptions,
    LabelScore,
    TextClassification,
)
from tests.support.mutated_model import sign_again
from tests.support.tiny_model import publish_tiny, tiny_tokenizer

OPTIONS = ClassificationOptions()
TASK = TextClassification(tiny_tokenizer(), ("bad", "good"))


def classified(label: str, score: float) -> Classification:
    return Classification([LabelScore(label, score), LabelScore("x", 1 - score)])


def answered(*texts: str, answers: Sequence[Classification]) -> list[tuple[Encoded, Any]]:
    encoded = TASK.encode([ClassificationItem(text) for text in texts], OPTIONS)
    return [(encoding, answer) for encoding, answer in zip(encoded, answers, strict=True) if isinstance(encoding, Encoded)]


def test_tokens_unknown_ones_labels_and_scores_are_added_up() -> None:
    answers = [classified("good", 0.75), classified("bad", 0.5), classified("good", 1.0)]
    pairs = answered("good film", "a qwertz zuiop", "good", answers=answers)
    assert summed(TASK, tiny_tokenizer().unknown_id(), pairs, OPTIONS) == Sums(3, 12, 2, 3, 2.25, {"good": 2, "bad": 1})


def test_a_vocabulary_that_lacks_nothing_has_no_unknown_tokens() -> None:
    pairs = answered("qwertz", answers=[classified("good", 1.0)])
    assert summed(TASK, None, pairs, OPTIONS).num_unknown == 0


def test_scores_of_another_meaning_are_not_added_up() -> None:
    pairs = answered("good", answers=[classified("good", 7.5)])
    sums = summed(TASK, None, pairs, ClassificationOptions(activation="none"))
    assert (sums.num_items, sums.num_decisions, sums.confidence, sums.labels) == (1, 0, 0.0, {})


def test_means_and_shares_are_made_of_sums() -> None:
    assert reference_of(Sums(3, 12, 2, 3, 2.25, {"good": 2, "bad": 1})) == DriftReference(
        num_items=3, tokens_per_item=4.0, unknown_token_share=0.166667, confidence=0.75,
        label_shares={"good": 0.6667, "bad": 0.3333},
    )  # fmt: skip


def test_of_no_items_nothing_is_known() -> None:
    assert reference_of(Sums(0, 0, 0, 0, 0.0, {})) == DriftReference()
    assert reference_of(Sums(2, 8, 0, 0, 0.0, {})).confidence is None


def test_rare_labels_of_many_are_told_together() -> None:
    counts = {f"label-{number:02}": 100 - number for number in range(MAX_LABELS + 5)}
    shares = reference_of(Sums(1, 3, 0, sum(counts.values()), 1.0, counts)).label_shares
    assert list(shares) == [*list(counts)[:MAX_LABELS], OTHER]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)


def test_labels_are_told_by_name_as_many_as_are_allowed_those_of_the_reference_first(tmp_path: Path) -> None:
    labels = [f"label-{number:02}" for number in range(MAX_LABELS + 5)]
    folder = publish_tiny(tmp_path, labels=labels)
    reference = {"num_items": 9, "label_shares": {labels[-1]: 0.9, OTHER: 0.1}}
    sign_again(folder, reference=reference)
    assert named_labels(read_manifest(folder)) == (labels[-1], *labels[: MAX_LABELS - 1])


# --- what an answer of each task comes to


@pytest.mark.parametrize(("activation", "counts"), [(None, True), ("softmax", True), ("sigmoid", False), ("none", False)])
def test_a_classification_comes_to_its_best_label(activation: Activation | None, counts: bool) -> None:
    decision = TASK.decision(classified("good", 0.75), ClassificationOptions(activation=activation))
    assert decision == (Decision("good", 0.75) if counts else None)


def test_answers_come_to_the_best_ones_score_unless_there_may_be_none() -> None:
    task = QuestionAnswering(tiny_tokenizer())
    answers = Answers([Answer("good", 0.6, 0, 4), Answer("bad", 0.2, 9, 12)], 0.1)
    assert task.decision(answers, AnswerOptions()) == Decision("", 0.6)
    assert task.decision(answers, AnswerOptions(allow_no_answer=True)) is None
    assert task.decision(Answers([], 0.9), AnswerOptions()) is None


def test_a_summary_comes_to_the_score_of_its_best_sentence() -> None:
    task = ExtractiveSummarization(tiny_tokenizer())
    summary = Summary("a. b.", [Sentence("a.", 0, 2, 0.3), Sentence("b.", 3, 5, 0.4)])
    assert task.decision(summary, SummaryOptions()) == Decision("", 0.4)
    assert task.decision(Summary("", []), SummaryOptions()) is None
