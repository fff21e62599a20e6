"""`POST /v1/explain`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.schemas.answer import Question
from app.api.schemas.classify import TextPair
from app.api.schemas.common import OrBroken, Request
from app.api.schemas.summarize import LanguageField
from app.core.errors import HooperError, InvalidInput
from app.core.types import TaskName
from app.serving.explaining import DEFAULT_BUDGET, MAX_BUDGET, ExplainOptions
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem
from app.tasks.question_answering.task import QuestionItem
from app.tasks.text_classification.task import ClassificationItem

MAX_EXPLAINED = 16
MAX_TARGET = 10_000

Item = str | TextPair | Question


class ExplainRequest(Request):
    """One item or a list of them, and what about the model's answer is to be explained."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"inputs": "I expected a boring film, but it was not bad at all: the actors are superb."},
                {
                    "inputs": {
                        "question": "When did the library open?",
                        "context": "The old library burned down in 1897. A new library opened in 1903.",
                    },
                    "method": "occlusion",
                },
            ]
        },
    )

    inputs: Item | Annotated[list[Annotated[Item, OrBroken]], Field(min_length=1, max_length=MAX_EXPLAINED)] = Field(
        description="What the model's own route takes: a text, a pair, or a question with its context; or a list of them."
    )
    model: Annotated[str, StringConstraints(max_length=96)] | None = Field(
        None,
        description="A loaded model, as `name` or `name/version`; its task decides what `inputs` must be. Null: the default"
        " model for questions where the first item has a question, else the default model for labels.",
        examples=[None],
    )
    target: Annotated[str, StringConstraints(min_length=1, max_length=MAX_TARGET)] | None = Field(
        None,
        description="What is explained: a label; an answer, as words of the context; or a sentence of the document, verbatim."
        " Null: the one that scores best.",
        examples=[None],
    )
    method: Literal["shapley", "occlusion"] | None = Field(
        None,
        description="`shapley`: each word's share in the score, averaged over what else is read, so that the weights add up"
        " (Owen values); `occlusion`: what is lost when the word alone is hidden. Null: `shapley`.",
    )
    budget: Annotated[int, Field(ge=0, le=MAX_BUDGET, strict=True)] = Field(
        DEFAULT_BUDGET,
        description="Tokens that the model may read to explain one item. With fewer, words that matter little are weighed"
        " together, as phrases whose weight they share.",
    )
    truncation: Literal["error", "truncate", "window"] | None = Field(
        None,
        description="What to do with a text longer than the model reads at once: refuse it (`error`), explain its beginning"
        " (`truncate`), or read all of it and explain the part that speaks most for the target (`window`). Null: as the"
        " model's own route does.",
    )
    language: LanguageField = None

    def options(self) -> ExplainOptions:
        return ExplainOptions(self.target, self.method, self.budget, self.truncation, self.language)

    @property
    def task(self) -> TaskName | None:
        """What kind of model is asked; None: whatever the named one is for."""
        if self.model is not None:
            return None
        first = self.inputs[0] if isinstance(self.inputs, list) else self.inputs
        return "question-answering" if isinstance(first, Question) else "text-classification"

    def items(self, task: TaskName) -> Sequence[Any]:
        """The items of this task; one of another shape is an error in its place."""
        inputs = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [_item(one, task) for one in inputs]


class Token(BaseModel):
    """One word of the item, and its weight."""

    text: str = Field(description="The word, as the caller wrote it.")
    start: int = Field(description="Its first character in its field, counted in Unicode code points from 0.")
    end: int = Field(description="The character after its last: `field[start:end] == text`.")
    weight: float = Field(description="How much it speaks for the target, in log-odds; negative: against it.")
    field: Literal["text", "text_pair", "question", "context"] = Field(
        description="The field of the item that holds it; `text` where the item is a plain string."
    )


class ExplainResult(BaseModel):
    """The words of one item in their order, and what the model says of the target."""

    tokens: list[Token] = Field(description="The words that the model read, those of the item's first field first.")
    target: str = Field(description="The label, answer or sentence that is explained.")
    score: float = Field(description="The target's score, between 0 and 1; of regression the number itself.")
    base_score: float = Field(
        description="The target's score when all words are hidden. With `shapley` the weights add up to"
        " `logit(score) - logit(base_score)`, where `logit(p) = log(p / (1 - p))`; of regression to `score - base_score`."
    )
    method: Literal["shapley", "occlusion"] = Field(description="How the words were weighed.")
    num_evaluations: int = Field(description="Altered versions of the item that the model read.")
    num_tokens: int = Field(description="Tokens that the model read for this item, all its altered versions included.")
    truncated: bool = Field(description="Whether a part of the item was cut off unread.")

    @classmethod
    def of(cls, result: Result) -> ExplainResult:
        answer = result.answer
        tokens = [
            Token.model_construct(text=one.text, start=one.start, end=one.end, weight=one.weight, field=one.field)
            for one in answer.words
        ]
        return cls.model_construct(
            tokens=tokens,
            target=answer.target,
            score=answer.score,
            base_score=answer.base_score,
            method=answer.method,
            num_evaluations=answer.num_evaluations,
            num_tokens=result.num_tokens,
            truncated=result.truncated,
        )


def _item(one: Item | HooperError, task: TaskName) -> Any:
    if isinstance(one, HooperError):
        return one
    if task == "question-answering":
        if isinstance(one, Question):
            return QuestionItem(one.question, one.context)
        return InvalidInput("should be an object with `question` and `context`: the model answers questions")
    if isinstance(one, Question):
        return InvalidInput(f"should be a text: the model is for {task}")
    text, text_pair = (one, None) if isinstance(one, str) else (one.text, one.text_pair)
    if task == "text-classification":
        return ClassificationItem(text, text_pair)
    return SummaryItem(text) if text_pair is None else InvalidInput(f"should be one text: the model is for {task}")
