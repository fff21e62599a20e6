"""Models that give texts their vectors rank documents by their cosine with the query, each with the prompt it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.tasks.feature_extraction.task import SimilarityItem
from app.tasks.registry import installed_tasks
from app.tasks.text_ranking.cosine import similarity_item
from app.tasks.text_ranking.schemas import RerankRequest
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny_spec
from tests.unit.app.conftest import Start

DOCUMENTS = ["bad film", "", "very good film", "good film"]


@pytest.fixture(scope="module")
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embedders")
    publish_tiny_spec(root, installed_tasks()["feature-extraction"])
    return root


@pytest.fixture
async def embedder(embedders: Path, start: Start) -> AsyncIterator[Service]:
    async with start(models=embedders) as service:
        yield service


async def post(service: Service, path: str, body: dict[str, Any], status: int = 200) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_the_score_is_the_cosine_of_the_vectors_that_the_model_gives(embedder: Service) -> None:
    body = {"inputs": ["good film", "bad film", "very good film", "good film"]}
    vectors = np.array([result["embedding"] for result in (await post(embedder, "/v1/embed", body))["results"]])
    cosines = dict(zip((0, 2, 3), (vectors[1:] @ vectors[0]).tolist(), strict=True))
    asked = {"query": "good film", "documents": DOCUMENTS, "return_documents": True}
    answer = await post(embedder, "/v1/rerank", asked)
    *ranked, failed = answer["results"]
    assert {result["index"]: result["relevance_score"] for result in ranked} == pytest.approx(cosines, abs=1e-5)
    assert [result["index"] for result in ranked] == sorted(cosines, key=lambda number: -cosines[number])
    assert ranked[0]["document"] == {"text": "good film"}
    assert (failed["index"], failed["error"]["detail"]) == (1, "document: must not be empty")
    assert all(result["num_tokens"] > 2 and not result["truncated"] for result in ranked)
    assert answer["usage"]["num_tokens"] > sum(result["num_tokens"] for result in ranked)  # the query is read once besides
    assert (await post(embedder, "/v1/rerank", {**asked, "top_n": 1}))["results"] == [ranked[0], failed]


async def test_what_cannot_be_ranked_is_said(embedder: Service) -> None:
    problem = await post(embedder, "/v1/rerank", {"query": " ", "documents": ["good"]}, 422)
    assert problem["detail"] == "query: must not be empty"
    results = (await post(embedder, "/v1/rerank", {"query": "good", "documents": ["", 7]}))["results"]
    assert [(result["index"], "error" in result) for result in results] == [(0, True), (1, True)]


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"query": "query: ", "passage": "passage: "}, ("query", "passage")),
        ({"document": "d: ", "passage": "p: ", "other": "o: "}, (None, "document")),
        (None, (None, None)),
    ],
)
def test_query_and_documents_get_the_prompts_that_the_model_has_for_them(prompts: Any, expected: Any) -> None:
    request = RerankRequest(query="a", documents=["b", "c"])
    (item,) = similarity_item(request, {"prompts": prompts})
    assert item == SimilarityItem("a", ("b", "c"), *expected)


async def test_text_embeddings_inferences_route_ranks_by_cosine_where_no_cross_encoder_is_there(embedder: Service) -> None:
    texts = ["bad film", "very good film", "good film"]
    native = await post(embedder, "/v1/rerank", {"query": "good film", "documents": texts})
    expected = [(result["index"], result["relevance_score"]) for result in native["results"]]
    ranked = await post(embedder, "/rerank", {"query": "good film", "texts": texts, "raw_scores": True})
    assert [(text["index"], text["score"]) for text in ranked] == expected
    assert (await post(embedder, "/rerank", {"query": "good film", "texts": texts, "return_text": True}))[0]["text"] == texts[2]
    long = {"query": "good", "texts": ["good", "film " * 500]}
    assert "more than" in (await post(embedder, "/rerank", long, 413))["error"]
    assert len(await post(embedder, "/rerank", {**long, "truncate": True})) == 2
    for body, place in (({"query": " ", "texts": ["a"]}, "query"), ({"query": "a", "texts": ["a", ""]}, "texts.1")):
        assert (await post(embedder, "/rerank", body, 422))["error"].startswith(f"{place}: must not be empty")
    assert "texts: must not be empty" in (await post(embedder, "/rerank", {"query": "a", "texts": []}, 400))["error"]
