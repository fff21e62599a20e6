"""`/predict` and `/info`: text-embeddings-inference's own rules for texts, pairs and batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.manifest import read_manifest
from app.tasks.registry import installed_tasks
from app.tasks.text_classification.protocols import PredictRequest
from tests.support.mutated_model import sign_again
from tests.support.requests import Service
from tests.support.tiny_model import MAX_TOKENS, publish_tiny, publish_tiny_spec

VARIANTS = "inputs: should be a text, a pair [text, text], or a batch [[text], [text, text], …]"
LONG = "bad " + "film " * MAX_TOKENS + "good"


async def predict(service: Service, inputs: Any, **options: Any) -> Any:
    response = await service.client.post("/predict", json={"inputs": inputs, **options})
    assert response.status_code == 200, response.text
    return response.json()


async def native(service: Service, inputs: Any, **options: Any) -> Any:
    return [entry["labels"] for entry in (await service.classify(inputs, **options)).json()["results"]]


async def test_a_text_gets_its_labels_best_first(service: Service) -> None:
    assert [await predict(service, "very good")] == await native(service, "very good")


async def test_two_texts_are_a_pair(service: Service) -> None:
    (expected,) = await native(service, {"text": "very good", "text_pair": "bad"})
    assert await predict(service, ["very good", "bad"]) == expected


async def test_a_batch_mixes_texts_and_pairs(service: Service) -> None:
    expected = await native(service, ["very good", {"text": "bad", "text_pair": "film"}])
    assert await predict(service, [["very good"], ["bad", "film"]]) == expected
    assert await predict(service, [["very good"]]) == expected[:1]


async def test_raw_scores_are_logits(service: Service) -> None:
    assert [await predict(service, "good", raw_scores=True)] == await native(service, "good", activation="none")


async def test_a_longer_text_is_refused_unless_it_may_be_cut(service: Service) -> None:
    for options in ({}, {"truncate": False}, {"truncate": None}):
        response = await service.client.post("/predict", json={"inputs": LONG, **options})
        assert response.status_code == 413
        assert response.json()["error_type"] == "Validation"
    response = await service.client.post("/predict", json={"inputs": [[LONG], ["good"]], "truncate": True})
    assert response.headers["x-truncated"] == "1"


async def test_it_is_cut_on_the_side_that_the_caller_names(service: Service) -> None:
    scores = {}
    for side in ("Right", "right", "Left", "left"):
        answer = await predict(service, LONG, truncate=True, truncation_direction=side)
        scores[side] = {entry["label"]: entry["score"] for entry in answer}
    assert scores["Right"] == scores["right"] == {
        entry["label"]: entry["score"] for entry in await predict(service, LONG, truncate=True)
    }  # fmt: skip
    assert scores["Left"] == scores["left"]
    assert scores["Left"]["good"] > scores["Right"]["good"]


def test_the_side_is_the_tokenizer_s_where_the_caller_names_none() -> None:
    assert PredictRequest(inputs=LONG).options().truncation_side is None
    assert PredictRequest(inputs=LONG, truncation_direction="Right").options().truncation_side == "right"


INVALID: list[tuple[Any, int, str, str]] = [
    ([], 400, "Empty", "inputs: must not be empty"),
    ("", 422, "Validation", "inputs: must not be empty"),
    (["good", " "], 422, "Validation", "inputs.1: must not be empty"),
    ([["good"], ["", "bad"]], 422, "Validation", "inputs.1.0: must not be empty"),
    (["good"], 422, "Validation", VARIANTS),
    (["good", "bad", "film"], 422, "Validation", VARIANTS),
    ([["good"], []], 422, "Validation", VARIANTS),
    ([["good", "bad", "film"]], 422, "Validation", VARIANTS),
    ([["good"], "bad"], 422, "Validation", VARIANTS),
    ({"text": "good"}, 422, "Validation", VARIANTS),
    (5, 422, "Validation", VARIANTS),
    (None, 422, "Validation", VARIANTS),
]


@pytest.mark.parametrize(("inputs", "status", "kind", "message"), INVALID, ids=[str(entry[0]) for entry in INVALID])
async def test_what_is_neither_text_nor_pair_nor_batch_is_refused(
    service: Service, inputs: Any, status: int, kind: str, message: str
) -> None:
    response = await service.client.post("/predict", json={"inputs": inputs})
    assert response.status_code == status
    assert response.json() == {"error": message, "error_type": kind}


@pytest.mark.parametrize("options", [{"raw_scores": "yes"}, {"truncate": 1}, {"truncation_direction": "up"}, {"top_k": 1}])
async def test_a_wrong_option_is_named(service: Service, options: dict[str, Any]) -> None:
    response = await service.client.post("/predict", json={"inputs": "good", **options})
    assert response.status_code == 422
    assert response.json()["error"].startswith(next(iter(options)))


async def test_tokens_are_those_of_the_model_with_their_characters(service: Service) -> None:
    answer = (await service.client.post("/tokenize", json={"inputs": "Very good"})).json()
    assert [(token["text"], token["special"], token["start"], token["stop"]) for token in answer[0]] == [
        ("[CLS]", True, None, None),
        ("Very", False, 0, 4),
        ("good", False, 5, 9),
        ("[SEP]", True, None, None),
    ]
    several = await service.client.post("/tokenize", json={"inputs": ["Very good", "bad"], "add_special_tokens": False})
    assert several.json()[0] == answer[0][1:-1]
    assert len(several.json()) == 2


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"inputs": []}, 400, "inputs: must not be empty"),
        ({"inputs": " "}, 422, "inputs: must not be empty"),
        ({"inputs": ["good", ""]}, 422, "inputs.1: must not be empty"),
        ({"inputs": "good", "prompt_name": "query"}, 422, "prompt_name: 'query' is no prompt of this model"),
        ({"inputs": ["good"] * 300}, 413, "inputs: 300 items are too many; at most 256"),
        ({"inputs": "good", "truncate": True}, 422, "truncate: is not a field that is known here"),
    ],
)
async def test_what_has_no_tokens_is_named(service: Service, body: dict[str, Any], status: int, error: str) -> None:
    response = await service.client.post("/tokenize", json=body)
    assert (response.status_code, response.json()["error"]) == (status, error)


async def test_tokens_become_the_text_again(service: Service) -> None:
    tokens = (await service.client.post("/tokenize", json={"inputs": ["very good", "bad film"]})).json()
    ids = [[entry["id"] for entry in entries] for entries in tokens]
    assert (await service.client.post("/decode", json={"ids": ids})).json() == ["very good", "bad film"]
    whole = await service.client.post("/decode", json={"ids": ids[0], "skip_special_tokens": False})
    assert whole.json() == ["[CLS] very good [SEP]"]
    for wrong, error in (([1, 9999], "ids: 9999 is no token"), ([[1], [9999]], "ids.1: 9999 is no token")):
        refused = await service.client.post("/decode", json={"ids": wrong})
        assert (refused.status_code, refused.json()["error_type"]) == (422, "Validation")
        assert refused.json()["error"].startswith(error)
    for wrong in ([], [[]], [-1], ["a"], 7, [2**40]):
        assert (await service.client.post("/decode", json={"ids": wrong})).status_code == 422


async def test_a_prompt_stands_before_each_text(start: Any, tmp_path: Path) -> None:
    publish_tiny_spec(tmp_path, installed_tasks()["feature-extraction"])
    async with start(models=tmp_path) as service:
        body = {"inputs": "good", "prompt_name": "query", "add_special_tokens": False}
        options = service.live.registry.deployments[0].manifest.task_options
        options["prompts"] = {"query": "the film "}
        answer = (await service.client.post("/tokenize", json=body)).json()
    assert [token["text"] for token in answer[0]] == ["the", "film", "good"]


async def test_info_tells_the_truth_of_the_model(start: Any) -> None:
    async with start(max_items=7, max_batch_tokens=99, max_batch_rows=9, max_waiting_rows=77) as service:
        info = (await service.client.get("/info")).json()
        manifest = service.live.registry.deployments[0].manifest
    assert info["model_id"] == "tiny/1"
    assert info["served_model_name"] == "tiny"
    assert info["model_sha"] == manifest.files["model.onnx"].sha256
    assert info["model_dtype"] == "float32"
    assert info["model_type"] == {"classifier": {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}}
    assert info["max_input_length"] == MAX_TOKENS
    assert info["auto_truncate"] is False
    limits = {"max_concurrent_requests": 77, "max_batch_tokens": 99, "max_batch_requests": 9, "max_client_batch_size": 7}
    assert {name: info[name] for name in limits} == limits


async def test_a_setting_names_the_model_of_the_routes_that_its_task_has(start: Any, tmp_path: Path) -> None:
    publish_tiny(tmp_path, "first")
    publish_tiny(tmp_path, "second")
    publish_tiny_spec(tmp_path, installed_tasks()["feature-extraction"])
    async with start(models=tmp_path, tei_model="second") as service:
        assert (await service.client.get("/info")).json()["model_id"] == "second/1"
        response = await service.client.post("/embed", json={"inputs": "good"})
        assert (response.status_code, len(response.json())) == (200, 1)  # which "second" does not do
    async with start(models=tmp_path, tei_model="third") as service:
        response = await service.client.post("/predict", json={"inputs": "good"})
    assert response.status_code == 424
    assert "third" in response.json()["error"]


@pytest.fixture(scope="module")
def token_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that gives vectors of tokens, the sums of words and types in the tiny graph; and one that does not."""
    root = tmp_path_factory.mktemp("tokens")
    spec = installed_tasks()["feature-extraction"]
    publish_tiny_spec(root / "with", spec)
    folder = publish_tiny_spec(root / "without", spec)
    options = read_manifest(folder).task_options
    sign_again(folder, task_options={name: value for name, value in options.items() if name != "token_dimensions"})
    return root


async def test_each_token_has_its_vector_special_ones_too(start: Any, token_models: Path) -> None:
    async with start(models=token_models / "with") as service:
        texts = ["very good", "bad film bad"]
        answer = (await service.client.post("/embed_all", json={"inputs": texts})).json()
        tokens = (await service.client.post("/tokenize", json={"inputs": texts})).json()
        assert [len(vectors) for vectors in answer] == [len(entries) for entries in tokens] == [4, 5]
        assert answer[1][1] == answer[1][3] != answer[1][2]  # the word, wherever it stands: they are not pooled
        assert (await service.client.post("/embed_all", json={"inputs": "very good"})).json() == answer[:1]
        ids = [[entry["id"] for entry in entries if not entry["special"]] for entries in tokens]
        assert (await service.client.post("/embed_all", json={"inputs": ids})).json() == answer
        refused = await service.client.post("/embed_all", json={"inputs": [LONG]})
        assert (refused.status_code, refused.json()["error_type"]) == (413, "Validation")
        assert '"truncate": true' in refused.json()["error"]
        (cut,) = (await service.client.post("/embed_all", json={"inputs": [LONG], "truncate": True})).json()
        assert len(cut) == MAX_TOKENS


async def test_an_answer_of_too_many_tokens_is_refused_before_it_is_computed(start: Any, token_models: Path) -> None:
    async with start(models=token_models / "with", max_answer_bytes=65_536, max_items=4096) as service:
        refused = await service.client.post("/embed_all", json={"inputs": ["bad film"] * 2000})
        assert (refused.status_code, refused.json()["error_type"]) == (413, "Validation")
        assert refused.json()["error"].startswith("the answer would tell of each of 8000 tokens")
        assert (await service.client.post("/embed_all", json={"inputs": ["bad film"] * 20})).status_code == 200


async def test_a_model_without_vectors_of_tokens_says_so(start: Any, token_models: Path) -> None:
    async with start(models=token_models / "without") as service:
        refused = await service.client.post("/embed_all", json={"inputs": ["good"]})
        assert refused.status_code == 422
        assert "no vectors of single tokens come from this model" in refused.json()["error"]
