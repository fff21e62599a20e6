"""`POST /v1/rerank`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, Field

from app.core.errors import HooperError
from app.tasks.base import Result
from app.tasks.schemas import MANY, Flag, ItemOrError, ModelField, Request, TruncationField, as_list, told, with_examples
from app.tasks.spec import Arranged
from app.tasks.text_ranking.task import RankingItem, RankingOptions, by_relevance

T = TypeVar("T")
QUERY = "How long does a parcel take?"
DOCUMENTS = (
    "Parcels are delivered within three working days.",
    "Our shop is open from nine to six.",
    "A parcel to another country may take up to ten days.",
)
EXAMPLE: dict[str, Any] = {"query": QUERY, "documents": list(DOCUMENTS)}


class DocumentText(Request):
    """A document as an object."""

    text: str = Field(description="The document; one character or more that is not a space.")


class RerankRequest(Request):
    """A query, and the documents that may answer it."""

    model_config = with_examples(EXAMPLE, {**EXAMPLE, "top_n": 2, "return_documents": True})
    items_field: ClassVar[str] = "documents"

    query: str = Field(description="What is asked; one character or more that is not a space.")
    documents: Annotated[list[Annotated[str | DocumentText, ItemOrError]], Field(min_length=1)] = Field(
        description=f"Texts, or objects with `text`, of any length; longer ones are read in windows. {MANY}"
    )
    model: ModelField = None
    top_n: Annotated[int, Field(ge=-1, strict=True)] | None = Field(
        None, description="Number of documents to return, best first; null, 0, -1 or more than there are: all."
    )
    return_documents: Flag = Field(False, description="Whether each result holds its document, as `document.text`.")
    truncation: TruncationField = "window"

    def options(self) -> RankingOptions:
        return RankingOptions(self.truncation)

    def items(self) -> Sequence[RankingItem | HooperError]:
        return [
            entry if isinstance(entry, HooperError) else RankingItem(self.query, text_of(entry)) for entry in self.documents
        ]

    def best(self, order: Sequence[T]) -> Sequence[T]:
        """Of all that were ranked those that are returned."""
        return order[: self.top_n] if self.top_n is not None and self.top_n > 0 else order


class QueryDocument(Request):
    """A query, and one document that may answer it."""

    query: str = Field(description="What is asked; one character or more that is not a space.")
    document: str = Field(description="The document, of any length; one character or more that is not a space.")


class ScoreRequest(Request):
    """Documents, each with a query of its own, as rows of files have them."""

    inputs: QueryDocument | Annotated[list[Annotated[QueryDocument, ItemOrError]], Field(min_length=1)]
    model: ModelField = None
    truncation: TruncationField = "window"

    def options(self) -> RankingOptions:
        return RankingOptions(self.truncation)

    def items(self) -> Sequence[RankingItem | HooperError]:
        return [
            entry if isinstance(entry, HooperError) else RankingItem(entry.query, entry.document)
            for entry in as_list(self.inputs)
        ]


class RelevanceResult(BaseModel):
    """How well one document answers its query."""

    relevance_score: float
    num_tokens: int
    truncated: bool

    @classmethod
    def of(cls, result: Result) -> RelevanceResult:
        return told(cls, result, relevance_score=result.answer.score)


class RankedDocument(BaseModel):
    """A document in its place."""

    index: int = Field(description="Its number in `documents`, counted from 0.", examples=[2])
    relevance_score: float = Field(
        description="How well it answers the query, between 0 and 1; of models that give texts their vectors their cosine,"
        " between -1 and 1. The order is that of the exact logits: of scores that are rounded to the same number the first one"
        " is better.",
        examples=[0.9871],
    )
    document: DocumentText | None = Field(
        None, description="The document, with `return_documents`.", exclude_if=lambda value: value is None
    )
    num_tokens: int = Field(
        description="Tokens that the model read for it: query, special tokens and all windows included.", examples=[21]
    )
    truncated: bool = Field(description="Whether a part of the query or the document was cut off unread.", examples=[False])


def text_of(document: str | DocumentText) -> str:
    return document if isinstance(document, str) else document.text


def ranked(request: RerankRequest, results: Sequence[Result | HooperError]) -> Arranged:
    """The best documents, then those that could not be read."""
    order = by_relevance(results)
    failed = [(number, result) for number, result in enumerate(results) if isinstance(result, HooperError)]
    best = [
        (number, ranked_document(request, number, result.answer.score, result.num_tokens, result.truncated))
        for number, result in request.best(order)
    ]
    return [*best, *failed]


def ranked_document(request: RerankRequest, number: int, score: float, num_tokens: int, truncated: bool) -> RankedDocument:
    """A document of a request in its place."""
    entry = request.documents[number]
    document = None if isinstance(entry, HooperError) or not request.return_documents else DocumentText(text=text_of(entry))
    return RankedDocument.model_construct(
        index=number, relevance_score=score, document=document, num_tokens=num_tokens, truncated=truncated
    )
