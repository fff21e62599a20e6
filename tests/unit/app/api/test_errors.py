"""The error table of the HTTP contract, row by row: status, kind, the field that is named, and the shape."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.errors import STATUS, status_of
from app.core import errors
from app.core.errors import EngineFailed, HooperError, InvalidArtefact, InvalidInput
from tests.support.requests import GatedService, Service, check_problem

TOO_LONG = "good " * 50

# --- 422: invalid

INVALID: list[tuple[Any, str]] = [
    ({}, "inputs: is required"),
    ({"inputs": ""}, "inputs: must not be empty"),
    ({"inputs": "  \n"}, "inputs: must not be empty"),
    ({"inputs": []}, "inputs: must not be empty"),
    ({"inputs": 5}, "inputs: should be a valid string or an object or a valid list"),
    ({"inputs": None}, "inputs: should be a valid string or an object or a valid list"),
    ({"inputs": "a\ud800"}, "inputs: contains a lone surrogate, which is not valid Unicode"),
    ({"inputs": {"text": ""}}, "inputs.text: must not be empty"),
    ({"inputs": {"text": 5}}, "inputs.text: should be a valid string"),
    ({"inputs": {}}, "inputs.text: is required"),
    ({"inputs": {"Text": "a"}}, "inputs.text: is required; 'Text' is not a field that is known here"),
    (
        {"inputs": {"a": "1", "b": "2", "c" * 50: "3", "d": "4"}},
        f"inputs.text: is required; 'a' and 'b' and '{'c' * 40}…' and 1 more are not fields that are known here",
    ),
    ({"inputs": {"text": "a", "text_pair": " "}}, "inputs.text_pair: must not be empty"),
    ({"inputs": {"text": "a", "Foo": 1}}, "inputs.Foo: is not a field that is known here"),
    ({"inputs": ["a"] * 257}, "inputs: 257 items are too many; at most 256"),
    ({"inputs": "a", "topk": 1}, "topk: is not a field that is known here"),
    ({"inputs": "a", "Top_k": 1}, "Top_k: is not a field that is known here"),
    ({"inputs": "a", "stride": 1}, "stride: is not a field that is known here"),
    ({"inputs": "a", "query": 1}, "query: is not a field that is known here"),
    ({"inputs": "a", "top_k": 0}, "top_k: should be greater than or equal to 1"),
    ({"inputs": "a", "top_k": "2"}, "top_k: should be a valid integer"),
    ({"inputs": "a", "top_k": True}, "top_k: should be a valid integer"),
    ({"inputs": "a", "activation": "relu"}, "activation: should be 'softmax', 'sigmoid' or 'none'"),
    ({"inputs": "a", "truncation": None}, "truncation: should be 'error', 'truncate' or 'window'"),
    ({"inputs": "a", "model": 5}, "model: should be a valid string"),
    ({"inputs": "a", "model": "m" * 97}, "model: string should have at most 96 characters"),
    ({"inputs": "a", "model": "\ud800"}, "model: contains a lone surrogate, which is not valid Unicode"),
    ([], "body: should be an object"),
    ("text", "body: should be an object"),
    (None, "body: should be an object"),
]


@pytest.mark.parametrize(("body", "detail"), INVALID, ids=[detail for _, detail in INVALID])
async def test_an_invalid_request_names_the_field(service: Service, body: Any, detail: str) -> None:
    assert check_problem(await service.send(json.dumps(body).encode()), 422, "invalid_input") == detail


NO_JSON = {
    "cut off": b'{"inputs": ',
    "more than one": b'{"inputs": "a"} {}',
    "not UTF-8": b'{"inputs": "\xff"}',
    "UTF-16": '{"inputs": "a"}'.encode("utf-16")[:-1],
    "a number without end": b"1" * 5000,
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
async def test_a_body_that_is_no_json_says_so(service: Service, body: bytes) -> None:
    assert "not valid JSON" in check_problem(await service.send(body), 422, "invalid_input")


async def test_a_missing_body_is_required(service: Service) -> None:
    assert check_problem(await service.client.post("/v1/classify"), 422, "invalid_input") == "body: is required"


@pytest.mark.parametrize("wished", ["0", "-1", "soon", "1.5", "3600001"])
async def test_a_deadline_that_is_none_names_the_header(service: Service, wished: str) -> None:
    response = await service.classify("good", {"X-Request-Timeout-Ms": wished})
    assert check_problem(response, 422, "invalid_input").startswith("x-request-timeout-ms: should be ")


# --- 404, 405


async def test_an_unknown_model_is_named(service: Service) -> None:
    detail = check_problem(await service.classify("good", model="other"), 404, "unknown_model")
    assert detail == "model 'other' is not loaded; loaded are: tiny"


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/models/other", "/static/nothing.js", "/static/../main.py"])
async def test_an_unknown_path_is_a_problem_too(service: Service, path: str) -> None:
    response = await service.client.get(path)
    check_problem(response, 404, "unknown_model" if "models" in path else "not_found")


@pytest.mark.parametrize(("path", "status", "kind"), [("/v1/nowhere", 404, "not_found"), ("/docs", 405, "method_not_allowed")])
async def test_where_nobody_wants_a_body_nothing_is_said_of_it(service: Service, path: str, status: int, kind: str) -> None:
    check_problem(await service.client.post(path, content="{", headers={"Content-Type": "application/json"}), status, kind)


async def test_a_wrong_method_says_which_is_right(service: Service) -> None:
    response = await service.client.get("/v1/classify")
    check_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"


# --- 413


async def test_a_text_too_long_for_the_model_is_too_large_where_nothing_may_be_cut(service: Service) -> None:
    detail = check_problem(await service.classify(TOO_LONG, truncation="error"), 413, "too_large")
    assert "more than 32 tokens" in detail


async def test_more_rows_than_the_queue_ever_takes_are_too_large(gated_service: GatedService) -> None:
    detail = check_problem(await gated_service.classify(["good"] * 5), 413, "too_large")
    assert "at most 4 rows" in detail


# --- 415

OTHER_TYPES = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "jsonish", ""]


@pytest.mark.parametrize("content_type", OTHER_TYPES)
async def test_what_is_not_json_is_refused_unread(service: Service, content_type: str) -> None:
    response = await service.send(b'{"inputs": "good"}', {"Content-Type": content_type})
    detail = check_problem(response, 415, "not_json")
    assert "application/json" in detail


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"])
async def test_every_kind_of_json_is_taken(service: Service, content_type: str) -> None:
    assert (await service.send(b'{"inputs": "good"}', {"Content-Type": content_type})).status_code == 200


# --- 429


async def test_a_full_queue_turns_away_with_a_retry_after(gated_service: GatedService) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    waiting = [asyncio.ensure_future(gated_service.classify("bad")) for _ in range(4)]
    await gated_service.has_waiting(4)
    response = await gated_service.classify("film")
    check_problem(response, 429, "overloaded")
    assert int(response.headers["retry-after"]) >= 1
    batch.finish()
    answers = await gated_service.finish(asyncio.gather(running, *waiting))
    assert [answer.status_code for answer in answers] == [200] * 5
    assert (await gated_service.finish(gated_service.classify("film"))).status_code == 200


# --- 503


async def test_while_models_load_everything_else_answers(own_service: Service) -> None:
    own_service.live.registry._loaded = False
    own_service.live.registry.remove("tiny")
    assert "still loading" in check_problem(await own_service.classify("good"), 503, "unavailable")
    assert "still loading" in check_problem(await own_service.client.get("/health/ready"), 503, "unavailable")
    assert (await own_service.client.get("/health/live")).status_code == 200
    assert (await own_service.client.get("/metrics")).status_code == 200


async def test_a_draining_service_says_so(own_service: Service) -> None:
    await own_service.live.registry.aclose()
    assert "draining" in check_problem(await own_service.classify("good"), 503, "unavailable")
    assert "draining" in check_problem(await own_service.client.get("/health/ready"), 503, "unavailable")


async def test_an_engine_whose_loop_died_is_down(gated_service: GatedService) -> None:
    waiting = asyncio.ensure_future(gated_service.classify("good"))
    (await gated_service.gated.engine.batch()).fail(asyncio.CancelledError())
    check_problem(await waiting, 503, "unavailable")
    check_problem(await gated_service.classify("good"), 503, "unavailable")
    assert "the engine of tiny is down" in check_problem(await gated_service.client.get("/health/ready"), 503, "unavailable")
    shown = (await gated_service.client.get("/v1/models/tiny")).json()
    assert shown["state"] == "down"


@pytest.mark.parametrize("inputs", ["bad", ["bad", "bad film"]], ids=["one", "list"])
async def test_an_engine_that_fails_on_everything_asked_is_unavailable(gated_service: GatedService, inputs: Any) -> None:
    response = await gated_service.finish(gated_service.classify(inputs), poison=12)
    detail = check_problem(response, 503, "engine_failed")
    assert "secret" not in detail


async def test_a_model_without_finite_numbers_is_unavailable(gated_service: GatedService) -> None:
    asked = asyncio.ensure_future(gated_service.classify("good"))
    (await gated_service.gated.engine.batch()).finish([EngineFailed("the model gave no finite numbers for this input")])
    check_problem(await asked, 503, "engine_failed")


# --- 504


async def test_a_deadline_that_passes_in_the_queue_is_told(gated_service: GatedService) -> None:
    running = asyncio.ensure_future(gated_service.classify("good"))
    batch = await gated_service.gated.engine.batch()
    response = await gated_service.classify("bad", {"X-Request-Timeout-Ms": "1"})
    assert "deadline passed" in check_problem(response, 504, "deadline_exceeded")
    assert gated_service.gated.deployment.scheduler.num_waiting_rows == 0
    batch.finish()
    assert (await running).status_code == 200


async def test_a_deadline_far_away_changes_nothing(service: Service) -> None:
    assert (await service.classify("good", {"X-Request-Timeout-Ms": "3600000"})).status_code == 200


async def test_a_deadline_counts_milliseconds(gated_service: GatedService, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    async def predict(items: Any, options: Any, deadline: float, priority: str, **_: Any) -> None:
        seen.append(deadline - time.monotonic())
        raise InvalidInput("enough")

    monkeypatch.setattr(gated_service.gated.deployment, "predict", predict)
    await gated_service.classify("good", {"X-Request-Timeout-Ms": "1500000"})
    assert 1400 < seen[0] <= 1500


# --- 500


async def test_an_unexpected_error_tells_nothing_of_the_inside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("the secret text")

    (deployment,) = service.live.registry.deployments
    monkeypatch.setattr(deployment.task, "encode", broken)
    detail = check_problem(await service.classify("good"), 500, "internal")
    assert "request id" in detail
    assert "secret" not in detail
    assert (await service.client.get("/health/ready")).status_code == 200


# --- the table itself


def test_every_error_has_the_status_of_its_nearest_ancestor() -> None:
    assert status_of(EngineFailed("")) == 503
    assert status_of(InvalidArtefact("")) == 500
    assert STATUS[HooperError] == 500
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.CallerError):
            assert 400 <= next(STATUS[entry] for entry in kind.__mro__ if entry in STATUS) < 500


# --- whatever is sent

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
items = json_values | st.fixed_dictionaries({"text": json_values}, optional={"text_pair": json_values})
requests = json_values | st.fixed_dictionaries(
    {"inputs": items | st.lists(items, max_size=4)},
    optional={
        "top_k": json_values,
        "activation": st.sampled_from(["softmax", "none"]) | json_values,
        "truncation": st.sampled_from(["error", "window"]) | json_values,
        "model": st.sampled_from(["tiny", "tiny/1", "tiny/2"]) | json_values,
    },
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=requests)
async def test_no_json_makes_the_service_stumble(service: Service, body: Any) -> None:
    response = await service.send(json.dumps(body).encode())
    if response.status_code == 200:
        assert response.json()["results"]
    else:
        assert response.status_code in (404, 413, 422)
        assert check_problem(response, response.status_code, response.json()["type"])
