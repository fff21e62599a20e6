"""Ranking in the words of other protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.core.errors import EmptyBatch, InvalidInput
from app.core.manifest import Manifest
from app.tasks.base import Result
from app.tasks.protocols import tensors_example
from app.tasks.schemas import Flag, Request, with_examples
from app.tasks.spec import DropInCodec, NativeItems, OpenInferenceCodec, TextEmbeddingsCodec
from app.tasks.text_embeddings import TruncateField, TruncationDirectionField, cut_by, label_numbers
from app.tasks.text_ranking.schemas import DOCUMENTS, QUERY, QueryDocument
from app.tasks.text_ranking.task import RankingItem, RankingOptions, by_relevance


def _native_item(value: Any) -> RankingItem | InvalidInput:
    if isinstance(value, QueryDocument):
        return RankingItem(value.query, value.document)
    return InvalidInput("should be an object with `query` and `document`: the model ranks documents")


NATIVE = NativeItems((QueryDocument,), _native_item, ({"inputs": {"query": QUERY, "document": DOCUMENTS[0]}},))


# Open Inference Protocol


def _tensor_columns(results: Sequence[Result]) -> tuple[dict[str, list[Any]], list[int]]:
    return {"score": [result.answer.score for result in results]}, [len(results)]


def _tensor_items(texts: Mapping[str, Sequence[str]]) -> list[Any]:
    return [RankingItem(*texts_of_pair) for texts_of_pair in zip(texts["query"], texts["document"], strict=True)]


OPEN_INFERENCE = OpenInferenceCodec(
    inputs=("query", "document"),
    outputs={"score": "FP32"},
    items=_tensor_items,
    columns=_tensor_columns,
    native_item={"query": "a", "document": "a"},
    description="Ranking: `query` and `document` to `score`, (items,), between 0 and 1, in the order of the items.",
    example=tensors_example("ranking", query=[QUERY] * 2, document=DOCUMENTS[:2]),
)


# text-embeddings-inference


class RankedText(BaseModel):
    """A text in its place."""

    index: int = Field(description="Its number in `texts`, counted from 0.")
    score: float = Field(description="How well it answers the query: between 0 and 1, or the raw score.")
    text: str | None = Field(None, description="The text itself, with `return_text`.", exclude_if=lambda value: value is None)


class RerankTextsRequest(Request):
    """A query and the texts that may answer it, as text-embeddings-inference takes them."""

    model_config = with_examples(
        {"query": QUERY, "texts": list(DOCUMENTS)},
        {"query": QUERY, "texts": list(DOCUMENTS), "raw_scores": True, "return_text": True},
    )

    query: str = Field(description="What is asked.")
    texts: Annotated[list[str], Field(fail_fast=True)] = Field(description="The texts that are ranked.")
    raw_scores: Flag = Field(False, description="Scores are the model's raw logits.")
    return_text: Flag = Field(False, description="Whether each result holds its text.")
    truncate: TruncateField = False
    truncation_direction: TruncationDirectionField = "Right"

    def items(self) -> Sequence[RankingItem]:
        """
        Raises:
            EmptyBatch: there are no texts.
        """
        if not self.texts:
            raise EmptyBatch("must not be empty", "texts")
        return [RankingItem(self.query, text) for text in self.texts]

    def options(self) -> RankingOptions:
        return RankingOptions(**cut_by(self, self.truncate, self.truncation_direction))

    def place(self, number: int, field: str) -> str:
        return "query" if field == "query" else f"texts.{number}"

    def shaped(self, results: Sequence[Result], model: str) -> list[RankedText]:
        """The texts, best first."""
        return [
            RankedText.model_construct(
                index=number,
                score=result.answer.logit if self.raw_scores else result.answer.score,
                text=self.texts[number] if self.return_text else None,
            )
            for number, result in by_relevance(results)
        ]


def _reranker(manifest: Manifest) -> dict[str, Any]:
    return {"reranker": label_numbers(manifest.task_options["labels"])}


RERANK = DropInCodec(
    path="rerank",
    request=RerankTextsRequest,
    answer=list[RankedText],
    summary="Rank texts by how well they answer a query",
    description="""The texts, best first, each with its number.

Where one of the texts cannot be read, none is ranked.""",
    advice='"truncate": true',
)
TEXT_EMBEDDINGS = TextEmbeddingsCodec((RERANK,), "reranker", _reranker)
