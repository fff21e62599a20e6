"""What requests and answers of text-embeddings-inference have alike, whichever task they are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from app.tasks.tokenizer import Side


def _in_either_case(value: Any) -> Any:
    """The protocol's file writes the sides with a capital, and its default without."""
    return value.capitalize() if value in ("left", "right") else value


CutSide = Annotated[Literal["Left", "Right"], BeforeValidator(_in_either_case)]
"""The end of a text that is cut off."""


TruncateField = Annotated[
    Annotated[bool, Field(strict=True)] | None,
    Field(description="Cut a text longer than the model reads; without it, such a text is refused."),
]
TruncationDirectionField = Annotated[
    CutSide,
    Field(
        description="The end of a text that is cut off; in lower case, too. Where it is not sent, the end that the model's"
        " tokenizer cuts off, which nearly always is the right one."
    ),
]


def cut_by(request: BaseModel, truncate: bool | None, direction: str) -> dict[str, Any]:
    """The options `truncation` and `truncation_side` of a request with these values of the two fields."""
    is_given = "truncation_direction" in request.model_fields_set
    return {
        "truncation": "truncate" if truncate else "error",
        "truncation_side": side_of(direction) if is_given else None,
    }


def side_of(direction: str | None) -> Side | None:
    """A `CutSide` as tasks know it; None: the one that the model's tokenizer cuts off."""
    return None if direction is None else "left" if direction == "Left" else "right"


def label_numbers(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """How `GET /info` tells the labels of a model."""
    return {
        "id2label": {str(number): label for number, label in enumerate(labels)},
        "label2id": {label: number for number, label in enumerate(labels)},
    }
