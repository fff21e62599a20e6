"""Labels that a text may have several of are `selected` wherever a protocol has room for it; other models say nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.requests import Service, check_problem
from tests.support.tiny_model import publish_tiny
from tests.unit.app.conftest import Start

TEXT = "good"
LABELS = ("bad", "fine", "good")


@pytest.fixture
async def topics(start: Start, tmp_path: Path) -> AsyncIterator[Service]:
    """A service with `topics`, whose texts have any number of labels; "good" is selected hard, "bad" is always."""
    thresholds = {"good": 0.9999, "bad": 0.0}
    publish_tiny(tmp_path / "m", "topics", labels=LABELS, problem_type="multi_label_classification", thresholds=thresholds)
    publish_tiny(tmp_path / "m", "tiny")
    publish_tiny(tmp_path / "m", "stars", labels=["score"], problem_type="regression")
    async with start(models=tmp_path / "m", feedback=str(tmp_path / "feedback.db")) as service:
        yield service


async def classify(service: Service, model: str, **options: Any) -> Any:
    response = await service.client.post("/v1/classify", json={"inputs": TEXT, "model": model, **options})
    assert response.status_code == 200, response.text
    return response.json()["results"][0]["labels"]


def selected(labels: Any) -> set[str]:
    return {label["label"] for label in labels if label["selected"]}


async def test_the_native_route_selects_by_the_models_own_thresholds_or_by_the_callers(topics: Service) -> None:
    labels = await classify(topics, "topics")
    assert {label["label"] for label in labels} == set(LABELS)
    assert selected(labels) - {"fine"} == {"bad"}
    assert selected(await classify(topics, "topics", threshold=0)) == set(LABELS)
    assert selected(await classify(topics, "topics", threshold=1)) == set()


async def test_other_models_say_nothing_of_it_and_refuse_a_threshold(topics: Service) -> None:
    for model in ("tiny", "stars"):
        assert list((await classify(topics, model))[0]) == ["label", "score"]
        for inputs in (TEXT, [TEXT, TEXT]):
            response = await topics.client.post("/v1/classify", json={"inputs": inputs, "model": model, "threshold": 0.5})
            assert "threshold: is for models that give" in check_problem(response, 422, "invalid_input")


@pytest.mark.parametrize("threshold", [-0.1, 1.1, "0.5", True])
async def test_a_threshold_is_a_probability(topics: Service, threshold: Any) -> None:
    response = await topics.client.post("/v1/classify", json={"inputs": TEXT, "model": "topics", "threshold": threshold})
    assert "threshold" in check_problem(response, 422, "invalid_input")


async def test_hugging_faces_shape_has_room_for_it(topics: Service) -> None:
    labels = (await topics.client.post("/models/topics", json={"inputs": TEXT})).json()
    assert labels == await classify(topics, "topics")
    assert list((await topics.client.post("/models/tiny", json={"inputs": TEXT})).json()[0]) == ["label", "score"]


@pytest.mark.parametrize("parameters", [{}, {"threshold": 0}])
async def test_tensors_of_a_model_with_several_labels_say_it(topics: Service, parameters: dict[str, Any]) -> None:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}
    body = {"inputs": [tensor], "parameters": parameters}
    outputs = (await topics.client.post("/v2/models/topics/infer", json=body)).json()["outputs"]
    assert [output["name"] for output in outputs] == ["label", "score", "selected"]
    assert (outputs[2]["datatype"], outputs[2]["shape"]) == ("BOOL", [1, 3])
    expected = await classify(topics, "topics", **parameters)
    assert outputs[2]["data"] == [label["selected"] for label in expected]
    binary = await topics.client.post(
        "/v2/models/topics/infer",
        json={**body, "outputs": [{"name": "selected", "parameters": {"binary_data": True}}]},
    )
    head = int(binary.headers["inference-header-content-length"])
    assert binary.content[head:] == bytes(label["selected"] for label in expected)


async def test_the_metadata_names_it_where_a_model_has_it(topics: Service) -> None:
    names = {}
    for model in ("topics", "tiny"):
        metadata = (await topics.client.get(f"/v2/models/{model}")).json()
        config = (await topics.client.get(f"/v2/models/{model}/config")).json()
        names[model] = [output["name"] for output in metadata["outputs"]]
        assert [output["name"] for output in config["output"]] == names[model]
    assert names == {"topics": ["label", "score", "selected"], "tiny": ["label", "score"]}
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}], "outputs": [{"name": "selected"}]}
    assert (await topics.client.post("/v2/models/tiny/infer", json=body)).status_code == 422


async def test_a_correction_agrees_with_what_was_selected(topics: Service) -> None:
    right = sorted(selected(await classify(topics, "topics")))
    for labels, agrees in ((right, True), (sorted({*right, "good"}), False)):
        body = {"inputs": {"text": TEXT, "labels": labels}, "model": "topics"}
        result = (await topics.client.post("/v1/feedback", json=body)).json()["results"][0]
        assert result["agrees"] is agrees
        assert selected(result["predicted"]["labels"]) == set(right)
