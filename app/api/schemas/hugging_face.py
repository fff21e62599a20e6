"""`POST /models/{name}`: the Hugging Face Inference API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from app.api.schemas.answer import MAX_ANSWER_TOKENS, MAX_TOP_K, AnswerSpan, Question
from app.api.schemas.classify import Label, TextPair
from app.api.schemas.common import Request
from app.api.schemas.summarize import EXAMPLE, LanguageField

Input = str | Question | TextPair
MIN_WINDOW = 64
"""Shorter windows would cut a long context into more of them than anybody wants to be read."""
Count = Annotated[int, Field(ge=1, strict=True)]

EXAMPLES: dict[str, Any] = {
    "sentiment": {
        "summary": "Text classification",
        "value": {"inputs": "A warm, funny film that I would happily watch again.", "parameters": {"top_k": 1}},
    },
    "qa": {
        "summary": "Question answering",
        "value": {
            "inputs": {
                "question": "When did the library open?",
                "context": "The old library burned down in 1897. A new library opened in 1903.",
            },
            "parameters": {"max_answer_len": 15},
        },
    },
    "summary": {"summary": "Summarization", "value": {"inputs": EXAMPLE}},
}
"""A body for each of the shipped models, by its name."""


class Parameters(Request):
    """Options of the model's task; those of another task are refused."""

    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = Field(
        None, description="Classification: turns the model's logits into scores; null: what the model was trained with."
    )
    top_k: Count | None = Field(
        None,
        description="Classification: how many labels, best first; null: all. Question answering: how many answers, at most"
        f" {MAX_TOP_K}; null: 1.",
    )
    doc_stride: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        None, description="Question answering: tokens that two neighbouring windows of a long context share; null: 128."
    )
    max_answer_len: Annotated[int, Field(ge=1, le=MAX_ANSWER_TOKENS, strict=True)] | None = Field(
        None, description="Question answering: longest answer in tokens, before it is widened to whole words; null: 30."
    )
    max_seq_len: Annotated[int, Field(ge=MIN_WINDOW, strict=True)] | None = Field(
        None,
        description="Question answering: longest window in tokens, question included; null, or more: what the model reads.",
    )
    max_question_len: Count | None = Field(
        None, description="Question answering: tokens of the question that are read; null, or more: half of a window."
    )
    handle_impossible_answer: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Question answering: whether the empty answer may win; null: no."
    )
    align_to_words: Annotated[bool, Field(strict=True)] | None = Field(
        None,
        description="Question answering: whether answers are widened to whole words, in scripts without blanks between them to"
        " whole characters; `false`: they are exactly the model's tokens; null: yes.",
    )
    truncation: Literal["do_not_truncate", "longest_first", "only_first", "only_second"] | None = Field(
        None,
        description="Summarization: `longest_first` and `only_first` read only as much of the document as the model reads at"
        " once; null, `do_not_truncate` and `only_second` read all of it in windows.",
    )
    clean_up_tokenization_spaces: Annotated[bool, Field(strict=True)] | None = Field(
        None, description="Summarization: changes nothing, for sentences are returned as they stand in the document."
    )
    language: LanguageField = None
    generate_parameters: dict[str, Any] | None = Field(
        None,
        description="Summarization: for models that generate. An extractive model generates nothing: it reads and checks none"
        " of them, and the header `X-Ignored-Parameters` says so.",
    )


class Options(Request):
    """What the hosted API knows and a service of one's own need not."""

    use_cache: bool | None = Field(None, description="Changes nothing: answers are not cached.")
    wait_for_model: bool | None = Field(None, description="Changes nothing: a model that is not loaded is not waited for.")


class InferenceRequest(Request):
    """One input or a list of them, as the model's task needs it."""

    inputs: Input | Annotated[list[Input], Field(fail_fast=True)] = Field(
        description="Classification: a text, or a pair; question answering: a question with its context; summarization: a"
        " document. Or a list of them: then the answer is a list, too."
    )
    parameters: Parameters | None = Field(None, description="What is wished of the answer, by the model's task.")
    options: Options | None = Field(None, description="What Hugging Face's clients send along.")

    def listed(self) -> Sequence[Input]:
        return self.inputs if isinstance(self.inputs, list) else [self.inputs]

    @property
    def ignored(self) -> list[str]:
        """Parameters that were given and cannot matter."""
        return ["generate_parameters"] if self.parameters and self.parameters.generate_parameters else []

    def place(self, number: int, field: str) -> str:
        """How the caller names a field of an item; without a field, the item."""
        outer = f"inputs.{number}" if isinstance(self.inputs, list) else "inputs"
        return outer if isinstance(self.listed()[number], str) or not field else f"{outer}.{field}"


class SummaryText(BaseModel):
    """A summary, as the specification has it."""

    summary_text: str = Field(description="The chosen sentences of the document, joined by spaces.")


InferenceAnswer = (
    list[Label] | list[AnswerSpan] | AnswerSpan | SummaryText | list[list[Label]] | list[list[AnswerSpan]] | list[SummaryText]
)
"""For one input by the model's task, or for a list of them; why there is a lone `AnswerSpan`, `app.api.hub` says."""
