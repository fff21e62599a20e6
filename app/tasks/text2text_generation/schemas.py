"""`POST /v1/generate`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints

from app.core.errors import InvalidInput
from app.tasks.base import Result
from app.tasks.constraints import MAX_CHOICE_CHARACTERS, MAX_CHOICES, MAX_REGEX_CHARACTERS, MAX_SCHEMA_CHARACTERS, OutputFormat
from app.tasks.generation import GenerationRequest, GenerationResult, generation_fields
from app.tasks.schemas import with_examples
from app.tasks.text2text_generation.task import GenerateOptions

EXAMPLE = "The film was very good."
GenerateOptionsT = TypeVar("GenerateOptionsT", bound=GenerateOptions)


class GenerateRequest(GenerationRequest):
    """One text or a list of them, and how others are written from them, or they are continued."""

    model_config = with_examples({"inputs": EXAMPLE}, {"inputs": [EXAMPLE], "max_new_tokens": 20, "num_beams": 2})

    truncation: Literal["error", "truncate"] = Field(
        "error",
        description="What to do with a text longer than the model reads: refuse it (`error`) or cut it (`truncate`): its end,"
        " or its beginning where the model continues it.",
    )

    schema_: dict[str, Any] | None = Field(
        None,
        alias="schema",
        description=f"A JSON schema of at most {MAX_SCHEMA_CHARACTERS:,} characters: the text is a document that obeys it,"
        " unless it is cut, which `finish_reason` says. Without beams. A keyword that cannot be followed is refused.",
        examples=[None],
    )
    regex: Annotated[str, StringConstraints(min_length=1, max_length=MAX_REGEX_CHARACTERS)] | None = Field(
        None,
        description="A regular expression that the whole text matches, in the same way; without look-around, and with `\\d` and"
        " `\\w` for ASCII.",
        examples=[None],
    )
    choices: (
        Annotated[
            list[Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHOICE_CHARACTERS)]],
            Field(min_length=1, max_length=MAX_CHOICES, fail_fast=True),
        ]
        | None
    ) = Field(None, description="Texts of which the model writes one, in the same way.", examples=[None])

    def options(self) -> GenerateOptions:
        return self.options_of(GenerateOptions)

    def options_of(self, kind: type[GenerateOptionsT]) -> GenerateOptionsT:
        """The same for a task whose options are these and others."""
        return self.generation(kind, truncation=self.truncation, output_format=self._output_format())

    def _output_format(self) -> OutputFormat | None:
        formats = [
            *([OutputFormat.of_schema(self.schema_)] if self.schema_ is not None else ()),
            *([OutputFormat("regex", self.regex)] if self.regex is not None else ()),
            *([OutputFormat.of_choices(self.choices)] if self.choices is not None else ()),
        ]
        if len(formats) > 1:
            raise InvalidInput(f"does not go with {formats[0].field}; send one of them", formats[1].field)
        return formats[0] if formats else None


class GenerateResult(GenerationResult):
    """What was written for one text."""

    text: str = Field(description="The text that was written.", examples=["A good film."])

    @classmethod
    def of(cls, result: Result) -> GenerateResult:
        return cls.model_construct(
            text=result.answer.text,
            **generation_fields(result),
        )
