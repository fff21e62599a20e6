"""What a person says is right about an item: checked against the item and the model, and compared with the model's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.errors import InvalidInput
from app.tasks.base import refuse_text
from app.tasks.extractive_summarization.task import Summary, SummaryItem
from app.tasks.labels import clean_label
from app.tasks.question_answering.task import Answers, QuestionItem
from app.tasks.text_classification.task import Classification, ClassificationItem

NAMED = 10
"""Labels of the model that an error names."""
LIKELY = 0.5
"""Score above which a label of a multi-label model is said to hold."""
Right = dict[str, Any]
"""As it is kept: see `Correction.right`."""


class Truth(Protocol):
    """The right answer to one item, in a person's words."""

    def right(self, item: Any, task_options: Mapping[str, Any]) -> Right:
        """The same as it is kept.

        Raises:
            InvalidInput: it cannot be right for this item and this model.
        """
        ...

    def agrees(self, answer: Any) -> bool:
        """Whether the model's answer was right."""
        ...


@dataclass(frozen=True, slots=True)
class LabelTruth:
    """The labels that hold."""

    labels: Sequence[str]
    field: str = "label"
    """`label` for the one of a text, `labels` for any number."""
    allows_new: bool = False
    """Whether a label that the model does not have is meant."""

    def right(self, item: ClassificationItem, task_options: Mapping[str, Any]) -> Right:
        problem_type = task_options.get("problem_type", "single_label_classification")
        if problem_type == "regression":
            raise InvalidInput("the model gives each text a number, of which no corrections are kept", self.field)
        is_multi = problem_type == "multi_label_classification"
        if self.field == "labels" and not is_multi:
            raise InvalidInput("the model gives each text one label; send it as `label`", "labels")
        for label in self.labels:
            self._check(label, task_options["labels"])
        named = sorted({_known(label, task_options["labels"]) for label in self.labels})
        return {"labels": named} if is_multi else {"label": named[0]}

    def agrees(self, answer: Classification) -> bool:
        if self.field == "label":
            return clean_label(answer.labels[0].label) == clean_label(self.labels[0])
        likely = {clean_label(one.label) for one in answer.labels if one.score > LIKELY}
        return likely == {clean_label(label) for label in self.labels}

    def _check(self, label: str, known: Sequence[str]) -> None:
        refused = refuse_text(label, self.field)
        if refused is not None:
            raise refused
        if not clean_label(label):
            raise InvalidInput("must not be empty", self.field)
        if _known(label, known) not in known and not self.allows_new:
            more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
            raise InvalidInput(
                f"is none of the model's labels ({', '.join(known[:NAMED])}{more}); with `allow_new_labels` it is kept",
                self.field,
            )


def _known(label: str, known: Sequence[str]) -> str:
    """The model's own spelling of a label that looks the same, else the label as it looks."""
    cleaned = clean_label(label)
    return next((one for one in known if clean_label(one) == cleaned), cleaned)


@dataclass(frozen=True, slots=True)
class AnswerTruth:
    """The words of the context that answer the question; empty: it does not answer it."""

    answer: str
    start: int | None = None
    """Where they stand in the context; None: they stand there once."""

    def right(self, item: QuestionItem, task_options: Mapping[str, Any]) -> Right:
        if not self.answer:
            return {"answer": "", "start": 0}
        refused = refuse_text(self.answer, "answer")
        if refused is not None:
            raise refused
        start = item.context.find(self.answer) if self.start is None else self.start
        if item.context[start : start + len(self.answer)] != self.answer:
            where = "in the context" if self.start is None else f"in the context at {self.start}"
            raise InvalidInput(f"does not stand {where}", "answer")
        if self.start is None and item.context.find(self.answer, start + 1) >= 0:
            raise InvalidInput("stands in the context more than once; say which one is meant with `start`", "answer")
        return {"answer": self.answer, "start": start}

    def agrees(self, answer: Answers) -> bool:
        if not self.answer:
            return not answer.answers or answer.no_answer_score > answer.answers[0].score
        return bool(answer.answers) and answer.answers[0].answer == self.answer


@dataclass(frozen=True, slots=True)
class SentencesTruth:
    """The sentences of the document that sum it up."""

    sentences: Sequence[str]

    def right(self, item: SummaryItem, task_options: Mapping[str, Any]) -> Right:
        for number, sentence in enumerate(self.sentences):
            refused = refuse_text(sentence, f"sentences.{number}")
            if refused is not None:
                raise refused
            if sentence.strip() not in item.text:
                raise InvalidInput("does not stand in the text", f"sentences.{number}")
        return {"sentences": [one.strip() for one in self.sentences]}

    def agrees(self, answer: Summary) -> bool:
        return [one.text for one in answer.sentences] == [one.strip() for one in self.sentences]
