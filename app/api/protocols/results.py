"""What the native routes that serve every task answer: an explanation, a correction that was kept."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from app.tasks.base import Result
from app.tasks.schemas import told

MAX_EXPLAINED = 16
"""Items of one request to explain."""


class Token(BaseModel):
    """One word of the item, and its weight."""

    text: str = Field(description="The word, as the caller wrote it.")
    start: int = Field(description="Its first character in its field, counted in Unicode code points from 0.")
    end: int = Field(description="The character after its last: `field[start:end] == text`.")
    weight: float = Field(description="How much it speaks for the target, in log-odds; negative: against it.")
    field: str = Field(description="The field of the item that holds it; `text` where the item is a plain string.")


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
        tokens = [told(Token, word) for word in result.answer.words]
        return told(cls, result.answer, tokens=tokens, num_tokens=result.num_tokens, truncated=result.truncated)


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
        return told(cls, result.answer, num_tokens=result.num_tokens, truncated=result.truncated)
