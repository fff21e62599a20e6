"""Every protocol tells its errors in its own shape, wherever in the service they are raised."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from app.api.error_formats import HUGGING_FACE, NATIVE, OPEN_INFERENCE, TEI, error_format_for
from app.observability.logging import JsonFormatter
from tests.support.requests import GatedService, Service, check_problem

INFER: dict[str, Any] = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["bad"]}]}
PLAIN = {"inputs": "bad"}
FOREIGN = {"/models/tiny": PLAIN, "/v2/models/tiny/infer": INFER, "/predict": PLAIN}
every_protocol = pytest.mark.parametrize("path", FOREIGN)
TEI_KINDS = {404: "Validation", 405: "Validation", 413: "Validation", 415: "Validation", 422: "Validation", 424: "Backend",
             429: "Overloaded", 500: "Backend", 503: "Unhealthy", 504: "Overloaded"}  # fmt: skip


def check(response: httpx.Response, path: str, status: int) -> str:
    """Check the shape that the path's protocol has for errors.

    Returns:
        Its message.
    """
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    told = response.json()
    expected = ["error", "error_type"] if path == "/predict" else ["error"]
    assert list(told) == expected
    if path == "/predict":
        assert told["error_type"] == TEI_KINDS[status]
    assert "secret" not in response.text
    return str(told["error"])


@pytest.mark.parametrize(
    ("path", "error_format"),
    [
        ("/v1/classify", NATIVE), ("/v1/models/tiny", NATIVE), ("/", NATIVE), ("/health/live", NATIVE), ("/v22", NATIVE),
        ("/models/tiny", HUGGING_FACE), ("/models", HUGGING_FACE), ("/v2", OPEN_INFERENCE), ("/v2/", OPEN_INFERENCE),
        ("/v2/nowhere", OPEN_INFERENCE), ("/predict", TEI), ("/info", TEI), ("/predictions", NATIVE),
    ],
)  # fmt: skip
def test_a_path_tells_its_protocol_behind_a_proxy_too(path: str, error_format: object) -> None:
    assert error_format_for({"path": path}) is error_format
    assert error_format_for({"path": f"/hooper{path}", "root_path": "/hooper"}) is error_format


async def test_a_prefix_does_not_change_the_shape(start: Any) -> None:
    async with start(root_path="/hooper") as service:
        for prefix in ("", "/hooper"):
            response = await service.send(b"x", {"Content-Type": "text/plain"}, f"{prefix}/models/tiny")
            check(response, "/models/tiny", 415)


@pytest.mark.parametrize("path", ["/models/tiny/nothing", "/v2/nowhere", "/v2/models/tiny/nothing"])
async def test_an_unknown_path_is_told_in_the_protocol_it_begins_as(service: Service, path: str) -> None:
    check(await service.client.get(path), path, 404)


@every_protocol
async def test_a_wrong_method_says_which_is_right(service: Service, path: str) -> None:
    response = await service.client.get(path)
    check(response, path, 405)
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/models/other", "/v2/models/other/infer", "/v2/models/tiny/versions/7/infer"])
async def test_an_unknown_model_is_named(service: Service, path: str) -> None:
    body = INFER if path.startswith("/v2") else PLAIN
    assert "loaded are: tiny" in check(await service.client.post(path, json=body), path, 404)


async def test_a_service_without_a_classifier_fails_its_dependents(own_service: Service) -> None:
    own_service.live.registry.remove("tiny")
    predicted = await own_service.client.post("/predict", json=PLAIN)
    assert check(predicted, "/predict", 424).startswith("no loaded model does text-classification")
    info = await own_service.client.get("/info")  # of an embedding model first
    assert check(info, "/predict", 424).startswith("no loaded model does feature-extraction")


@every_protocol
async def test_a_body_over_the_limit_is_refused(start: Any, path: str) -> None:
    async with start(max_body_bytes=1024) as service:
        response = await service.send(b"[" * 1025, None, path)
        assert "1024 bytes" in check(response, path, 413)


@every_protocol
@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/plain"}, {"Content-Type": "application/x-ndjson"}, {"Content-Encoding": "gzip"}],
    ids=str,
)
async def test_what_is_not_json_as_it_is_is_refused_unread(service: Service, path: str, headers: dict[str, str]) -> None:
    check(await service.send(b"{}", headers, path), path, 415)


@every_protocol
@pytest.mark.parametrize(
    "body", [b"{", b"", b"[]", b"{}", b'{"inputs": [{}]}', b'{"inputs": [], "more": 1}', b"[" * 9999, b"\xff"]
)
async def test_an_invalid_body_is_told(service: Service, path: str, body: bytes) -> None:
    assert check(await service.send(body, None, path), path, 422)


@every_protocol
async def test_too_many_items_are_refused(service: Service, path: str) -> None:
    bodies = {
        "/models/tiny": {"inputs": ["bad"] * 257},
        "/predict": {"inputs": [["bad"]] * 257},
        "/v2/models/tiny/infer": {"inputs": [INFER["inputs"][0] | {"shape": [257], "data": ["bad"] * 257}]},
    }
    response = await service.client.post(path, json=bodies[path])
    assert "257 items" in check(response, path, 413 if path == "/predict" else 422)


@every_protocol
async def test_a_full_queue_turns_away_with_a_retry_after(gated_service: GatedService, path: str) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    waiting = [asyncio.ensure_future(gated_service.classify("bad")) for _ in range(4)]
    await gated_service.has_waiting(4)
    response = await gated_service.client.post(path, json=FOREIGN[path])
    check(response, path, 429)
    assert int(response.headers["retry-after"]) >= 1
    batch.finish()
    await gated_service.finish(asyncio.gather(running, *waiting))


@every_protocol
async def test_a_deadline_that_passes_in_the_queue_is_told(gated_service: GatedService, path: str) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    response = await gated_service.client.post(path, json=FOREIGN[path], headers={"X-Request-Timeout-Ms": "1"})
    assert "deadline passed" in check(response, path, 504)
    batch.finish()
    await running


@every_protocol
async def test_an_engine_that_fails_is_told(gated_service: GatedService, path: str) -> None:
    response = await gated_service.finish(gated_service.client.post(path, json=FOREIGN[path]), poison=12)
    check(response, path, 424 if path == "/predict" else 503)


@every_protocol
async def test_while_models_load_nobody_is_answered(own_service: Service, path: str) -> None:
    own_service.live.registry._loaded = False
    own_service.live.registry.remove("tiny")
    assert "still loading" in check(await own_service.client.post(path, json=FOREIGN[path]), path, 503)
    assert "still loading" in check(await own_service.client.get("/v2/health/ready"), "/v2", 503)
    assert (await own_service.client.get("/v2/health/live")).status_code == 200


@every_protocol
async def test_an_unexpected_error_tells_nothing_of_the_inside(
    service: Service, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret text")

    monkeypatch.setattr(service.live.registry.deployments[0].task, "encode", broken)
    assert "request id" in check(await service.client.post(path, json=FOREIGN[path]), path, 500)


async def test_the_native_routes_keep_their_problems(service: Service) -> None:
    check_problem(await service.send(b"{"), 422, "invalid_input")
    check_problem(await service.client.get("/nowhere"), 404, "not_found")


@every_protocol
async def test_requests_are_counted_and_timed_as_native_ones_are(own_service: Service, path: str) -> None:
    response = await own_service.client.post(path, json=FOREIGN[path])
    assert response.status_code == 200, response.text
    assert [part.partition(";")[0] for part in response.headers["server-timing"].split(", ")] == [
        "tokenize", "queue", "inference", "batch",
    ]  # fmt: skip
    labels = {"task": "text-classification", "model": "tiny", "status": "200"}
    assert own_service.sample("hooper_requests_total", **labels) == 1
    assert own_service.sample("hooper_request_seconds_count", task="text-classification") == 1


SECRET = "very private words"


async def test_no_log_line_shows_the_text_whatever_goes_wrong(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    texts = [SECRET, f"{SECRET} \ud800", f"{SECRET} " * 50]
    for text in texts:
        for path, body in (
            ("/models/tiny", {"inputs": text, "parameters": {SECRET: 1}}),
            ("/models/tiny", {"inputs": [text, ""]}),
            ("/predict", {"inputs": [[text], [text, ""]]}),
            (
                "/v2/models/tiny/infer",
                {"inputs": [INFER["inputs"][0] | {"data": [text]}], "parameters": {"truncation": "error"}},
            ),
        ):
            await service.send(json.dumps(body).encode(), None, path)
    assert len([record for record in caplog.records if record.name == "hooper.access"]) == 12
    for record in caplog.records:
        assert SECRET not in JsonFormatter().format(record)
