"""`POST /v1/summarize`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from app.core.errors import HooperError, InvalidInput
from app.tasks.base import Result
from app.tasks.extractive_summarization.task import SummaryItem, SummaryOptions
from app.tasks.generation import OPTION_NAMES, FinishReason, GenerationOptionsT, GenerationRequest
from app.tasks.schemas import MANY, ItemOrError, LanguageField, as_list, told, with_examples

MAX_SENTENCES = 1000
EXAMPLE = (
    "The city council voted on Tuesday to close the old market hall. Engineers had warned for years that its roof could fall."
    " About forty traders will move to a tent on the station square by March. Some of them have sold fish there for three"
    " generations. The council expects the repair to cost four million euros and to take two years."
)


class SummarizeRequest(GenerationRequest):
    """One document or a list of them, and how much of it to keep, or how to write what it says."""

    model_config = with_examples({"inputs": EXAMPLE, "max_sentences": 2}, {"inputs": [EXAMPLE]})

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A document of any length, or a list of them. {MANY}"
    )
    method: Literal["extractive", "abstractive"] | None = Field(
        None,
        description="`extractive`: sentences of the document, verbatim; `abstractive`: a text written anew; null: the model's"
        " own, and where none is named an extractive model before one that writes.",
    )
    max_sentences: Annotated[int, Field(ge=1, le=MAX_SENTENCES, strict=True)] = Field(
        3,
        description=f"Extractive: how many sentences to keep at most, 1 to {MAX_SENTENCES}, and with it how long a summary you"
        " want; fewer where further ones are expected to add less than they take room, or repeat others.",
    )
    min_sentences: Annotated[int, Field(ge=1, le=MAX_SENTENCES, strict=True)] = Field(
        1,
        description="Extractive: how many sentences to keep at least, as far as the document has so many that do not repeat"
        " each other; at most `max_sentences`. The same number in both: exactly so many.",
    )
    truncation: Literal["error", "truncate", "window"] = Field(
        "window",
        description="What to do with a document longer than the model reads at once: read all of it in windows of whole"
        " sentences (`window`), each of which a model that writes sums up by itself, read its beginning alone (`truncate`), or"
        " refuse it (`error`).",
    )

    language: LanguageField = None

    def items(self) -> Sequence[SummaryItem | HooperError]:
        return [entry if isinstance(entry, HooperError) else SummaryItem(entry) for entry in as_list(self.inputs)]

    def options(self) -> SummaryOptions:
        self._refuse(
            (*OPTION_NAMES, "stream"), "it takes sentences from the text; for a text written anew send method: abstractive"
        )
        return SummaryOptions(self.max_sentences, self.min_sentences, self.truncation, self.language)

    def written(self, kind: type[GenerationOptionsT]) -> GenerationOptionsT:
        """The options of a summary that is written.

        Raises:
            InvalidInput: there are others.
        """
        self._refuse(("max_sentences", "min_sentences"), "it writes a text of its own; use max_new_tokens")
        return self.generation(kind, truncation=self.truncation, language=self.language)

    def _refuse(self, names: Sequence[str], reason: str) -> None:
        for name in names:
            if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                raise InvalidInput(f"is no option of this model: {reason}", name)

    @model_validator(mode="after")
    def _ordered(self) -> SummarizeRequest:
        if self.min_sentences > self.max_sentences:
            raise ValueError(f"min_sentences is {self.min_sentences}, more than max_sentences, {self.max_sentences}")
        return self


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

    summary: str = Field(description="The chosen sentences, joined by spaces, or the text written.", examples=[EXAMPLE[:63]])
    sentences: list[SummarySentence] | None = Field(
        description="The chosen sentences in the document's order; null where the summary was written."
    )
    alternatives: list[str] | None = Field(
        None, description="Of a summary that was written, the other texts, where several were asked for.", examples=[None]
    )
    finish_reason: FinishReason | None = Field(
        None,
        description="Of a summary that was written: `stop`: the model ended it; `length`: it, or a part of it, has as many"
        " tokens as it may have.",
        examples=[None],
    )
    num_new_tokens: int | None = Field(None, description="Of a summary that was written, its tokens.", examples=[None])
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[76]
    )
    truncated: bool = Field(description="Whether a part of the document was not read.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> SummarizeResult:
        sentences = [told(SummarySentence, sentence) for sentence in result.answer.sentences]
        return cls.model_construct(
            summary=result.answer.summary, sentences=sentences, num_tokens=result.num_tokens, truncated=result.truncated
        )
