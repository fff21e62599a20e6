"""`POST /v1/classify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, TruncationField, as_list
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions


class TextPair(Request):
    """A text, or a pair of texts for a model that was trained on pairs."""

    text: str = Field(description="The text; one character or more that is not a space.")
    text_pair: str | None = Field(
        None, description="The second text of a pair; null for a model that was trained on single texts."
    )


Item = str | TextPair


class ClassifyRequest(Request):
    """One text or a list of them, and how to score them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"inputs": "A warm, funny film that I would happily watch again."},
                {"inputs": ["Great value.", {"text": "It broke after two days."}], "top_k": 1},
            ]
        },
    )

    inputs: Item | Annotated[list[Annotated[Item, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, a pair, or a list of them. {MANY}"
    )
    model: ModelField = None
    top_k: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        None, description="How many labels to return, best first, 1 or more; null: all."
    )
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Turns the model's logits into scores; null: what the model was trained with."
    )
    truncation: TruncationField = "window"

    def options(self) -> ClassificationOptions:
        return ClassificationOptions(self.top_k, self.activation, self.truncation)

    def items(self) -> Sequence[ClassificationItem | HooperError]:
        return [_item(entry) for entry in as_list(self.inputs)]


class Label(BaseModel):
    """One label and its score."""

    label: str = Field(description="The label, as it stood in the training data.", examples=["positive"])
    score: float = Field(
        description="Between 0 and 1 with `softmax` or `sigmoid`; the raw logit with `none`. Of regression, which has one"
        " label, it is the number.",
        examples=[0.9989],
    )


class ClassifyResult(BaseModel):
    """The labels of one item, best first."""

    labels: list[Label] = Field(description="The labels with their scores, best first.")
    num_tokens: int = Field(description="Tokens that the model read for this item, special tokens included.", examples=[14])
    truncated: bool = Field(description="Whether the end of the text was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> ClassifyResult:
        labels = [Label.model_construct(label=label.label, score=label.score) for label in result.answer.labels]
        return cls.model_construct(labels=labels, num_tokens=result.num_tokens, truncated=result.truncated)


def _item(item: Item | HooperError) -> ClassificationItem | HooperError:
    if isinstance(item, str):
        return ClassificationItem(item)
    return item if isinstance(item, HooperError) else ClassificationItem(item.text, item.text_pair)
