"""`POST /v1/generate`."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from app.tasks.base import Result
from app.tasks.generation import GenerationRequest, GenerationResult, generation_fields
from app.tasks.text2text_generation.task import GenerateOptions

EXAMPLE = "The film was very good."


class GenerateRequest(GenerationRequest):
    """One text or a list of them, and how others are written from them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"inputs": EXAMPLE}, {"inputs": [EXAMPLE], "max_new_tokens": 20, "num_beams": 2}]},
    )

    truncation: Literal["error", "truncate"] = Field(
        "error", description="What to do with a text longer than the model reads: refuse it (`error`) or cut it (`truncate`)."
    )

    def options(self) -> GenerateOptions:
        return self.generation(GenerateOptions, truncation=self.truncation)


class GenerateResult(GenerationResult):
    """What was written for one text."""

    text: str = Field(description="The text that was written.", examples=["A good film."])

    @classmethod
    def of(cls, result: Result) -> GenerateResult:
        return cls.model_construct(
            text=result.answer.text,
            **generation_fields(result),
        )
