"""A body is read within bounds: of bytes, see `test_middleware`, and of time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.requests import Caller, Service


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
