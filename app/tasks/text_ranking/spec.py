"""Text ranking, as the rest of Hooper knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.core.fields import FieldSpec
from app.tasks.spec import NativeRoute, Served, TableSpec, TaskSpec, TextLine
from app.tasks.text_ranking.protocols import NATIVE, OPEN_INFERENCE, TEXT_EMBEDDINGS
from app.tasks.text_ranking.schemas import RankedDocument, RelevanceResult, RerankRequest, ScoreRequest, ranked
from app.tasks.text_ranking.task import RankingItem, RankingOptions, TextRanking

WIDTH = 60
QUERY_COLUMNS = (
    "query", "question", "search query", "search", "anchor", "sentence1", "Suchanfrage", "Anfrage", "Frage", "requête",
    "consulta", "domanda", "zoekopdracht", "запрос", "查询", "検索", "검색어",
)  # fmt: skip
DOCUMENT_COLUMNS = (
    "document", "passage", "text", "doc", "paragraph", "response", "answer", "content", "context", "sentence2", "Dokument",
    "Absatz", "Text", "Antwort", "passage", "texte", "réponse", "documento", "respuesta", "risposta", "документ", "文档",
    "文書", "문서",
)  # fmt: skip

RERANK = NativeRoute(
    path="v1/rerank",
    request=RerankRequest,
    result=RankedDocument,
    listed=ScoreRequest,
    summary="Rank documents by how well they answer a query",
    description="""The documents of a request with their scores, best first; those that are equal stay in the order in which
they were sent.

Documents of any length are read: in windows that overlap, the best of which counts. All of them are read in the same batch.
A model that gives texts their vectors answers by cosines, with its prompts for queries and documents.
A document that cannot be read stands behind the others, with its `index` and an `error`.""",
)


def _lines(fields: Mapping[str, Any], result: Mapping[str, Any], max_labels: int) -> Sequence[TextLine]:
    return [TextLine(result["relevance_score"], str(fields.get("document", "")), WIDTH, str(fields.get("query", "")))]


SPEC = TaskSpec(
    name="text-ranking",
    pipeline_tag="text-ranking",
    title="Text ranking",
    task=TextRanking,
    item=RankingItem,
    options=RankingOptions,
    routes=(Served(RERANK, RelevanceResult.of, ranked),),
    fields={
        "query": FieldSpec(QUERY_COLUMNS, description="the query that every document is scored for"),
        "document": FieldSpec(DOCUMENT_COLUMNS, description="the document that is scored for every query"),
    },
    table=TableSpec({"relevance_score": float, "num_tokens": int, "truncated": bool}),
    lines=_lines,
    native=NATIVE,
    playground=Path(__file__).with_name("playground.js"),
    open_inference=OPEN_INFERENCE,
    text_embeddings=TEXT_EMBEDDINGS,
    training="scripts.tasks.text_ranking:SPEC",
)
