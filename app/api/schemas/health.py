"""`GET /health/*`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from app.serving.failures import FailedModel


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = Field(default="live", description="Always `live`: otherwise there is no answer.")


class Failed(BaseModel):
    """A model that could not be loaded. Requests for it get 503 with the reason; it is tried again by `load`."""

    model: str = Field(description="Its name and the version, where that is known.", examples=["topics/2"])
    detail: str = Field(description="Why, in one sentence.", examples=["model.onnx differs from the checksum in manifest.json"])

    @classmethod
    def of(cls, failed: FailedModel) -> Failed:
        return cls(model=failed.id, detail=failed.detail)


class Ready(BaseModel):
    """Every model was tried, one at least is loaded, all that the settings name are, and every engine would answer."""

    status: Literal["ready"] = Field(default="ready", description="Always `ready`: otherwise the answer is a 503.")
    models: list[str] = Field(description="The loaded models, as name/version.", examples=[["sentiment/1"]])
    failed: list[Failed] = Field(description="Models that could not be loaded.")
