"""`POST /v1/rerank`: its shape, its order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.requests import Service

DOCUMENTS = ["bad film", "very good film", "the film", "good"]


async def post(service: Service, path: str, body: dict[str, Any], status: int = 200) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_documents_come_back_best_first_with_their_numbers(ranker: Service) -> None:
    answer = await post(ranker, "/v1/rerank", {"query": "good film", "documents": DOCUMENTS})
    assert set(answer) == {"model", "results", "usage"}
    results = answer["results"]
    scores = [result["relevance_score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert sorted(result["index"] for result in results) == [0, 1, 2, 3]
    assert results[-1]["index"] == 0
    assert all(set(result) == {"index", "relevance_score", "num_tokens", "truncated"} for result in results)
    assert answer["usage"]["num_tokens"] == sum(result["num_tokens"] for result in results)


async def test_each_score_is_that_of_the_document_alone(ranker: Service) -> None:
    together = (await post(ranker, "/v1/rerank", {"query": "good film", "documents": DOCUMENTS}))["results"]
    for result in together:
        body = {"query": "good film", "documents": [DOCUMENTS[result["index"]]]}
        (alone,) = (await post(ranker, "/v1/rerank", body))["results"]
        assert alone["relevance_score"] == pytest.approx(result["relevance_score"], abs=1e-6)


@pytest.mark.parametrize(("top_n", "num_results"), [(1, 1), (3, 3), (99, 4), (0, 4), (-1, 4), (None, 4)])
async def test_top_n_says_how_many_come_back(ranker: Service, top_n: int | None, num_results: int) -> None:
    everything = (await post(ranker, "/v1/rerank", {"query": "film", "documents": DOCUMENTS}))["results"]
    answer = await post(ranker, "/v1/rerank", {"query": "film", "documents": DOCUMENTS, "top_n": top_n})
    assert answer["results"] == everything[:num_results]
    assert answer["usage"]["num_tokens"] == sum(result["num_tokens"] for result in everything)


async def test_documents_may_be_objects_and_be_echoed(ranker: Service) -> None:
    body = {"query": "film", "documents": ["bad", {"text": "very good"}], "return_documents": True}
    results = (await post(ranker, "/v1/rerank", body))["results"]
    assert [result["document"] for result in results] == [{"text": "very good"}, {"text": "bad"}]


async def test_equal_documents_stay_in_the_order_in_which_they_were_sent(ranker: Service) -> None:
    results = (await post(ranker, "/v1/rerank", {"query": "film", "documents": ["good"] * 3 + ["bad"] + ["good"]}))["results"]
    assert [result["index"] for result in results] == [0, 1, 2, 4, 3]


async def test_a_document_that_cannot_be_read_stands_behind_the_others(ranker: Service) -> None:
    body = {"query": "film", "documents": ["", "bad", {"nobody": "knows"}, "good"], "top_n": 1}
    results = (await post(ranker, "/v1/rerank", body))["results"]
    assert [result["index"] for result in results] == [3, 0, 2]
    assert results[1]["error"] == {"type": "invalid_input", "detail": "document: must not be empty"}


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"query": " "}, "query: must not be empty"),
        ({"query": None}, "query: "),
        ({"documents": []}, "documents: "),
        ({"documents": "good"}, "documents: "),
        ({"documents": ["good"] * 300}, "documents: 300 items are too many; at most 256"),
        ({"inputs": "good"}, "inputs: "),
        ({"top_n": "many"}, "top_n: "),
        ({"return_documents": 1}, "return_documents: "),
    ],
)
async def test_what_is_wrong_is_named(ranker: Service, change: dict[str, Any], detail: str) -> None:
    problem = await post(ranker, "/v1/rerank", {"query": "film", "documents": ["good"], **change}, 422)
    assert problem["detail"].startswith(detail)


async def test_a_long_list_is_read_to_its_end(ranker: Service) -> None:
    """Of more documents than are read in one turn."""
    documents = ["bad"] * 39 + [7] + ["very good"]
    results = (await post(ranker, "/v1/rerank", {"query": "film", "documents": documents}))["results"]
    assert (results[0]["index"], results[-1]["index"], len(results)) == (40, 39, 41)
