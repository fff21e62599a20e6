"""The short way answers as the framework would, and leaves to it what is not ordinary."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest

from app.api import short_way as module
from tests.support.requests import Service, check_problem
from tests.unit.app.conftest import Start

GOOD: list[tuple[str, object]] = [
    ("classify", {"inputs": "good film"}),
    ("classify", {"inputs": ["good", {"text": "bad", "text_pair": "film"}], "top_k": 1, "activation": "none"}),
    ("classify", {"inputs": "good " * 50, "truncation": "window", "model": "text-classification/1"}),
    ("classify", {"inputs": ["good", "", {"text": 5}]}),  # one bad item in a list fails alone
    ("answer", {"inputs": {"question": "good", "context": "bad film not good"}, "top_k": 2}),
    ("answer", {"inputs": [{"question": "good", "context": "bad"}, {"question": "", "context": "film"}]}),
    ("summarize", {"inputs": "good film. bad film. not good.", "max_sentences": 1}),
]
REFUSED: list[tuple[str, object, int]] = [
    ("classify", {"inputs": ""}, 422),
    ("classify", {"inputs": "good", "model": "nobody"}, 404),
    ("classify", {"inputs": "good \ud800"}, 422),
    ("answer", {"inputs": {"question": " ", "context": "bad"}}, 422),
]
UNUSUAL: list[tuple[bytes, int]] = [
    (b'{"inputs": 5}', 422),
    (b'{"inputs": "good", "top_k": 0}', 422),
    (b'{"inputs": "good", "topk": 1}', 422),
    (b'{"inputs": []}', 422),
    (b"{", 422),
    (b"", 422),
    (b'{"inputs": "\xff"}', 422),
]


class Spy:
    """Counts the requests that are answered on the short way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = module.Call

        def counted(*args: Any) -> Any:
            self.count += 1
            return real(*args)

        monkeypatch.setattr(module, "Call", counted)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)


def told(response: httpx.Response) -> tuple[int, list[str], Any]:
    """What must be the same on both ways: nobody may notice which one it was."""
    body = response.json()
    if response.status_code != 200:
        body.pop("request_id")
    timing = [part.partition(";")[0] for part in response.headers.get("server-timing", "").split(", ")]
    return response.status_code, [*sorted(response.headers), response.headers["content-type"], *timing], body


@pytest.mark.parametrize(("route", "body"), GOOD)
async def test_both_ways_answer_alike(
    every_task: Service, spy: Spy, monkeypatch: pytest.MonkeyPatch, route: str, body: object
) -> None:
    content = json.dumps(body).encode()
    short = await every_task.send(content, path=f"/v1/{route}")
    assert (short.status_code, spy.count) == (200, 1)
    monkeypatch.setattr(module, "ROUTES", {})
    long = await every_task.send(content, path=f"/v1/{route}")
    assert spy.count == 1
    assert told(short) == told(long)


@pytest.mark.parametrize(("route", "body", "status"), REFUSED)
async def test_both_ways_refuse_alike(
    every_task: Service, spy: Spy, monkeypatch: pytest.MonkeyPatch, route: str, body: object, status: int
) -> None:
    short = await every_task.ask(route, **body)  # type: ignore[arg-type]
    assert (short.status_code, spy.count) == (status, 1)
    monkeypatch.setattr(module, "ROUTES", {})
    assert told(await every_task.ask(route, **body)) == told(short)  # type: ignore[arg-type]


@pytest.mark.parametrize(("body", "status"), UNUSUAL)
async def test_a_body_that_its_schema_does_not_take_as_it_is_goes_the_long_way(
    service: Service, spy: Spy, body: bytes, status: int
) -> None:
    assert (await service.send(body)).status_code == status
    assert not spy.count


@pytest.mark.parametrize("priority", ["bulk", "interactive"])
async def test_priority_and_time_are_ordinary(service: Service, spy: Spy, priority: str) -> None:
    headers = {"X-Priority": priority, "X-Request-Timeout-Ms": "3600000"}
    assert (await service.classify("good", headers)).status_code == 200
    assert spy.count == 1


async def test_a_type_that_the_framework_does_not_take_is_refused_by_it(service: Service, spy: Spy) -> None:
    assert (await service.send(b'{"inputs": "good"}', {"Content-Type": "text/x+json"})).status_code == 422
    assert (await service.send(b'{"inputs": "good"}', {"Content-Type": "Application/Json; charset=utf-8"})).status_code == 200
    assert spy.count == 1


@pytest.mark.parametrize("milliseconds", ["0", "3600001", "-1", "1.5", "soon", "", "9" * 5000, "\u00b2"])
async def test_a_time_that_is_none_is_refused_on_the_long_way(service: Service, spy: Spy, milliseconds: str) -> None:
    headers: Any = {"X-Request-Timeout-Ms": milliseconds.encode("latin-1")}
    detail = check_problem(await service.classify("good", headers), 422, "invalid_input")
    assert detail.startswith("x-request-timeout-ms: ")
    assert not spy.count


async def test_an_unknown_priority_is_refused_on_the_long_way(service: Service, spy: Spy) -> None:
    check_problem(await service.classify("good", {"X-Priority": "urgent"}), 422, "invalid_input")
    assert not spy.count


@pytest.mark.parametrize(("first", "status"), [("bulk", 200), ("urgent", 422)])
async def test_of_a_header_that_is_there_twice_the_first_counts(service: Service, spy: Spy, first: str, status: int) -> None:
    second = "urgent" if first == "bulk" else "bulk"
    headers = [("Content-Type", "application/json"), ("X-Priority", first), ("X-Priority", second)]
    response = await service.client.post("/v1/classify", content=b'{"inputs": "good"}', headers=headers)
    assert response.status_code == status
    assert spy.count == (status == 200)


async def test_a_deadline_is_kept(service: Service, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    service.live.registry.deployments[0].scheduler._changed.set = lambda: None  # type: ignore[method-assign,union-attr,attr-defined]
    check_problem(await service.classify("good", {"X-Request-Timeout-Ms": "1"}), 504, "deadline_exceeded")
    assert spy.count == 1


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
async def test_keys_are_asked_for(start: Start, spy: Spy, header: str) -> None:
    async with start(api_key_hashes=hashlib.sha256(b"mine").hexdigest()) as service:
        prefix = "Bearer " if header == "Authorization" else ""
        refused = await service.classify("good", {header: f"{prefix}yours"})
        assert check_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await service.classify("good", {header: f"{prefix}mine"})).status_code == 200
        assert spy.count == 1


async def test_other_routes_and_methods_go_the_long_way(service: Service, spy: Spy) -> None:
    assert (await service.send(b'{"inputs": "good"}', path="/v1/explain")).status_code == 200
    assert (await service.client.put("/v1/classify", json={"inputs": "good"})).status_code == 405
    assert (await service.send(b'{"inputs": "good"}', path="/v1/classify//")).status_code == 404
    assert not spy.count


async def test_it_is_counted_as_every_answer_is(service: Service, spy: Spy) -> None:
    await service.classify("good")
    labels = {"task": "text-classification", "model": "tiny", "status": "200"}
    assert service.sample("hooper_requests_total", **labels) == 1
    assert spy.count == 1


async def test_a_prefix_of_a_proxy_is_no_hindrance(start: Start, spy: Spy) -> None:
    async with start(root_path="/hooper") as service:
        assert (await service.send(b'{"inputs": "good"}', path="/hooper/v1/classify")).status_code == 200
        assert spy.count == 1
        assert (await service.send(b'{"inputs": "good"}', path="/hooperv1/classify")).status_code == 404
        assert spy.count == 1
