"""`POST /v1/summarize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem, SummaryOptions
from app.tasks.schemas import MANY, ItemOrError, LanguageField, ModelField, Request, as_list

MAX_SENTENCES = 1000
EXAMPLE = (
    "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall."
    " About forty traders will move to a tent on the station square by March. Some of them have sold fish there for three"
    " generations. The council expects the repair to cost four million euros and to take two years."
)


class SummarizeRequest(Request):
    """One document or a list of them, and how much of it to keep."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"inputs": EXAMPLE, "max_sentences": 2}, {"inputs": [EXAMPLE]}]}
    )

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A document of any length, or a list of them. {MANY}"
    )
    model: ModelField = None
    method: Literal["extractive", "abstractive"] | None = Field(
        None,
        description="`extractive`: sentences of the document, verbatim; null: the model's own, which is that. `abstractive`, a"
        " text written anew, is refused as long as no model can do it.",
    )
    max_sentences: Annotated[int, Field(ge=1, le=MAX_SENTENCES, strict=True)] = Field(
        3,
        description=f"How many sentences to keep at most, 1 to {MAX_SENTENCES}, and with it how long a summary you want; fewer"
        " where further ones are expected to add less than they take room, or repeat others.",
    )
    min_sentences: Annotated[int, Field(ge=1, le=MAX_SENTENCES, strict=True)] = Field(
        1,
        description="How many sentences to keep at least, as far as the document has so many that do not repeat each other; at"
        " most `max_sentences`. The same number in both: exactly so many.",
    )
    truncation: Literal["error", "truncate", "window"] = Field(
        "window",
        description="What to do with a document longer than the model reads at once: read all of it in windows of whole"
        " sentences (`window`), choose from its beginning alone (`truncate`), or refuse it (`error`).",
    )

    language: LanguageField = None

    def options(self) -> SummaryOptions:
        return SummaryOptions(self.max_sentences, self.min_sentences, self.truncation, self.language)

    @field_validator("method")
    @classmethod
    def _possible(cls, method: str | None) -> str | None:
        if method == "abstractive":
            raise ValueError("no model can summarize abstractively, all are extractive; leave it out or say 'extractive'")
        return method

    @model_validator(mode="after")
    def _ordered(self) -> SummarizeRequest:
        if self.min_sentences > self.max_sentences:
            raise ValueError(f"min_sentences is {self.min_sentences}, more than max_sentences, {self.max_sentences}")
        return self

    def items(self) -> Sequence[SummaryItem | HooperError]:
        return [_item(entry) for entry in as_list(self.inputs)]


class SummarySentence(BaseModel):
    """One sentence of the document."""

    text: str = Field(description="The sentence, verbatim.", examples=[EXAMPLE[:63]])
    start: int = Field(description="Its first character in the document, counted in Unicode code points from 0.", examples=[0])
    end: int = Field(description="The character after its last: `document[start:end] == text`.", examples=[63])
    score: float = Field(
        description="Share of its words that a summary is expected to say, between 0 and 1.", examples=[0.3355]
    )


class SummarizeResult(BaseModel):
    """The summary of one document."""

    summary: str = Field(description="The chosen sentences, joined by spaces.", examples=[EXAMPLE[:63]])
    sentences: list[SummarySentence] = Field(description="The chosen sentences in the document's order.")
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[76]
    )
    truncated: bool = Field(description="Whether a part of the document was not read.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> SummarizeResult:
        sentences = [
            SummarySentence.model_construct(text=sentence.text, start=sentence.start, end=sentence.end, score=sentence.score)
            for sentence in result.answer.sentences
        ]
        return cls.model_construct(
            summary=result.answer.summary, sentences=sentences, num_tokens=result.num_tokens, truncated=result.truncated
        )


def _item(text: str | HooperError) -> SummaryItem | HooperError:
    return SummaryItem(text) if isinstance(text, str) else text
