"""`POST /v1/classify`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.schemas import MANY, Count, ItemOrError, ModelField, Request, TruncationField, as_list, told, with_examples
from app.tasks.text_classification.task import ClassificationItem, ClassificationOptions, LabelScore, SelectableLabel


class TextPair(Request):
    """A text, or a pair of texts for a model that was trained on pairs."""

    text: str = Field(description="The text; one character or more that is not a space.")
    text_pair: str | None = Field(
        None, description="The second text of a pair; null for a model that was trained on single texts."
    )


Item = str | TextPair


class ClassifyRequest(Request):
    """One text or a list of them, and how to score them."""

    model_config = with_examples(
        {"inputs": "A warm, funny film that I would happily watch again."},
        {"inputs": ["Great value.", {"text": "It broke after two days."}], "top_k": 1},
    )

    inputs: Item | Annotated[list[Annotated[Item, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, a pair, or a list of them. {MANY}"
    )
    model: ModelField = None
    top_k: Count | None = Field(None, description="How many labels to return, best first, 1 or more; null: all.")
    activation: Literal["softmax", "sigmoid", "none"] | None = Field(
        None, description="Turns the model's logits into scores; null: what the model was trained with."
    )
    truncation: TruncationField = "window"
    threshold: Annotated[float, Field(ge=0, le=1, strict=True, allow_inf_nan=False)] | None = Field(
        None,
        description="For models that give a text any number of labels: the probability from which on a label is `selected`;"
        " null: the model's own threshold for each label, 0.5 where it has none. Nothing is left out because of it. A model"
        " that gives each text one label refuses it.",
    )

    def options(self) -> ClassificationOptions:
        return ClassificationOptions(self.top_k, self.activation, self.truncation, threshold=self.threshold)

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
    selected: bool | None = Field(
        None,
        description="Only of models that give a text any number of labels: whether the label's probability reaches the"
        " threshold.",
        examples=[True],
        exclude_if=lambda value: value is None,
    )

    @classmethod
    def of(cls, label: LabelScore) -> Label:
        selected = label.selected if isinstance(label, SelectableLabel) else None
        return cls.model_construct(label=label.label, score=label.score, selected=selected)


class ClassifyResult(BaseModel):
    """The labels of one item, best first."""

    labels: list[Label] = Field(description="The labels with their scores, best first.")
    num_tokens: int = Field(description="Tokens that the model read for this item, special tokens included.", examples=[14])
    truncated: bool = Field(description="Whether the end of the text was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> ClassifyResult:
        return told(cls, result, labels=[Label.of(label) for label in result.answer.labels])


def _item(item: Item | HooperError) -> ClassificationItem | HooperError:
    if isinstance(item, str):
        return ClassificationItem(item)
    return item if isinstance(item, HooperError) else ClassificationItem(item.text, item.text_pair)
