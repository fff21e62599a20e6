"""What all native routes share: the envelope, the usage, a failed item, the common options."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, WrapValidator
from pydantic_core.core_schema import ValidatorFunctionWrapHandler

from app.api.errors import brief
from app.core.errors import HooperError, InvalidInput
from app.core.validation import wrong_field
from app.settings import Settings

ResultT = TypeVar("ResultT")
MAX_ITEM_FIELDS = 10
"""Of an item; no task's has half as many, so that among so many there are unknown ones."""
MANY = (
    f"At most {Settings.model_fields['max_items'].default} items, in a body of at most"
    f" {Settings.model_fields['max_body_bytes'].default:,} bytes, unless the service is set otherwise."
)
"""The limits of `inputs`, for its description."""

TruncationField = Annotated[
    Literal["error", "truncate", "window"],
    Field(
        description="What to do with a text longer than the model reads: refuse it (`error`), cut it (`truncate`),"
        " or read all of it in overlapping windows (`window`)."
    ),
]
ModelField = Annotated[
    Annotated[str, StringConstraints(max_length=96)] | None,
    Field(
        description="A loaded model, as `name` or `name/version`, of at most 96 characters; null: the task's default.",
        examples=[None],
    ),
]


class Request(BaseModel):
    """Unknown fields are refused: a mistyped option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


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


class Envelope(BaseModel, Generic[ResultT]):
    """The answer to a request: one result per item, in the same order."""

    model: ModelRef = Field(description="The model that answered.")
    results: list[ResultT | FailedItem] = Field(description="One result per item, in the order of `inputs`.")
    usage: Usage = Field(description="What the request cost.")


def failed(error: HooperError) -> FailedItem:
    return FailedItem(error=ItemError(type=error.type, detail=brief(error.detail)))


def _keep_broken(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    """In a list, an item of the wrong shape fails alone: its error takes its place."""
    if isinstance(value, HooperError):  # it was read before
        return value
    if isinstance(value, dict) and len(value) > MAX_ITEM_FIELDS:  # of those beyond, nothing would be said
        value = dict(islice(value.items(), MAX_ITEM_FIELDS))
    try:
        return handler(value)
    except ValidationError as error:
        field, message = wrong_field(error.errors(include_url=False, include_input=False))
        return InvalidInput(message, field or None)


OrBroken = WrapValidator(_keep_broken)
"""Annotates the element of a list of items."""


def items_of(request: type[Request]) -> TypeAdapter[list[Any]]:
    """What reads a list of a native request's items, each for itself."""
    for form in get_args(request.model_fields["inputs"].annotation):
        bare = get_args(form)[0] if get_origin(form) is Annotated else form
        if get_origin(bare) is list:
            return TypeAdapter(list[get_args(bare)[0]])  # type: ignore[arg-type, misc]
    raise TypeError(f"{request.__name__} takes no list of items")
