"""What answers of all native routes share: the envelope, the usage, a failed item."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from app.core.errors import HooperError, brief

ResultT = TypeVar("ResultT")


class ModelRef(BaseModel):
    """The model that answered."""

    name: str = Field(description="Its name.", examples=["sentiment"])
    version: int = Field(description="Its version, counted from 1.", examples=[1])


class Usage(BaseModel):
    """What the request cost."""

    num_tokens: int = Field(description="Tokens that the model read for this request, special tokens included.", examples=[14])


class ItemError(BaseModel):
    """Why one item was not answered."""

    type: str = Field(description="The kind of error.", examples=["invalid_input"])
    detail: str = Field(description="One sentence for a person.", examples=["text: must not be empty"])


class FailedItem(BaseModel):
    """Stands in the place of an item that could not be answered; the others are."""

    error: ItemError = Field(description="Why it could not be answered.")
    index: int | None = Field(
        None,
        description="The item's number, counted from 0, on routes whose results are in another order than the items.",
        exclude_if=lambda value: value is None,
    )


class Envelope(BaseModel, Generic[ResultT]):
    """The answer to a request: one result per item, in the same order, unless the route says otherwise."""

    model: ModelRef = Field(description="The model that answered.")
    results: list[ResultT | FailedItem] = Field(
        description="One result per item, in the order of the items, unless the route says otherwise."
    )
    usage: Usage = Field(description="What the request cost.")


def failed(error: HooperError, index: int | None = None) -> FailedItem:
    return FailedItem(error=ItemError(type=error.type, detail=brief(error.detail)), index=index)
