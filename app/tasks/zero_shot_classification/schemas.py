"""`POST /v1/zero-shot`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import HooperError, InvalidInput
from app.core.types import Truncation
from app.tasks.base import refuse_text
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, TruncationField, as_list, with_examples
from app.tasks.text_classification.schemas import Label

EXAMPLE = "The battery is empty after an hour, and I want my money back."
PLACE = "{}"
"""Where a template has the label."""
TEMPLATE = "This example is {}."
MAX_LABELS, MAX_LABEL_CHARACTERS, MAX_TEMPLATE_CHARACTERS = 256, 200, 500
LabelName = Annotated[str, StringConstraints(max_length=MAX_LABEL_CHARACTERS)]
Method = Literal["entailment", "similarity"]
LabelNames = Annotated[list[LabelName], Field(fail_fast=True), Field(max_length=MAX_LABELS)]
LabelText = Annotated[str, StringConstraints(max_length=MAX_LABELS * (MAX_LABEL_CHARACTERS + len(", ")))]
"""All names in one text."""


@dataclass(frozen=True, slots=True)
class ZeroShotItem:
    """A text, and the sentence that each of its labels becomes."""

    text: str
    labels: Sequence[str]
    hypotheses: Sequence[str]


class LabelledChoice(Request):
    """A text with the labels that it may have."""

    text: str = Field(description="The text; one character or more that is not a space.")
    labels: LabelText | LabelNames | None = Field(
        None, description="The labels of this text: a list, or names with commas between; null: those beside `inputs`."
    )


class ZeroShotRequest(Request):
    """One text or a list of them, and the labels that they may have."""

    model_config = with_examples(
        {"model": "nli", "inputs": EXAMPLE, "labels": ["complaint", "question", "praise"]},
        {
            "model": "nli",
            "inputs": [{"text": EXAMPLE, "labels": ["refund", "battery", "delivery"]}],
            "hypothesis_template": "This text is about {}.",
            "multi_label": True,
        },
    )

    inputs: str | LabelledChoice | Annotated[list[Annotated[str | LabelledChoice, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, or an object with `text` and `labels`, or a list of them. {MANY}"
    )
    labels: LabelText | LabelNames | None = Field(
        None,
        description=f"The labels of all texts, 1 to {MAX_LABELS}: a list, or names with commas between; null: each text has its"
        " own.",
        examples=[["complaint", "praise"]],
    )
    model: ModelField = None
    hypothesis_template: Annotated[str, StringConstraints(max_length=MAX_TEMPLATE_CHARACTERS)] = Field(
        TEMPLATE, description="The sentence that a label becomes; `{}` stands for the label, and must be there."
    )
    multi_label: Annotated[bool, Field(strict=True)] = Field(
        False,
        description="Whether several labels may be right: each is then scored for itself, and `selected` from 0.5 on. Otherwise"
        " the scores of a text's labels add up to 1. A single label is always scored for itself.",
    )
    truncation: TruncationField = "window"

    def options(self) -> Truncation:
        return self.truncation

    def items(self) -> Sequence[ZeroShotItem | HooperError]:
        beside = names_of(self.labels)
        return [entry if isinstance(entry, HooperError) else self._item(entry, beside) for entry in as_list(self.inputs)]

    def _item(self, entry: str | LabelledChoice, beside: Sequence[str]) -> ZeroShotItem | HooperError:
        text, own = (entry, ()) if isinstance(entry, str) else (entry.text, names_of(entry.labels))
        if not isinstance(entry, str) and entry.labels is not None and self.labels is not None:
            return InvalidInput("stand in an item and beside `inputs`; leave them out in one of these places", "labels")
        labels = own or beside
        error = refuse_text(text, "text") or _refuse_labels(labels) or self._refuse_template()
        if error is not None:
            return error
        return ZeroShotItem(text, labels, [self.hypothesis_template.replace(PLACE, label) for label in labels])

    def _refuse_template(self) -> InvalidInput | None:
        if PLACE not in self.hypothesis_template:
            return InvalidInput("must hold {}, where the label stands", "hypothesis_template")
        return refuse_text(self.hypothesis_template, "hypothesis_template")


class ZeroShotResult(BaseModel):
    """The labels of one text, best first."""

    labels: list[Label] = Field(description="The labels with their scores, best first; equal ones in the order sent.")
    method: Method = Field(
        description="What was asked of the model: whether the label's sentence follows from the text, or how similar they are."
        " Scores of `similarity` say which label is nearest, and are no probabilities.",
        examples=["entailment"],
    )
    num_tokens: int = Field(
        description="Tokens that the model read for this text with all of its labels, special tokens included; by `similarity`"
        " a label's sentence is read once for all texts, and counts for each.",
        examples=[57],
    )
    truncated: bool = Field(description="Whether a part of the text was cut off unread.", examples=[False])


def names_of(labels: str | Sequence[str] | None) -> list[str]:
    """Of one text, the names between its commas; of a list its elements as they are."""
    if isinstance(labels, str):
        return [name.strip() for name in labels.split(",") if name.strip()]
    return list(labels or ())


def _refuse_labels(labels: Sequence[str]) -> InvalidInput | None:
    if not labels:
        return InvalidInput("are missing: send them in the item, or beside `inputs` for all items", "labels")
    if len(labels) > MAX_LABELS:
        return InvalidInput(f"are {len(labels)}, of at most {MAX_LABELS}", "labels")
    longest = max(map(len, labels))
    if longest > MAX_LABEL_CHARACTERS:
        return InvalidInput(f"has a name of {longest} characters, of at most {MAX_LABEL_CHARACTERS}", "labels")
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        return InvalidInput(f"{twice!r} is there twice", "labels")
    return next(filter(None, (refuse_text(label, "labels") for label in labels)), None)
