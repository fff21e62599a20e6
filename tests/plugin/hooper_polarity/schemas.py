"""`POST /v1/measure`: what is sent, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, TruncationField, as_list
from hooper_polarity.task import PolarityItem, PolarityOptions


class MeasureRequest(Request):
    """One text or a list of them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inputs": "A warm, funny film."}, {"inputs": ["Great value.", "It broke."]}]},
    )

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, or a list of them. {MANY}"
    )
    model: ModelField = None
    truncation: TruncationField = "window"

    def options(self) -> PolarityOptions:
        return PolarityOptions(self.truncation)

    def items(self) -> Sequence[PolarityItem | HooperError]:
        return [text if isinstance(text, HooperError) else PolarityItem(text) for text in as_list(self.inputs)]


class MeasureResult(BaseModel):
    """How positive or negative one text is."""

    polarity: float = Field(description="From -1, negative, to 1, positive.", examples=[0.93])
    num_tokens: int = Field(description="Tokens that the model read for this text.", examples=[14])
    truncated: bool = Field(description="Whether the end of the text was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> MeasureResult:
        return cls(polarity=result.answer.polarity, num_tokens=result.num_tokens, truncated=result.truncated)
