"""`POST /v1/fill`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.fill_mask.task import MAX_MASKS, FillOptions, MaskedItem
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, TruncationField, as_list, told, with_examples

MAX_TOP_K = 100
MAX_TARGETS = 100
MAX_TARGET_CHARACTERS = 256
EXAMPLE = "Paris is the [MASK] of France."

Targets = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=MAX_TARGET_CHARACTERS)]],
    Field(fail_fast=True, min_length=1, max_length=MAX_TARGETS),
]


class FillRequest(Request):
    """One text with masks or a list of them, and what may stand in their place."""

    model_config = with_examples(
        {"inputs": EXAMPLE}, {"inputs": ["The film was [MASK] good.", "[MASK] film was [MASK]."], "top_k": 3}
    )

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description="A text with one to"
        f" {MAX_MASKS} of the model's own mask tokens, such as `[MASK]` or `<mask>`, or a list of them. {MANY}"
    )
    model: ModelField = None
    top_k: Annotated[int, Field(ge=1, le=MAX_TOP_K, strict=True)] = Field(
        5, description=f"How many tokens to return for each mask, best first, 1 to {MAX_TOP_K}."
    )
    targets: Targets | None = Field(
        None,
        description="Words that alone may stand in a mask's place, each a single token of the model; null: any token. Scores"
        " stay probabilities among all tokens.",
    )
    truncation: TruncationField = "window"

    def options(self) -> FillOptions:
        return FillOptions(self.top_k, None if self.targets is None else tuple(self.targets), self.truncation)

    def items(self) -> Sequence[MaskedItem | HooperError]:
        return [entry if isinstance(entry, HooperError) else MaskedItem(entry) for entry in as_list(self.inputs)]


class TokenFill(BaseModel):
    """A token in the mask's place."""

    token: str = Field(description="The token; one that goes on a word may begin with `##`.", examples=["capital"])
    score: float = Field(description="Its probability among all tokens of the vocabulary, between 0 and 1.", examples=[0.9971])
    sequence: str = Field(
        description="The text with the token in the place of this mask; other masks stay.",
        examples=["Paris is the capital of France."],
    )


class MaskFills(BaseModel):
    """A mask of the text, and what may stand there."""

    start: int = Field(description="Its first character in the text, counted in Unicode code points from 0.", examples=[13])
    end: int = Field(description="The character after its last.", examples=[19])
    fills: list[TokenFill] = Field(description="The likeliest tokens, best first.")


class FillResult(BaseModel):
    """The masks of one text, in its order."""

    masks: list[MaskFills] = Field(description="The masks in the order of the text, each filled for itself.")
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[9]
    )
    truncated: bool = Field(description="Whether the text was cut; masks behind the cut are left out.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> FillResult:
        masks = [told(MaskFills, mask, fills=[told(TokenFill, fill) for fill in mask.fills]) for mask in result.answer.masks]
        return told(cls, result, masks=masks)
