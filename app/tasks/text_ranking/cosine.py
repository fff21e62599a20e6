"""Ranking by models that give texts their vectors: the cosine of a document's vector with that of the query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.core.errors import HooperError
from app.tasks.base import Result, refuse_text
from app.tasks.feature_extraction.task import EmbedOptions, Similarities, SimilarityItem
from app.tasks.spec import Arranged
from app.tasks.text_ranking.protocols import RERANK, RankedText, RerankTextsRequest
from app.tasks.text_ranking.schemas import RerankRequest, ranked_document, text_of

QUERY_PROMPTS, DOCUMENT_PROMPTS = ("query",), ("document", "passage", "corpus")
"""What sentence-transformers' `encode_query` and `encode_document` look for among the prompts of a model."""


def similarity_item(request: RerankRequest, task_options: Mapping[str, Any]) -> list[Any]:
    """The query with all documents that can be read, each with the prompt that the model has for it; or why there is none."""
    error = refuse_text(request.query, "query")
    if error is not None:
        return [error]
    documents = [text_of(entry) for entry, refused in _documents(request) if refused is None]
    if not documents:
        return [next(refused for _, refused in _documents(request) if refused is not None)]
    return [_item(request.query, documents, task_options)]


def options_of(request: RerankRequest) -> EmbedOptions:
    return EmbedOptions(truncation=request.truncation)


def arrange(request: RerankRequest, results: Sequence[Result | HooperError]) -> Arranged:
    """The most similar documents first, equal ones in the order sent, then those that could not be read."""
    (result,) = results
    documents = _documents(request)
    failed = [(number, error) for number, (_, error) in enumerate(documents) if error is not None]
    if isinstance(result, HooperError):
        is_of_all = not any(error is None for _, error in documents)
        return failed if is_of_all and failed else [(number, result) for number in range(len(documents))]
    answer: Similarities = result.answer
    numbers = [number for number, (_, error) in enumerate(documents) if error is None]
    order = sorted(range(len(numbers)), key=lambda place: -answer.scores[place])
    read = list(zip(numbers, answer.scores, answer.num_tokens, answer.truncated, strict=True))
    return [*((read[place][0], ranked_document(request, *read[place])) for place in request.best(order)), *failed]


@dataclass(frozen=True, slots=True)
class TextsByCosine:
    """A request to text-embeddings-inference's `/rerank`, as a model of vectors is asked. Satisfies `DropInRequest`."""

    request: RerankTextsRequest
    task_options: Mapping[str, Any]

    def items(self) -> Sequence[SimilarityItem]:
        """
        Raises:
            EmptyBatch: there are no texts.
        """
        texts = tuple(item.document for item in self.request.items())
        return [_item(self.request.query, texts, self.task_options)]

    def options(self) -> EmbedOptions:
        own = self.request.options()
        return EmbedOptions(truncation=own.truncation, truncation_side=own.truncation_side)

    def place(self, number: int, field: str) -> str:
        return field.replace("source_sentence", "query").replace("sentences", "texts") or "texts"

    def shaped(self, results: Sequence[Result], model: str) -> list[RankedText]:
        """The texts, the most similar first; the raw score of a cosine is the cosine."""
        scores: Sequence[float] = results[0].answer.scores
        texts = self.request.texts if self.request.return_text else [None] * len(scores)
        order = sorted(range(len(scores)), key=lambda number: -scores[number])
        return [RankedText.model_construct(index=number, score=scores[number], text=texts[number]) for number in order]


def _item(query: str, documents: Sequence[str], task_options: Mapping[str, Any]) -> SimilarityItem:
    """Query and documents, each with the prompt that the model has for it."""
    prompts: Mapping[str, str] = task_options.get("prompts") or {}
    return SimilarityItem(query, tuple(documents), _prompt(prompts, QUERY_PROMPTS), _prompt(prompts, DOCUMENT_PROMPTS))


def _documents(request: RerankRequest) -> list[tuple[Any, HooperError | None]]:
    """Each document, and why it cannot be read, if so."""
    return [
        (entry, entry if isinstance(entry, HooperError) else refuse_text(text_of(entry), "document"))
        for entry in request.documents
    ]


def _prompt(prompts: Mapping[str, str], names: Sequence[str]) -> str | None:
    """The name of the first of these prompts that the model has; None: its default prompt is taken."""
    return next((name for name in names if name in prompts), None)


TEXTS_BY_COSINE = replace(RERANK, adapt=TextsByCosine)
"""What `/rerank` of text-embeddings-inference is to a model of vectors."""
