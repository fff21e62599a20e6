"""Texts from texts in the words of other protocols."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.tasks.base import Result
from app.tasks.generation import SourceText
from app.tasks.hub_generation import NOT_HERE, TRUNCATIONS, TgiDetails, codec
from app.tasks.spec import BodyExample, OpenInferenceCodec
from app.tasks.text2text_generation.schemas import EXAMPLE, GenerateRequest

Flag = Annotated[bool, Field(strict=True)]


class WrittenText(BaseModel):
    """A text, as the specification has it, and how it ended."""

    generated_text: str = Field(description="The text that was written.")
    details: TgiDetails = Field(description="How it ended.")

    @classmethod
    def of(cls, result: Result) -> WrittenText:
        return cls.model_construct(generated_text=result.answer.text, details=TgiDetails.of(result.answer))


def _parameter(kind: Any, description: str) -> tuple[Any, Any]:
    return kind | None, Field(None, description=f"Text to text: {description}.")


Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
BESIDE = {
    "max_new_tokens": _parameter(Whole, "how many tokens to write at most"),
    "do_sample": _parameter(Flag, "whether tokens are drawn"),
    "temperature": _parameter(Number, "how freely tokens are drawn, from 0 for the likeliest alone to 100"),
    "top_k": _parameter(Annotated[int, Field(ge=1, strict=True)], "they are drawn from so many of the likeliest"),
    "top_p": _parameter(Number, "they are drawn from those that together have this probability"),
    "seed": _parameter(Whole, "the same seed gives the same text"),
    "stop": _parameter(list[str], "strings at which a text ends"),
    "repetition_penalty": _parameter(Number, "above 1 makes tokens that were written less likely"),
    **{name: _parameter(Any, "of text-generation-inference, and refused unless it says nothing") for name in NOT_HERE},
}
"""Parameters of text-generation-inference."""

HUGGING_FACE = codec(
    family="Text to text",
    inputs="text to text: a text",
    options=lambda values: GenerateRequest.model_validate(values).options(),
    parameters={**BESIDE, "details": _parameter(Flag, "changes nothing; every answer says how its text ended")},
    own=lambda given: {"truncation": "truncate" if TRUNCATIONS[given.truncation] == "truncate" else "error"},
    beside=tuple(BESIDE),
    answer=WrittenText.of,
    answers=(WrittenText,),
    example=BodyExample("writer", {"inputs": EXAMPLE}),
)

OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("text",),
    outputs={"generated": "BYTES"},
    rank=1,
    items=lambda texts: [SourceText(text) for text in texts["text"]],
    columns=lambda results: ({"generated": [result.answer.text for result in results]}, [len(results)]),
    native_item="a",
    description="Text to text: `text` to `generated`, (items,).",
    example=BodyExample("writer", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [EXAMPLE]}]}),
    excluded=("stream",),
)
