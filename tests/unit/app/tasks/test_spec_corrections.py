"""What a person says is right: refused where it cannot be, and compared with the model's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from app.core.errors import InvalidInput
from app.tasks.extractive_summarization import protocols as summaries
from app.tasks.extractive_summarization.task import Sentence, Summary, SummaryItem
from app.tasks.question_answering import protocols as answers
from app.tasks.question_answering.task import Answer, Answers, QuestionItem
from app.tasks.spec import CorrectionCodec
from app.tasks.text_classification import protocols as labels_of
from app.tasks.text_classification.task import Classification, ClassificationItem, LabelScore, SelectableLabel

SINGLE = {"labels": ["bad", "good"], "problem_type": "single_label_classification"}
MULTI = {"labels": ["bad", "good"], "problem_type": "multi_label_classification"}
TEXT = ClassificationItem("film")
QUESTION = QuestionItem("When?", "In 1903, or in 1904, or in 1903.")
DOCUMENT = SummaryItem("One. Two. Three.")


@dataclass(frozen=True)
class Sent:
    """What a person sent about an item."""

    codec: CorrectionCodec
    body: Any
    allows_new: bool = False

    def right(self, item: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.codec.gold(self.body, item, self.allows_new, options)

    def agrees(self, answer: Any) -> bool:
        return self.codec.agrees(answer, self.body)


def labelled(labels: Sequence[str], field: str = "label", allows_new: bool = False) -> Sent:
    given: dict[str, Any] = {"label": labels[0], "labels": None} if field == "label" else {"label": None, "labels": labels}
    return Sent(labels_of.CORRECTION, labels_of.LabelledText.model_construct(text="film", **given), allows_new)


def answering(answer: str, start: int | None = None) -> Sent:
    return Sent(
        answers.CORRECTION, answers.AnsweredQuestion.model_construct(question="", context="", answer=answer, start=start)
    )


def summing(sentences: Sequence[str]) -> Sent:
    return Sent(summaries.CORRECTION, summaries.SummarizedText.model_construct(text="", sentences=sentences))


def scored(**scores: float) -> Classification:
    return Classification([LabelScore(label, score) for label, score in scores.items()])


def chosen(**selected: bool) -> Classification:
    return Classification([SelectableLabel(label, 0.5, is_selected) for label, is_selected in selected.items()])


def answered(answer: str, start: int, no_answer_score: float = 0.0) -> Answers:
    return Answers([Answer(answer, 0.5, start, start + len(answer))], no_answer_score)


@pytest.mark.parametrize(
    ("truth", "item", "options", "right"),
    [
        (labelled(["good"]), TEXT, SINGLE, {"label": "good"}),
        (labelled([" good\n"]), TEXT, SINGLE, {"label": "good"}),
        (labelled(["mixed"], allows_new=True), TEXT, SINGLE, {"label": "mixed"}),
        (labelled(["\ufeffgood\u00a0"]), TEXT, SINGLE, {"label": "good"}),
        (labelled(["cafe\u0301"]), TEXT, {**SINGLE, "labels": ["café", "bar"]}, {"label": "café"}),
        (labelled(["café"]), TEXT, {**SINGLE, "labels": ["cafe\u0301", "bar"]}, {"label": "cafe\u0301"}),
        (labelled(["good"]), TEXT, MULTI, {"labels": ["good"]}),
        (labelled(["good", "bad", "good"], "labels"), TEXT, MULTI, {"labels": ["bad", "good"]}),
        (labelled([], "labels"), TEXT, MULTI, {"labels": []}),
        (answering("1904"), QUESTION, {}, {"answer": "1904", "start": 15}),
        (answering("1903", 27), QUESTION, {}, {"answer": "1903", "start": 27}),
        (answering(""), QUESTION, {}, {"answer": "", "start": 0}),
        (summing(["One.", " Three. "]), DOCUMENT, {}, {"sentences": ["One.", "Three."]}),
    ],
)
def test_what_can_be_right_is_kept(truth: Sent, item: Any, options: Mapping[str, Any], right: Mapping[str, Any]) -> None:
    assert truth.right(item, options) == right


@pytest.mark.parametrize(
    ("truth", "item", "options", "said"),
    [
        (labelled(["Good"]), TEXT, SINGLE, r"label: is none of the model's labels \(bad, good\); with `allow_new_labels`"),
        (labelled(["good"], "labels"), TEXT, SINGLE, "labels: the model gives each text one label"),
        (labelled(["good", "x"], "labels"), TEXT, MULTI, "labels: is none"),
        (labelled([" "], allows_new=True), TEXT, SINGLE, "label: must not be empty"),
        (labelled(["\ud800"], allows_new=True), TEXT, SINGLE, "label: contains a lone surrogate"),
        (answering("1905"), QUESTION, {}, "answer: does not stand in the context"),
        (answering("1903"), QUESTION, {}, "answer: stands in the context more than once"),
        (answering("1903", 15), QUESTION, {}, "answer: does not stand in the context at 15"),
        (answering("1903", 10**9), QUESTION, {}, "answer: does not stand"),
        (answering(" "), QUESTION, {}, "answer: must not be empty"),
        (summing(["One.", "Four."]), DOCUMENT, {}, "sentences.1: does not stand in the text"),
        (summing([" "]), DOCUMENT, {}, "sentences.0: must not be empty"),
    ],
)
def test_what_cannot_be_right_is_refused_by_its_field(truth: Sent, item: Any, options: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        truth.right(item, options)


def test_a_model_of_many_labels_names_some_of_them() -> None:
    options = {**SINGLE, "labels": [f"label {number}" for number in range(77)]}
    with pytest.raises(InvalidInput, match="label 9 and 67 more"):
        labelled(["x"]).right(TEXT, options)


@pytest.mark.parametrize(
    ("truth", "answer", "agrees"),
    [
        (labelled(["good"]), scored(good=0.6, bad=0.4), True),
        (labelled(["bad"]), scored(good=0.6, bad=0.4), False),
        (labelled(["good", "bad"], "labels"), chosen(good=True, bad=True), True),
        (labelled(["good"], "labels"), chosen(good=True, bad=True), False),
        (labelled([], "labels"), chosen(good=False, bad=False), True),
        (answering("1903"), answered("1903", 3), True),
        (answering("1903"), answered("1904", 15), False),
        (answering("1903"), Answers([], 1.0), False),
        (answering(""), answered("1904", 15, no_answer_score=0.4), False),
        (answering(""), answered("1904", 15, no_answer_score=0.6), True),
        (summing(["One."]), Summary("One.", [Sentence("One.", 0, 4, 0.5)]), True),
        (summing(["Two."]), Summary("One.", [Sentence("One.", 0, 4, 0.5)]), False),
    ],
)
def test_the_model_was_right_where_it_says_the_same(truth: Sent, answer: Any, agrees: bool) -> None:
    assert truth.agrees(answer) is agrees
