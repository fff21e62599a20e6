"""The native routes: what was asked is read once, and every refusal says what release 0.1.0 said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI

from app.tasks.registry import installed_tasks
from tests.support.requests import Service, check_problem
from tests.support.tiny_model import publish_tiny_spec
from tests.unit.app.conftest import Start

REFUSALS: list[dict[str, Any]] = json.loads((Path(__file__).parents[4] / "fixtures" / "native_errors.json").read_text())
"""Requests, and the problem documents that release 0.1.0 answered them with."""
ANSWERED: list[tuple[str, object]] = [
    ("classify", {"inputs": "good film"}),
    ("classify", {"inputs": ["good", {"text": "bad", "text_pair": "film"}], "top_k": 1, "activation": "none"}),
    ("classify", {"inputs": "good " * 50, "truncation": "window", "model": "text-classification/1"}),
    ("classify", {"inputs": ["good", "", {"text": 5}]}),  # one bad item in a list fails alone
    ("answer", {"inputs": {"question": "good", "context": "bad film not good"}, "top_k": 2}),
    ("answer", {"inputs": [{"question": "good", "context": "bad"}, {"question": "", "context": "film"}]}),
    ("summarize", {"inputs": "good film. bad film. not good.", "max_sentences": 1}),
]


def routes_of(app: FastAPI) -> list[Any]:
    return [inner for route in app.routes for inner in getattr(getattr(route, "original_router", None), "routes", [route])]


async def test_refusals_say_what_they_always_said(every_task: Service) -> None:
    different = []
    for asked in REFUSALS:
        response = await every_task.send(asked["body"].encode("latin-1"), asked["headers"], asked["path"])
        content = response.json()
        content.pop("request_id", None)
        before = asked["content"]["detail"]
        if content["detail"].startswith(
            f"{before}; "
        ):  # which unknown fields stand in place of one that is required, is said since
            content["detail"] = before
        if (response.status_code, content) != (asked["status"], asked["content"]):
            different.append((asked["path"], asked["headers"], asked["body"], content, asked["content"]))
    assert len(REFUSALS) > 80
    assert different == []


@pytest.mark.parametrize(("route", "body"), ANSWERED)
async def test_an_answer_is_what_the_documented_schema_says(every_task: Service, route: str, body: object) -> None:
    response = await every_task.send(json.dumps(body).encode(), path=f"/v1/{route}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert "server-timing" in response.headers
    schema = every_task.app.openapi()
    shape = schema["paths"][f"/v1/{route}"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(response.json(), {**shape, "components": schema["components"]})


@pytest.mark.parametrize("route", ["classify", "answer", "summarize", "explain", "feedback"])
async def test_the_framework_gives_the_same_endpoint(every_task: Service, route: str) -> None:
    """Should a request come to the documented route itself, the same endpoint answers it."""
    inner = [entry for entry in routes_of(every_task.app) if getattr(entry, "path", "") == f"/v1/{route}"]
    assert len(inner) == 1
    assert inner[0].endpoint.answers.path == f"v1/{route}"


@pytest.mark.parametrize("priority", ["bulk", "interactive"])
async def test_priority_and_time_are_read(service: Service, priority: str) -> None:
    headers = {"X-Priority": priority, "X-Request-Timeout-Ms": "3600000"}
    assert (await service.classify("good", headers)).status_code == 200


async def test_every_type_that_is_json_is_taken(service: Service) -> None:
    assert (await service.send(b'{"inputs": "good"}', {"Content-Type": "text/x+json"})).status_code == 200
    assert (await service.send(b'{"inputs": "good"}', {"Content-Type": "Application/Json; charset=utf-8"})).status_code == 200


@pytest.mark.parametrize("milliseconds", ["0", "3600001", "-1", "1.5", "soon", "", "9" * 5000, "\u00b2"])
async def test_a_time_that_is_none_is_refused(service: Service, milliseconds: str) -> None:
    headers: Any = {"X-Request-Timeout-Ms": milliseconds.encode("latin-1")}
    detail = check_problem(await service.classify("good", headers), 422, "invalid_input")
    assert detail.startswith("x-request-timeout-ms: ")


async def test_an_unknown_priority_is_refused(service: Service) -> None:
    check_problem(await service.classify("good", {"X-Priority": "urgent"}), 422, "invalid_input")


@pytest.mark.parametrize(("first", "status"), [("bulk", 200), ("urgent", 422)])
async def test_of_a_header_that_is_there_twice_the_first_counts(service: Service, first: str, status: int) -> None:
    second = "urgent" if first == "bulk" else "bulk"
    headers = [("Content-Type", "application/json"), ("X-Priority", first), ("X-Priority", second)]
    response = await service.client.post("/v1/classify", content=b'{"inputs": "good"}', headers=headers)
    assert response.status_code == status


async def test_a_deadline_is_kept(own_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    own_service.live.registry.deployments[0].scheduler._changed.set = lambda: None  # type: ignore[method-assign,union-attr,attr-defined]
    check_problem(await own_service.classify("good", {"X-Request-Timeout-Ms": "1"}), 504, "deadline_exceeded")


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_keys_are_asked_for(start: Start, header: str) -> None:
    async with start(api_key_hashes=hashlib.sha256(b"mine").hexdigest()) as service:
        prefix = "Bearer " if header == "Authorization" else ""
        refused = await service.classify("good", {header: f"{prefix}yours"})
        assert check_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await service.classify("good", {header: f"{prefix}mine"})).status_code == 200


async def test_other_methods_and_paths_are_not_its_own(service: Service) -> None:
    assert (await service.send(b'{"inputs": "good"}', path="/v1/explain")).status_code == 200
    assert (await service.client.put("/v1/classify", json={"inputs": "good"})).status_code == 405
    assert (await service.send(b'{"inputs": "good"}', path="/v1/classify//")).status_code == 404


async def test_it_is_counted_as_every_answer_is(own_service: Service) -> None:
    await own_service.classify("good")
    labels = {"task": "text-classification", "model": "tiny", "status": "200"}
    assert own_service.sample("hooper_requests_total", **labels) == 1


async def test_a_prefix_of_a_proxy_is_no_hindrance(start: Start) -> None:
    async with start(root_path="/hooper") as service:
        assert (await service.send(b'{"inputs": "good"}', path="/hooper/v1/classify")).status_code == 200
        assert (await service.send(b'{"inputs": "good"}', path="/hooperv1/classify")).status_code == 404


async def test_an_option_is_named_where_it_stands_beside_the_items(start: Start, tmp_path: Path) -> None:
    publish_tiny_spec(tmp_path, installed_tasks()["fill-mask"])
    async with start(models=tmp_path) as service:
        body = json.dumps({"inputs": "a [MASK]", "targets": ["bad", "nobody"]}).encode()
        refused = await service.send(body, path="/v1/fill")
        assert (refused.status_code, refused.json()["detail"]) == (422, "targets.1: 'nobody' is unknown to this model")
