"""Text-embeddings-inference's `/rerank` and `/info`, and tensors: the same order in other words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.requests import Service

DOCUMENTS = ["bad film", "very good film", "the film", "good"]


async def post(service: Service, path: str, body: dict[str, Any], status: int = 200) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_its_rerank_gives_a_bare_list_with_the_same_order(ranker: Service) -> None:
    native = (await post(ranker, "/v1/rerank", {"query": "good film", "documents": DOCUMENTS}))["results"]
    answer = await post(ranker, "/rerank", {"query": "good film", "texts": DOCUMENTS})
    assert answer == [{"index": result["index"], "score": result["relevance_score"]} for result in native]


async def test_its_raw_scores_are_the_log_odds_and_its_texts_come_back(ranker: Service) -> None:
    asked = {"query": "good film", "texts": DOCUMENTS}
    scored = await post(ranker, "/rerank", asked)
    raw = await post(ranker, "/rerank", {**asked, "raw_scores": True, "return_text": True})
    for entry, told in zip(scored, raw, strict=True):
        assert told["text"] == DOCUMENTS[entry["index"]]
        assert 1 / (1 + np.exp(-told["score"])) == pytest.approx(entry["score"])


async def test_its_errors_are_its_own(ranker: Service) -> None:
    assert (await post(ranker, "/rerank", {"query": "film", "texts": []}, 400))["error_type"] == "Empty"
    assert "texts.1" in (await post(ranker, "/rerank", {"query": "film", "texts": ["good", " "]}, 422))["error"]
    assert "query: " in (await post(ranker, "/rerank", {"query": " ", "texts": ["good"]}, 422))["error"]
    long = {"query": "film", "texts": ["good " * 99]}
    assert '"truncate": true' in (await post(ranker, "/rerank", long, 413))["error"]
    assert len(await post(ranker, "/rerank", {**long, "truncate": True, "truncation_direction": "left"})) == 1


async def test_its_info_says_that_it_is_a_reranker(ranker: Service) -> None:
    info = (await ranker.client.get("/info")).json()
    assert info["model_type"] == {"reranker": {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}}


async def test_tensors_are_scored_in_the_order_of_the_items(ranker: Service) -> None:
    inputs = [
        {"name": name, "shape": [4], "datatype": "BYTES", "data": data}
        for name, data in (("query", ["good film"] * 4), ("document", DOCUMENTS))
    ]
    answer = await post(ranker, "/v2/models/text-ranking/infer", {"inputs": inputs, "parameters": {"truncation": "error"}})
    native = (await post(ranker, "/v1/rerank", {"query": "good film", "documents": DOCUMENTS}))["results"]
    scores = {result["index"]: result["relevance_score"] for result in native}
    assert answer["outputs"][0]["data"] == pytest.approx([scores[number] for number in range(4)])
