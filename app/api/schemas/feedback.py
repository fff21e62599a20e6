"""`POST /v1/feedback`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from app.api.schemas.common import MANY, OrBroken, Request
from app.api.schemas.summarize import LanguageField
from app.core.errors import HooperError, InvalidInput
from app.core.types import TaskName
from app.serving.feedback import Corrected
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem
from app.tasks.tokenizer import encodable
from app.tasks.truth import AnswerTruth, LabelTruth, SentencesTruth

MAX_LABELS = 1000
MAX_SENTENCES = 1000
MAX_SOURCE, MAX_COMMENT = 64, 2000
REQUEST_ID = r"^[A-Za-z0-9._-]{1,64}$"


def _unicode(text: str) -> str:
    if not encodable(text):
        raise ValueError("contains a lone surrogate, which is not valid Unicode")
    return text


Label = Annotated[str, StringConstraints(max_length=256)]
Source = Annotated[str, StringConstraints(max_length=MAX_SOURCE), AfterValidator(_unicode)]
Comment = Annotated[str, StringConstraints(max_length=MAX_COMMENT), AfterValidator(_unicode)]


class LabelledText(Request):
    """A text, or a pair of texts, and the label or labels that it should have."""

    text: str = Field(description="The text; one character or more that is not a space.")
    text_pair: str | None = Field(None, description="The second text of a pair.")
    label: Label | None = Field(None, description="The right label, for a model that gives each text one.")
    labels: Annotated[list[Label], Field(fail_fast=True), Field(max_length=MAX_LABELS)] | None = Field(
        None, description="All right labels, for a model that gives a text any number of them; an empty list: none holds."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> LabelledText:
        if (self.label is None) == (self.labels is None):
            raise ValueError("should have either `label` or `labels`")
        return self

    def corrected(self, allows_new: bool) -> Corrected:
        labels, field = ([self.label], "label") if self.label is not None else (self.labels or [], "labels")
        return Corrected(ClassificationItem(self.text, self.text_pair), LabelTruth(labels, field, allows_new))


class AnsweredQuestion(Request):
    """A question, its context, and the words of the context that answer it."""

    question: str = Field(description="The question; one character or more that is not a space.")
    context: str = Field(description="The text that was asked.")
    answer: str = Field(description="The right answer, as it stands in the context; empty: the context does not answer it.")
    start: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Its first character in the context, counted from 0; needed where it stands there more than once."
    )

    def corrected(self, allows_new: bool) -> Corrected:
        return Corrected(QuestionItem(self.question, self.context), AnswerTruth(self.answer, self.start))


class SummarizedText(Request):
    """A document, and the sentences of it that sum it up."""

    text: str = Field(description="The document.")
    sentences: Annotated[list[str], Field(fail_fast=True), Field(min_length=1, max_length=MAX_SENTENCES)] = Field(
        description="The right sentences, verbatim, in their order."
    )
    language: LanguageField = None

    def corrected(self, allows_new: bool) -> Corrected:
        return Corrected(SummaryItem(self.text, self.language), SentencesTruth(self.sentences))


def _kind(value: Any) -> str:
    """Which of the three is meant; the tags begin with a capital, so that no error names them."""
    fields = value if isinstance(value, dict) else vars(value) if isinstance(value, Request) else {}
    if "question" in fields or "answer" in fields:
        return "Answer"
    return "Sentences" if "sentences" in fields else "Label"


Item = Annotated[
    Annotated[LabelledText, Tag("Label")]
    | Annotated[AnsweredQuestion, Tag("Answer")]
    | Annotated[SummarizedText, Tag("Sentences")],
    Discriminator(_kind),
]
TASKS: dict[type[Request], TaskName] = {
    LabelledText: "text-classification",
    AnsweredQuestion: "question-answering",
    SummarizedText: "summarization",
}
WANTED: dict[TaskName, str] = {
    "text-classification": "`text` and `label`",
    "question-answering": "`question`, `context` and `answer`",
    "summarization": "`text` and `sentences`",
}


class FeedbackRequest(Request):
    """One correction or a list of them, of one model."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "inputs": {
                        "question": "When did the library open?",
                        "context": "The old library burned down in 1897. A new library opened in 1903.",
                        "answer": "1903",
                    },
                    "source": "support",
                },
                {
                    "inputs": [{"text": "Not a single dull minute, and yet I was glad when it ended.", "label": "mixed"}],
                    "allow_new_labels": True,
                },
            ]
        },
    )

    inputs: Item | Annotated[list[Annotated[Item, OrBroken]], Field(min_length=1)] = Field(
        description=f"What the model was asked, with the right answer; or a list of them. {MANY}"
    )
    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None,
        description="The model that is corrected, as `name` or `name/version`; null: the default of the task that the first"
        " item is of. With a version, the correction is refused where that version is no longer loaded.",
        examples=[None],
    )
    allow_new_labels: Annotated[bool, Field(strict=True)] = Field(
        False, description="Whether a label that the model does not have is kept, for the next version to learn."
    )
    request_id: Annotated[str, StringConstraints(pattern=REQUEST_ID)] | None = Field(
        None, description="`X-Request-Id` of the answer that is corrected; null: that of this request.", examples=[None]
    )
    source: Source = Field("", description=f"Who says so, at most {MAX_SOURCE} characters.")
    comment: Comment = Field("", description=f"Why, at most {MAX_COMMENT} characters.")

    @property
    def task(self) -> TaskName | None:
        """What kind of model is corrected; None: whatever the named one is for."""
        if self.model is not None:
            return None
        first = self.inputs[0] if isinstance(self.inputs, list) else self.inputs
        return TASKS.get(type(first), "text-classification")

    def corrections(self, task: TaskName) -> Sequence[Corrected | HooperError]:
        """The corrections of this task; one of another shape is an error in its place."""
        inputs = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [self._corrected(one, task) for one in inputs]

    def _corrected(self, one: Any, task: TaskName) -> Corrected | HooperError:
        if isinstance(one, HooperError):
            return one
        if TASKS[type(one)] != task:
            return InvalidInput(f"should have {WANTED[task]}: the model is for {task}")
        corrected: Corrected = one.corrected(self.allow_new_labels)
        return corrected


class FeedbackResult(BaseModel):
    """A correction that is on the disk."""

    id: int = Field(description="Its number in the file of corrections.", examples=[1])
    agrees: bool = Field(description="Whether the model was right.", examples=[False])
    predicted: dict[str, Any] = Field(
        description="What the model answers to the item, as its own route tells it; of labels the 20 best."
    )
    num_tokens: int = Field(description="Tokens that the model read for this item.", examples=[8])
    truncated: bool = Field(description="Whether a part of the item was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> FeedbackResult:
        kept = result.answer
        return cls.model_construct(
            id=kept.id, agrees=kept.agrees, predicted=kept.predicted, num_tokens=result.num_tokens, truncated=result.truncated
        )
