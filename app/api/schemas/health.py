"""`GET /health/*`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field(default="live", description="Always `live`: otherwise there is no answer.")


class Ready(BaseModel):
    """Every model is loaded and every engine would answer."""

    status: Literal["ready"] = Field(default="ready", description="Always `ready`: otherwise the answer is a 503.")
    models: list[str] = Field(description="The loaded models, as name/version.", examples=[["sentiment/1"]])
