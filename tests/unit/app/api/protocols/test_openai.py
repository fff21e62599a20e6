"""`/v1/embeddings` as OpenAI's clients ask it, and its errors in the shape that they read; what bounds the answer."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.tasks.registry import installed_tasks
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny_spec

NAME = "feature-extraction"


@pytest.fixture(scope="module")
def embedding_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embeddings")
    publish_tiny_spec(root, installed_tasks()[NAME])
    return root


@pytest.fixture
async def embedding(embedding_models: Path, start: Any) -> AsyncIterator[Service]:
    async with start(models=embedding_models) as service:
        yield service


async def post(service: Service, path: str, status: int = 200, **body: Any) -> Any:
    response = await service.client.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json()


async def test_each_text_has_its_vector_and_the_model_its_name(embedding: Service) -> None:
    answer = await post(embedding, "/v1/embeddings", input=["good", "a bad film"])
    native = await post(embedding, "/v1/embed", inputs=["good", "a bad film"])
    assert [entry["embedding"] for entry in answer["data"]] == [entry["embedding"] for entry in native["results"]]
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert (answer["object"], answer["data"][0]["object"], answer["model"]) == ("list", "embedding", f"{NAME}/1")
    assert answer["usage"] == {"prompt_tokens": 8, "total_tokens": 8}


async def test_base64_holds_the_same_numbers(embedding: Service) -> None:
    numbers = await post(embedding, "/v1/embeddings", input="good")
    assert await post(embedding, "/v1/embeddings", input="good", encoding_format=None) == numbers  # as LiteLLM sends it
    coded = await post(embedding, "/v1/embeddings", input="good", encoding_format="base64", model=NAME)
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    assert vector.tolist() == pytest.approx(numbers["data"][0]["embedding"], abs=1e-7)


@pytest.mark.parametrize(
    ("body", "status", "kind", "param", "code"),
    [
        ({"input": ""}, 400, "invalid_request_error", "input", "invalid_input"),
        ({"input": []}, 400, "invalid_request_error", "input", "invalid_input"),
        ({"input": ["good", " "]}, 400, "invalid_request_error", "input.1", "invalid_input"),
        ({"input": [4, 99]}, 400, "invalid_request_error", "input", "invalid_input"),
        ({"input": "good", "encoding_format": "int8"}, 400, "invalid_request_error", "encoding_format", "invalid_input"),
        ({"input": "good", "dimensions": 1}, 400, "invalid_request_error", "dimensions", "invalid_input"),
        ({"input": "good", "model": "nobody"}, 404, "not_found_error", None, "unknown_model"),
    ],
)
async def test_errors_have_its_shape(
    embedding: Service, body: Any, status: int, kind: str, param: str | None, code: str
) -> None:
    error = (await post(embedding, "/v1/embeddings", status, **body))["error"]
    assert error["message"]
    assert {name: error[name] for name in ("type", "param", "code")} == {"type": kind, "param": param, "code": code}


async def test_a_body_that_is_no_json_is_told_in_its_shape_too(embedding: Service) -> None:
    headers = {"Content-Type": "application/json"}
    response = await embedding.client.post("/v1/embeddings", content=b"{", headers=headers)
    assert response.status_code == 400
    assert "not valid JSON" in response.json()["error"]["message"]


async def test_text_embeddings_inference_gives_and_compares_vectors(embedding: Service) -> None:
    (vector,) = await post(embedding, "/embed", inputs="good")
    assert [vector] == await post(embedding, "/embed", inputs=["good"])
    compared = {"source_sentence": "good", "sentences": ["good", "bad"]}
    same, other = await post(embedding, "/similarity", inputs=compared)
    assert same == pytest.approx(1.0)
    assert other < same
    error = await post(embedding, "/embed", 413, inputs="good " * 40)
    assert error["error_type"] == "Validation"
    assert '"truncate": true' in error["error"]
    assert (await embedding.client.get("/info")).json()["model_type"] == {"embedding": {"pooling": "mean"}}


async def test_hugging_faces_parameters_may_stand_beside_the_inputs(embedding: Service) -> None:
    path = f"/models/{NAME}"
    own = await post(embedding, path, inputs="good", normalize=False)
    assert own == await post(embedding, path, inputs="good", parameters={"normalize": False})
    assert own != await post(embedding, path, inputs="good")
    twice = await post(embedding, path, 422, inputs="good", normalize=False, parameters={"normalize": True})
    assert twice["error"] == "normalize: is there twice: within `parameters` and beside them"
    scores = await post(embedding, path, inputs={"source_sentence": "good", "sentences": ["good", "bad"]})
    assert scores[0] == pytest.approx(1.0)


async def test_what_is_compared_counts_as_items(embedding_models: Path, start: Any) -> None:
    async with start(models=embedding_models, max_items=3) as service:
        body = {"source_sentence": "good", "sentences": ["bad"] * 3}
        assert "4 items are too many; at most 3" in (await post(service, "/similarity", 413, inputs=body))["error"]


async def test_an_answer_that_would_be_too_long_is_refused_before_it_is_computed(embedding_models: Path, start: Any) -> None:
    async with start(models=embedding_models, max_answer_bytes=65_536, max_items=4096) as service:
        texts = ["good"] * 2521  # two numbers of 13 bytes each
        problem = await post(service, "/v1/embed", 413, inputs=texts)
        assert problem["detail"].startswith("the answer to 2521 items would have up to 65546 bytes, more than the 65536")
        assert len((await post(service, "/v1/embed", inputs=texts[:64]))["results"]) == 64
