"""What a person says is right: refused where it cannot be, and compared with the model's answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.extractive_summarization.task import Sentence, Summary, SummaryItem
from app.tasks.question_answering.task import Answer, Answers, QuestionItem
from app.tasks.text_classification.task import Classification, ClassificationItem, LabelScore
from app.tasks.truth import AnswerTruth, LabelTruth, SentencesTruth, Truth

SINGLE = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["bad", "good"], "problem_type": "multi_label_classification"}
TEXT = ClassificationItem("film")
QUESTION = QuestionItem("When?", "In 1903, or in 1904, or in 1903.")
DOCUMENT = SummaryItem("One. Two. Three.")


def scored(**scores: float) -> Classification:
    return Classification([LabelScore(label, score) for label, score in scores.items()])


def answered(answer: str, start: int, no_answer_score: float = 0.0) -> Answers:
    return Answers([Answer(answer, 0.5, start, start + len(answer))], no_answer_score)


@pytest.mark.parametrize(
    ("truth", "item", "options", "right"),
    [
        (LabelTruth(["good"]), TEXT, SINGLE, {"label": "good"}),
        (LabelTruth([" good\n"]), TEXT, SINGLE, {"label": "good"}),
        (LabelTruth(["mixed"], allows_new=True), TEXT, SINGLE, {"label": "mixed"}),
        (LabelTruth(["\ufeffgood\u00a0"]), TEXT, SINGLE, {"label": "good"}),
        (LabelTruth(["cafe\u0301"]), TEXT, {**SINGLE, "labels": ["café", "bar"]}, {"label": "café"}),
        (LabelTruth(["café"]), TEXT, {**SINGLE, "labels": ["cafe\u0301", "bar"]}, {"label": "cafe\u0301"}),
        (LabelTruth(["good"]), TEXT, MULTI, {"labels": ["good"]}),
        (LabelTruth(["good", "bad", "good"], "labels"), TEXT, MULTI, {"labels": ["bad", "good"]}),
        (LabelTruth([], "labels"), TEXT, MULTI, {"labels": []}),
        (AnswerTruth("1904"), QUESTION, {}, {"answer": "1904", "start": 15}),
        (AnswerTruth("1903", 27), QUESTION, {}, {"answer": "1903", "start": 27}),
        (AnswerTruth(""), QUESTION, {}, {"answer": "", "start": 0}),
        (SentencesTruth(["One.", " Three. "]), DOCUMENT, {}, {"sentences": ["One.", "Three."]}),
    ],
)
def test_what_can_be_right_is_kept(truth: Truth, item: Any, options: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    assert truth.right(item, options) == right


@pytest.mark.parametrize(
    ("truth", "item", "options", "said"),
    [
        (LabelTruth(["Good"]), TEXT, SINGLE, r"label: is none of the model's labels \(bad, good\); with `allow_new_labels`"),
        (LabelTruth(["good"], "labels"), TEXT, SINGLE, "labels: the model gives each text one label"),
        (LabelTruth(["good", "x"], "labels"), TEXT, MULTI, "labels: is none"),
        (LabelTruth([" "], allows_new=True), TEXT, SINGLE, "label: must not be empty"),
        (LabelTruth(["\ud800"], allows_new=True), TEXT, SINGLE, "label: contains a lone surrogate"),
        (AnswerTruth("1905"), QUESTION, {}, "answer: does not stand in the context"),
        (AnswerTruth("1903"), QUESTION, {}, "answer: stands in the context more than once"),
        (AnswerTruth("1903", 15), QUESTION, {}, "answer: does not stand in the context at 15"),
        (AnswerTruth("1903", 10**9), QUESTION, {}, "answer: does not stand"),
        (AnswerTruth(" "), QUESTION, {}, "answer: must not be empty"),
        (SentencesTruth(["One.", "Four."]), DOCUMENT, {}, "sentences.1: does not stand in the text"),
        (SentencesTruth([" "]), DOCUMENT, {}, "sentences.0: must not be empty"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_field(truth: Truth, item: Any, options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        truth.right(item, options)


def test_a_number_is_not_corrected() -> None:
    with pytest.raises(InvalidInput, match="label: the model gives each text a number"):
        LabelTruth(["4.5"], allows_new=True).right(TEXT, {"labels": ["score"], "problem_type": "regression"})


def test_a_model_of_many_labels_names_some_of_them() -> None:
    options = {**SINGLE, "labels": [f"label {number}" for number in range(77)]}
    with pytest.raises(InvalidInput, match="label 9 and 67 more"):
        LabelTruth(["x"]).right(TEXT, options)


@pytest.mark.parametrize(
    ("truth", "answer", "agrees"),
    [
        (LabelTruth(["good"]), scored(good=0.6, bad=0.4), True),
        (LabelTruth(["bad"]), scored(good=0.6, bad=0.4), False),
        (LabelTruth(["good", "bad"], "labels"), scored(good=0.9, bad=0.8), True),
        (LabelTruth(["good"], "labels"), scored(good=0.9, bad=0.8), False),
        (LabelTruth([], "labels"), scored(good=0.4, bad=0.1), True),
        (AnswerTruth("1903"), answered("1903", 3), True),
        (AnswerTruth("1903"), answered("1904", 15), False),
        (AnswerTruth("1903"), Answers([], 1.0), False),
        (AnswerTruth(""), answered("1904", 15, no_answer_score=0.4), False),
        (AnswerTruth(""), answered("1904", 15, no_answer_score=0.6), True),
        (SentencesTruth(["One."]), Summary("One.", [Sentence("One.", 0, 4, 0.5)]), True),
        (SentencesTruth(["Two."]), Summary("One.", [Sentence("One.", 0, 4, 0.5)]), False),
    ],
)
def test_the_model_was_right_where_it_says_the_same(truth: Truth, answer: Any, agrees: bool) -> None:
    assert truth.agrees(answer) is agrees
