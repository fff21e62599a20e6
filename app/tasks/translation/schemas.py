"""`POST /v1/translate`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from app.tasks.base import Result
from app.tasks.generation import GenerationRequest, GenerationResult, generation_fields
from app.tasks.schemas import with_examples
from app.tasks.translation.task import TranslationOptions

EXAMPLE = "A dog runs through the snow."
Code = Annotated[str, StringConstraints(min_length=1, max_length=35)]


class TranslateRequest(GenerationRequest):
    """One text or a list of them, and the languages."""

    model_config = with_examples({"inputs": EXAMPLE}, {"inputs": [EXAMPLE, "Two children are playing."], "num_beams": 2})

    source: Code | None = Field(
        None,
        description="Language of the texts, as a code such as `de`, or as the model names it, such as `deu_Latn`; null: the"
        " model's only one, or its usual one.",
    )
    target: Code | None = Field(None, description="Language to translate into, in the same way.")
    truncation: Literal["error", "truncate", "window"] = Field(
        "window",
        description="A text of any length is translated sentence by sentence. What to do with a sentence longer than the model"
        " reads: translate it in pieces (`window`), cut it (`truncate`), or refuse the text (`error`).",
    )

    def options(self) -> TranslationOptions:
        return self.generation(TranslationOptions, source=self.source, target=self.target, truncation=self.truncation)


class TranslateResult(GenerationResult):
    """The translation of one text."""

    translation: str = Field(
        description="The text in the other language, with the line breaks of the original.", examples=["Der Film war sehr gut."]
    )

    @classmethod
    def of(cls, result: Result) -> TranslateResult:
        return cls.model_construct(translation=result.answer.text, **generation_fields(result))
