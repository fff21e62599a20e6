"""`POST /v1/tag`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.schemas import MANY, ItemOrError, ModelField, Request, TruncationField, as_list, told, with_examples
from app.tasks.token_classification.task import TagItem, TagOptions

EXAMPLE = "Angela Merkel visited the Siemens works in Berlin on Tuesday."


class TagRequest(Request):
    """One text or a list of them, and how its tokens become entities."""

    model_config = with_examples(
        {"inputs": EXAMPLE}, {"inputs": ["The Rhine rises in Switzerland.", "Nobody came."], "aggregation": "average"}
    )

    inputs: str | Annotated[list[Annotated[str, ItemOrError]], Field(min_length=1)] = Field(
        description=f"A text, or a list of texts. {MANY}"
    )
    model: ModelField = None
    aggregation: Literal["none", "simple", "first", "average", "max"] = Field(
        "first",
        description="How tokens become entities. A word's label is that of its first token (`first`), the best of the mean over"
        " its tokens (`average`), or that of its surest token (`max`), and neighbouring words of one label are one entity;"
        " `simple` joins tokens without regard to words; `none` gives each token with its own label, prefix included.",
    )
    truncation: TruncationField = "window"

    def options(self) -> TagOptions:
        return TagOptions(self.aggregation, self.truncation)

    def items(self) -> Sequence[TagItem | HooperError]:
        return [entry if isinstance(entry, HooperError) else TagItem(entry) for entry in as_list(self.inputs)]


class TaggedSpan(BaseModel):
    """An entity, or with `none` a token: a span of the text."""

    label: str = Field(description="Its label, without the prefix that tells where in an entity a token is.", examples=["PER"])
    text: str = Field(description="Its characters in the text, as they stand there.", examples=["Angela Merkel"])
    start: int = Field(description="Its first character, counted in Unicode code points from 0.", examples=[0])
    end: int = Field(description="The character after its last: the text from `start` to `end` is `text`.", examples=[13])
    score: float = Field(description="Mean probability of its words' labels, between 0 and 1.", examples=[0.9951])


class TagResult(BaseModel):
    """The entities of one text, in its order."""

    entities: list[TaggedSpan] = Field(description="The entities in the order of the text; they do not overlap.")
    num_tokens: int = Field(
        description="Tokens that the model read for this item, special tokens and all windows included.", examples=[14]
    )
    truncated: bool = Field(description="Whether a part of the text was cut off unread.", examples=[False])

    @classmethod
    def of(cls, result: Result) -> TagResult:
        return told(cls, result, entities=[told(TaggedSpan, entity) for entity in result.answer.entities])
