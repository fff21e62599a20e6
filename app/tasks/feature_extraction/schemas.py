"""`POST /v1/embed`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field, StringConstraints

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.feature_extraction.task import Embedding, EmbedItem, EmbedOptions
from app.tasks.schemas import MANY, Flag, ItemOrError, ModelField, Request, TruncationField, as_list, told, with_examples

EXAMPLE = "The parcel never arrived, and nobody answers my letters."
OTHERS = ("My order has not been delivered yet.", "How do I change my password?")
MAX_PROMPT = 2_000
"""Characters of a prompt."""

PromptText = Annotated[str, StringConstraints(max_length=MAX_PROMPT)]
Dimensions = Annotated[int, Field(ge=1, le=65_536, strict=True)]


class EmbedRequest(Request):
    """One text or a list of them, and how their vectors are wished."""

    model_config = with_examples({"inputs": EXAMPLE}, {"inputs": [EXAMPLE, *OTHERS], "encoding": "base64"})

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, or a list of texts. {MANY}"
    )
    model: ModelField = None
    normalize: Flag = Field(
        True,
        description="Whether a vector is scaled to the length 1, so that the cosine of two is their inner product; else it is"
        " the model's own.",
    )
    dimensions: Dimensions | None = Field(
        None,
        description="How many numbers of a vector to give, before it is scaled; null: all. Fewer than all only of a model"
        " that was trained for it (Matryoshka); another one refuses it.",
    )
    prompt: PromptText | None = Field(
        None,
        description="What stands before each text: the name of one of the model's prompts, such as `query`, or else a text of"
        f" at most {MAX_PROMPT} characters; null: the model's default, if it has one.",
    )
    truncation: TruncationField = "window"
    encoding: Literal["float", "base64"] = Field(
        "float",
        description="How a vector is written: a list of numbers, or `base64` of its float32 numbers, lowest byte first, which"
        " takes half as many bytes and is read in no time.",
    )

    def options(self) -> EmbedOptions:
        return EmbedOptions(
            normalize=self.normalize,
            dimensions=self.dimensions,
            prompt=self.prompt,
            truncation=self.truncation,
            vector_encoding=self.encoding,
        )

    def items(self) -> Sequence[EmbedItem | HooperError]:
        return [entry if isinstance(entry, HooperError) else EmbedItem(entry) for entry in as_list(self.inputs)]


class EmbedResult(BaseModel):
    """The vector of one text."""

    embedding: list[float] | str = Field(
        description="The vector: a list of numbers, or `base64` of them.", examples=[[0.0343, -0.0711, 0.0912]]
    )
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[14]
    )
    truncated: bool = Field(description="Whether a part of the text was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> EmbedResult:
        return told(cls, result, embedding=written(result.answer))


def written(answer: Embedding) -> list[float] | str:
    """A vector as the caller wishes it: numbers, or base64 of little-endian float32."""
    if answer.encoding == "base64":
        return base64.b64encode(np.asarray(answer.vector, "<f4").tobytes()).decode()
    return list(answer.vector)
