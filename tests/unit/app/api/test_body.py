"""A body is read within bounds: of bytes, see `test_middleware`, of time and of depth."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.body import MAX_DEPTH, TOO_DEEP, is_too_deep
from tests.asked import Caller, Service, check_problem
from tests.tiny import MAX_TOKENS


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


texts = st.text() | st.sampled_from(["[[[", "}{", '"[', "\\", '\\"{', '"'])
values = st.recursive(
    texts | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=20,
)


@given(value=values, most=st.integers(0, 6), ensure_ascii=st.booleans())
def test_depth_is_that_of_the_value_whatever_its_strings_hold(value: Any, most: int, ensure_ascii: bool) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii)
    assert is_too_deep(text.encode("utf-8", "surrogatepass"), most) == (depth_of(value) > most)


@given(st.binary() | st.text(alphabet='[]{}",\\ a').map(str.encode))
def test_what_is_no_json_is_measured_without_harm(body: bytes) -> None:
    assert is_too_deep(body, 2) in (True, False)


def nested(levels: int) -> bytes:
    """A request of so many levels, the outer object among them."""
    return b'{"inputs": "good", "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


async def test_so_deep_and_not_one_level_deeper(service: Service) -> None:
    assert "x: is not a field" in check_problem(await service.send(nested(MAX_DEPTH)), 422, "invalid_input")
    for levels in (MAX_DEPTH + 1, 1000, 500_000):
        response = await service.send(nested(levels))
        assert check_problem(response, 422, "invalid_input") == f"body: {TOO_DEEP}"


async def test_brackets_in_a_text_are_text(service: Service) -> None:
    assert (await service.classify("[" * 1000 + '\\"{' * 100)).status_code == 200


@pytest.mark.parametrize("path", ["/models/tiny", "/predict", "/v2/models/tiny/infer", "/v1/explain"])
async def test_every_protocol_measures_depth(service: Service, path: str) -> None:
    response = await service.send(nested(10_000), path=path)
    assert response.status_code == 422
    assert TOO_DEEP in response.text


async def test_bytes_behind_the_json_have_no_depth(service: Service) -> None:
    text = b"[" * MAX_TOKENS * 10
    size = len(text) + 4
    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}]}
    head = json.dumps(asked).encode()
    body = head + len(text).to_bytes(4, "little") + text
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    assert (await service.send(body, headers, "/v2/models/tiny/infer")).status_code == 200


@pytest.mark.parametrize("path", ["/v1/classify", "/models/tiny"])
async def test_a_body_that_does_not_come_is_given_up(start: Any, path: str) -> None:
    async with start(receive_s=0.01) as service:
        caller = Caller(service.app, path=path)
        caller.send(b'{"inputs": ', more=True)
        await caller.task
        assert caller.status == 408
        assert (b"connection", b"close") in caller.sent[0]["headers"]
        assert b"the body was not complete after 0.01 seconds" in caller.sent[1]["body"]


@pytest.mark.parametrize("length", ["9" * 18, "9" * 5000])
async def test_a_length_of_any_number_of_digits_is_too_large(service: Service, length: str) -> None:
    caller = Caller(service.app, **{"content-length": length})
    await caller.task
    assert caller.status == 413
