"""`POST /v1/answer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.question_answering.task import AnswerOptions, QuestionItem
from app.tasks.schemas import MANY, Flag, ItemOrError, ModelField, Request, as_list, told, with_examples

MAX_TOP_K = 100
MAX_ANSWER_TOKENS = 512


class Question(Request):
    """A question, and the text in which its answer is looked for."""

    question: str = Field(description="The question; one character or more that is not a space.")
    context: str = Field(description="The text that may answer it, of any length; longer ones are read in windows.")


class AnswerRequest(Request):
    """One question with its context or a list of them, and how to answer."""

    model_config = with_examples(
        {
            "inputs": {
                "question": "When did the library open?",
                "context": "The old library burned down in 1897. A new library opened in 1903.",
            }
        },
        {
            "inputs": [{"question": "Who repaired the bridge?", "context": "Anna Schmidt repaired the bridge over the Elbe."}],
            "top_k": 3,
            "allow_no_answer": True,
        },
    )

    inputs: Question | Annotated[list[Annotated[Question, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A question with its context, or a list of them. {MANY}"
    )
    model: ModelField = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True)] = Field(
        1, description=f"How many answers to return, best first, 1 to {MAX_TOP_K}; they do not overlap, and there may be fewer."
    )
    max_answer_tokens: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS, strict=True)] = Field(
        30, description=f"Longest answer in tokens, 1 to {MAX_ANSWER_TOKENS}, before it is widened to whole words."
    )
    align_to_words: Flag = Field(
        True,
        description="Whether answers begin and end at words of the context: runs of letters and digits, also joined by one of"
        " `- ' ’ . , : / @ _` between two of them. Chinese, Japanese, Korean, Thai, Lao, Khmer and Burmese text is kept whole"
        " by the character. `false`: answers are exactly the model's tokens, and whole characters.",
    )
    allow_no_answer: Flag = Field(
        False, description="Whether the empty answer, with `no_answer_score` as its score, competes with the others."
    )
    stride: Annotated[int, Field(ge=0, strict=True)] = Field(
        128,
        description="Tokens that two neighbouring windows of a long context share; at most half of a window is taken. An answer"
        " counts in the window where it has most context around it, so that none is cut at a border as long as answers are"
        " shorter than what is shared.",
    )
    truncation: Literal["error", "truncate", "window"] = Field(
        "window",
        description="What to do with a context longer than the model reads at once: read all of it in overlapping windows"
        " (`window`), read only its beginning (`truncate`), or refuse it (`error`). A question longer than half of what the"
        " model reads is cut, or refused with `error`.",
    )

    def options(self) -> AnswerOptions:
        return AnswerOptions(
            self.top_k,
            self.max_answer_tokens,
            self.allow_no_answer,
            self.stride,
            self.truncation,
            align_to_words=self.align_to_words,
        )

    def items(self) -> Sequence[QuestionItem | HooperError]:
        return [
            entry if isinstance(entry, HooperError) else QuestionItem(entry.question, entry.context)
            for entry in as_list(self.inputs)
        ]


class AnswerSpan(BaseModel):
    """One answer: a span of the context."""

    answer: str = Field(description="The words of the context; empty where it says that there is no answer.", examples=["1903"])
    score: float = Field(
        description="Probability that this is the answer, between 0 and 1, calibrated on held-out data.", examples=[0.9739]
    )
    start: int = Field(description="Its first character in the context, counted in Unicode code points from 0.", examples=[61])
    end: int = Field(description="The character after its last: `context[start:end] == answer`.", examples=[65])


class AnswerResult(BaseModel):
    """The answers to one question, best first."""

    answers: list[AnswerSpan] = Field(description="The answers, best first; they do not overlap.")
    no_answer_score: float = Field(
        description="Probability that the context does not answer the question, between 0 and 1; of models that were fitted on"
        " such questions, where every second question has no answer.",
        examples=[0.0],
    )
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[24]
    )
    truncated: bool = Field(description="Whether a part of the question or the context was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> AnswerResult:
        answers = [told(AnswerSpan, answer) for answer in result.answer.answers]
        return told(cls, result, answers=answers, no_answer_score=result.answer.no_answer_score)
