"""When two models' answers to the same item agree: one definition for the parity gate and for shadows."""

from __future__ import annotations

import pytest

from app.tasks.extractive_summarization.task import ExtractiveSummarization, Sentence, Summary, SummaryOptions
from app.tasks.question_answering.task import Answer, AnswerOptions, Answers, QuestionAnswering
from app.tasks.text_classification.task import (
    Activation,
    Classification,
    ClassificationOptions,
    LabelScore,
    ProblemType,
    TextClassification,
)
from tests.support.tiny_model import tiny_tokenizer


def agree(
    one: dict[str, float],
    other: dict[str, float],
    problem_type: ProblemType = "single_label_classification",
    activation: Activation | None = None,
) -> bool:
    task = TextClassification(tiny_tokenizer(), sorted(one), problem_type)
    return task.same_decision(classified(one), classified(other), ClassificationOptions(activation=activation))


def classified(scores: dict[str, float]) -> Classification:
    return Classification([LabelScore(*score) for score in sorted(scores.items(), key=lambda score: -score[1])])


# --- classification


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"bad": 0.01, "good": 0.99}, {"bad": 0.4, "good": 0.6}, True),
        ({"bad": 0.4, "good": 0.6}, {"bad": 0.6, "good": 0.4}, False),
        ({"a": 0.49, "b": 0.3, "c": 0.21}, {"a": 0.51, "b": 0.3, "c": 0.19}, True),
        ({"a": 0.4, "b": 0.3, "c": 0.3}, {"a": 0.4, "z": 0.6}, False),
    ],
)
def test_classifications_agree_on_the_best_label_whatever_its_score(
    one: dict[str, float], other: dict[str, float], same: bool
) -> None:
    assert agree(one, other) is same


@pytest.mark.parametrize(
    ("other", "activation", "same"),
    [
        ({"dull": 0.7, "long": 0.51, "sad": 0.2}, None, True),
        ({"dull": 0.9, "long": 0.49, "sad": 0.1}, None, False),
        ({"dull": 0.9, "long": 0.49, "sad": 0.1}, "sigmoid", False),
        ({"dull": 0.9, "long": 0.49, "sad": 0.1}, "none", True),  # logits: all are above nothing
        ({"dull": 0.9, "long": -0.49, "sad": 0.1}, "none", False),
        ({"dull": 0.6, "long": 0.3, "sad": 0.1}, "softmax", True),  # they compete: there is a best one
        ({"dull": 0.3, "long": 0.6, "sad": 0.1}, "softmax", False),
    ],
)
def test_where_an_item_may_have_several_labels_the_same_ones_must_be_likely(
    other: dict[str, float], activation: Activation | None, same: bool
) -> None:
    one = {"dull": 0.9, "long": 0.8, "sad": 0.1}
    assert agree(one, other, "multi_label_classification", activation) is same


# --- the other tasks


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ([Answer("1903", 0.3, 61, 65), Answer("1897", 0.2, 0, 4)], True),
        ([Answer("1903", 0.9, 5, 9)], True),
        ([Answer("1897", 0.9, 61, 65)], False),
        ([], False),
    ],
)
def test_answers_agree_when_the_best_has_the_same_words(other: list[Answer], same: bool) -> None:
    one = Answers([Answer("1903", 0.9, 61, 65)], 0.0)
    assert QuestionAnswering(tiny_tokenizer()).same_decision(one, Answers(other, 0.0), AnswerOptions()) is same


@pytest.mark.parametrize(("starts", "same"), [((0, 9), True), ((0, 5), False), ((0,), False)])
def test_summaries_agree_when_they_have_the_same_sentences(starts: tuple[int, ...], same: bool) -> None:
    def summary(*starts: int) -> Summary:
        return Summary("", [Sentence("a.", start, start + 2, 0.5) for start in starts])

    task = ExtractiveSummarization(tiny_tokenizer())
    assert task.same_decision(summary(0, 9), summary(*starts), SummaryOptions()) is same
