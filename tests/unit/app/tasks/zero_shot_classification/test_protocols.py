"""Labels that a request brings, in the words of Hugging Face and of the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.tasks.registry import installed_tasks
from tests.support.requests import Service
from tests.support.tiny_model import publish_tiny, publish_tiny_spec
from tests.unit.app.conftest import Start

LABELS = ["good", "bad", "very good"]
TEMPLATE = "a film is {} ."
OPTIONS = {"candidate_labels": LABELS, "hypothesis_template": TEMPLATE}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_tiny_spec(root, installed_tasks()["feature-extraction"])
    publish_tiny_spec(root, installed_tasks()["question-answering"])
    publish_tiny(root, "nli", labels=("entailment", "neutral", "contradiction"), max_tokens=48)
    publish_tiny(root, "sentiment")
    return root


@pytest.fixture
async def service(models: Path, start: Start) -> AsyncIterator[Service]:
    async with start(models=models) as started:
        yield started


async def post(service: Service, path: str, body: dict[str, Any], status: int = 200, **headers: str) -> Any:
    response = await service.client.post(path, json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


async def native(service: Service, inputs: Any, model: str, **options: Any) -> list[list[dict[str, Any]]]:
    body = {"inputs": inputs, "model": model, "labels": LABELS, "hypothesis_template": TEMPLATE, **options}
    results = (await post(service, "/v1/zero-shot", body))["results"]
    return [[{"label": entry["label"], "score": entry["score"]} for entry in result["labels"]] for result in results]


@pytest.mark.parametrize("model", ["nli", "feature-extraction"])
@pytest.mark.parametrize("multi_label", [False, True])
async def test_hugging_faces_parameters_ask_for_labels_of_ones_own(service: Service, model: str, multi_label: bool) -> None:
    parameters = {**OPTIONS, "multi_label": multi_label}
    expected = await native(service, ["good film", "bad"], model, multi_label=multi_label)
    answers = await post(service, f"/models/{model}", {"inputs": ["good film", "bad"], "parameters": parameters})
    assert answers == [[pytest.approx(entry) for entry in labels] for labels in expected]
    body = {"inputs": "good film", "parameters": parameters}
    assert await post(service, f"/models/{model}", body) == answers[0]
    told = await post(service, f"/models/{model}", body, **{"User-Agent": "unknown/None; hf_hub/0.36.2"})
    assert told == {name: [entry[name[:-1]] for entry in answers[0]] for name in ("labels", "scores")}


async def test_without_labels_a_model_does_what_it_always_does(service: Service) -> None:
    labels = await post(service, "/models/nli", {"inputs": "good film", "parameters": {"top_k": 1}})
    assert labels[0]["label"] in ("entailment", "neutral", "contradiction")


@pytest.mark.parametrize(
    ("model", "inputs", "parameters", "status", "detail"),
    [
        ("sentiment", "good", OPTIONS, 404, "model 'sentiment' knows its own labels only"),
        ("nli", "good", {"candidate_labels": ["a", "a"]}, 422, "parameters.candidate_labels: 'a' is there twice"),
        ("nli", "good", {"candidate_labels": []}, 422, "parameters.candidate_labels: are missing"),
        ("nli", "good", {**OPTIONS, "hypothesis_template": "no"}, 422, "parameters.hypothesis_template: must hold {}"),
        ("nli", ["good", ""], OPTIONS, 422, "inputs.1: must not be empty"),
        ("nli", "good", {"hypothesis_template": TEMPLATE}, 422, "parameters.hypothesis_template: is not a parameter"),
        ("nli", "good", {**OPTIONS, "top_k": 1}, 422, "parameters.top_k: is not a parameter"),
        ("nli", {"text": "a", "text_pair": "b"}, OPTIONS, 422, "inputs: should be a text"),
        ("question-answering", {"question": "a", "context": "b"}, OPTIONS, 422, "candidate_labels: is not a parameter"),
    ],
)
async def test_what_is_wrong_is_named_as_hugging_face_calls_it(
    service: Service, model: str, inputs: Any, parameters: dict[str, Any], status: int, detail: str
) -> None:
    problem = await post(service, f"/models/{model}", {"inputs": inputs, "parameters": parameters}, status)
    assert detail in problem["error"]


def tensors(*texts: str, **parameters: Any) -> dict[str, Any]:
    data = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}
    return {"inputs": [data], "parameters": parameters}


@pytest.mark.parametrize("model", ["nli", "feature-extraction"])
async def test_tensors_bring_labels_as_a_parameter(service: Service, model: str) -> None:
    expected = await native(service, ["good film", "bad"], model)
    body = tensors("good film", "bad", labels=LABELS, hypothesis_template=TEMPLATE)
    answer = await post(service, f"/v2/models/{model}/infer", body)
    labels, scores = answer["outputs"]
    assert (labels["name"], labels["shape"], scores["shape"]) == ("label", [2, 3], [2, 3])
    assert labels["data"] == [entry["label"] for row in expected for entry in row]
    assert scores["data"] == pytest.approx([entry["score"] for row in expected for entry in row], abs=1e-6)
    assert answer["parameters"]["num_tokens"] > 20


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (tensors("good", "", labels=LABELS), "inputs.text.1: must not be empty"),
        (tensors("good", labels=7), "parameters.labels"),
        (tensors("good", labels=["a", "a"]), "'a' is there twice"),
        (tensors("good", labels=LABELS, top_k=1), "parameters.top_k"),
        (tensors("good", hypothesis_template=TEMPLATE), "parameters.hypothesis_template"),
    ],
)
async def test_what_is_wrong_with_tensors_is_named(service: Service, body: dict[str, Any], detail: str) -> None:
    assert detail in (await post(service, "/v2/models/nli/infer", body, 422))["error"]
