"""The edge: request id, body limit, a client who leaves, and a log that never shows the text."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.observability.logging import JsonFormatter
from tests.support.gated_engine import turn
from tests.support.requests import Caller, GatedService, Service, check_problem

LIMIT = 2048
GOOD = {"inputs": "good"}


def body_of(num_bytes: int) -> bytes:
    """A valid request of exactly so many bytes."""
    frame = json.dumps({"inputs": ""}).encode()
    return json.dumps({"inputs": "a" * (num_bytes - len(frame))}).encode()


def num_requests(service: Service, status: int, task: str = "text-classification", model: str = "tiny") -> float | None:
    return service.sample("hooper_requests_total", task=task, model=model, status=str(status))


# --- request id


@pytest.mark.parametrize("wished", ["abc", "A.b_c-9", "x" * 64])
async def test_the_callers_request_id_is_kept(service: Service, wished: str) -> None:
    assert (await service.classify("good", {"X-Request-Id": wished})).headers["x-request-id"] == wished


@pytest.mark.parametrize("wished", ["", "x" * 65, "two words", "new\tline", "<script>"])
async def test_a_request_id_that_could_do_harm_is_replaced(service: Service, wished: str) -> None:
    given = (await service.classify("good", {"X-Request-Id": wished})).headers["x-request-id"]
    assert given != wished
    assert len(given) == 32


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/docs", "/nowhere", "/openapi.json", "/"])
async def test_every_answer_has_a_request_id_of_its_own(service: Service, path: str) -> None:
    ids = {(await service.client.get(path)).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2


# --- body limit


@pytest.mark.parametrize("num_bytes", [LIMIT, LIMIT + 1])
async def test_a_body_may_have_so_many_bytes_and_not_one_more(start: Any, num_bytes: int) -> None:
    async with start(max_body_bytes=LIMIT) as service:
        response = await service.send(body_of(num_bytes))
        if num_bytes == LIMIT:
            assert response.status_code == 200
        else:
            assert check_problem(response, 413, "too_large") == f"the body exceeds {LIMIT} bytes"


@pytest.mark.parametrize(("num_chunks", "status"), [(2, 200), (3, 413)])
async def test_a_body_in_chunks_is_counted_as_it_comes(start: Any, num_chunks: int, status: int) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start_of in range(0, num_chunks * LIMIT // 2, LIMIT // 2):
            yield body_of(num_chunks * LIMIT // 2)[start_of : start_of + LIMIT // 2]

    async with start(max_body_bytes=LIMIT) as service:
        response = await service.send(chunks())
        assert "content-length" not in response.request.headers
        assert response.status_code == status


async def test_a_body_that_is_announced_too_large_is_refused_unread(start: Any) -> None:
    async with start(max_body_bytes=LIMIT) as service:
        caller = Caller(service.app, **{"content-length": str(LIMIT + 1)})
        await caller.task  # nothing was ever sent
        assert caller.status == 413


async def test_reading_stops_where_the_limit_is_passed(start: Any) -> None:
    async with start(max_body_bytes=LIMIT) as service:
        caller = Caller(service.app, **{"content-length": "10"})  # a lie
        caller.send(body_of(LIMIT + 1), more=True)
        await caller.task
        assert caller.status == 413


@pytest.mark.parametrize("length", ["-1", "many", "1e3"])
async def test_a_length_that_is_no_number_does_no_harm(service: Service, length: str) -> None:
    caller = Caller(service.app, **{"content-length": length})
    caller.send(GOOD)
    await caller.task
    assert caller.status == 200


# --- a client who leaves


async def test_when_a_client_leaves_its_rows_leave_the_queue_and_it_counts_as_499(gated_service: GatedService) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    caller = Caller(gated_service.app)
    caller.send({"inputs": ["bad", "film"]})
    await gated_service.has_waiting(2)
    caller.leave()
    await caller.task
    assert gated_service.gated.deployment.scheduler.num_waiting_rows == 0
    assert caller.sent == []
    assert num_requests(gated_service, 499) == 1
    batch.finish()
    assert (await running).status_code == 200
    await turn()
    assert not gated_service.gated.engine.has_batch


async def test_a_client_who_leaves_during_its_batch_ends_its_lease(gated_service: GatedService) -> None:
    caller = Caller(gated_service.app)
    caller.send(GOOD)
    batch = await gated_service.gated.engine.batch()
    gated_service.live.registry.remove("tiny")
    caller.leave()
    await caller.task
    batch.finish()
    await turn()
    assert gated_service.gated.engine.is_closed


async def test_a_client_who_leaves_before_its_body_is_complete_is_forgotten(gated_service: GatedService) -> None:
    caller = Caller(gated_service.app)
    caller.send(b'{"inputs": "go', more=True)
    caller.leave()
    await caller.task
    assert caller.sent == []
    assert num_requests(gated_service, 499, task="", model="") == 1


async def test_a_client_who_leaves_after_its_answer_counts_as_answered(own_service: Service) -> None:
    caller = Caller(own_service.app)
    caller.send(GOOD)
    await caller.task
    caller.leave()
    assert caller.status == 200
    assert num_requests(own_service, 200) == 1
    assert num_requests(own_service, 499) is None


async def test_when_the_server_gives_a_request_up_its_rows_leave_the_queue(gated_service: GatedService) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    caller = Caller(gated_service.app)
    caller.send(GOOD)
    await gated_service.has_waiting(1)
    caller.task.cancel()
    await gated_service.has_waiting(0)
    await caller.task
    assert caller.status == 503
    batch.finish()
    await running


# --- errors


async def test_an_answer_that_breaks_off_is_cut_and_not_patched_up(service: Service) -> None:
    @service.app.get("/broken")
    async def broken() -> Any:
        from fastapi.responses import StreamingResponse

        async def half() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("the rest is missing")

        return StreamingResponse(half())

    caller = Caller(service.app, "GET", "/broken")
    with pytest.raises(RuntimeError, match="the rest is missing"):
        await caller.task
    assert [entry["type"] for entry in caller.sent].count("http.response.start") == 1


# --- metrics and log


async def test_requests_are_counted_by_task_model_and_status(own_service: Service) -> None:
    await own_service.classify("good")
    await own_service.classify(["bad", ""])
    await own_service.classify("")
    await own_service.classify("good", model="other")
    assert num_requests(own_service, 200) == 2
    assert num_requests(own_service, 422) == 1
    assert num_requests(own_service, 404, model="") == 1
    assert own_service.sample("hooper_request_seconds_count", task="text-classification") == 4


async def test_what_is_refused_before_its_task_is_known_is_counted_without_one(own_service: Service) -> None:
    await own_service.send(b"{")
    await own_service.send(b"{}", {"Content-Type": "text/plain"})
    assert num_requests(own_service, 422, task="", model="") == 1
    assert num_requests(own_service, 415, task="", model="") == 1


async def test_probes_are_not_counted_and_logged_only_for_debugging(
    own_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hooper.access")
    await own_service.live.registry.aclose()
    for path in ("/health/live", "/health/ready", "/metrics"):
        await own_service.client.get(path)
    assert num_requests(own_service, 503, task="", model="") is None
    assert not [record for record in caplog.records if record.name == "hooper.access"]
    caplog.set_level(logging.DEBUG, "hooper.access")
    await own_service.client.get("/health/live")
    assert [record.message for record in caplog.records if record.name == "hooper.access"] == ["GET /health/live"]


async def test_the_access_log_has_status_time_task_model_and_request_id(
    own_service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    lines: list[dict[str, Any]] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(json.loads(JsonFormatter().format(record)))  # type: ignore[method-assign]
    logging.getLogger("hooper.access").addHandler(handler)
    caplog.set_level(logging.INFO)
    await own_service.classify("good", {"X-Request-Id": "abc"})
    logging.getLogger("hooper.access").removeHandler(handler)
    (line,) = lines
    assert line["message"] == "POST /v1/classify"
    assert line["request_id"] == "abc"
    assert (line["status"], line["task"], line["model"]) == (200, "text-classification", "tiny")
    assert line["ms"] > 0


SECRET = "very private words"


async def test_no_log_line_shows_the_text_whatever_goes_wrong(
    gated_service: GatedService, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    service = gated_service
    await service.finish(service.classify(SECRET))
    await service.finish(service.classify([SECRET, "\ud800"]))
    await service.finish(service.classify(f"{SECRET} bad"), poison=12)
    await service.classify({"text": SECRET, SECRET: 1})
    await service.classify(SECRET * 50, truncation="error")
    await service.send(f'{{"inputs": "{SECRET}"'.encode())
    await service.send(SECRET.encode(), {"Content-Type": "text/plain"})

    def broken(items: Any, options: Any) -> None:
        raise RuntimeError(f"cannot encode {items}")

    monkeypatch.setattr(service.gated.deployment.task, "encode", broken)
    assert (await service.classify(SECRET)).status_code == 500
    assert "unexpected error" in caplog.text  # what went wrong is told, and where
    for record in caplog.records:
        assert SECRET not in JsonFormatter().format(record)


async def test_an_unexpected_error_is_logged_with_its_kind_and_place(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise LookupError("the secret text")

    monkeypatch.setattr(service.live.registry.deployments[0].task, "encode", broken)
    await service.classify("good")
    (record,) = [record for record in caplog.records if record.message == "unexpected error"]
    assert record.__dict__["error"] == "LookupError"
    assert "test_middleware.py:" in record.__dict__["where"]
