"""Whoever guesses keys is answered slowly, and on ever new connections."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any

import pytest

from app.api.rates import CONNECTION, MAX_A_CONNECTION, MAX_A_SECOND, Refusals, is_enough
from app.core.errors import RateLimited
from tests.support.requests import Service, check_problem

USER = hashlib.sha256(b"mine").hexdigest()


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_within_any_second_so_many_are_told_and_not_one_more() -> None:
    clock = Clock()
    refusals = Refusals(clock=clock)
    told: list[float] = []
    for _ in range(1000):
        clock.now_s += 0.007
        with suppress(RateLimited):
            refusals.count()
            told.append(clock.now_s)
    assert max(sum(at <= other < at + 1 for other in told) for at in told) == MAX_A_SECOND
    assert len(told) > 300


@pytest.mark.parametrize(("num_processes", "each"), [(1, 50), (2, 25), (4, 12), (100, 1)])
def test_processes_share_them(num_processes: int, each: int) -> None:
    refusals = Refusals(num_processes, Clock())
    for _ in range(each):
        refusals.count()
    with pytest.raises(RateLimited) as limited:
        refusals.count()
    assert limited.value.retry_after_s == 1


def test_a_connection_is_told_so_often_and_others_are_not_counted_with_it() -> None:
    one: dict[str, Any] = {CONNECTION: {}}
    other: dict[str, Any] = {CONNECTION: {}}
    assert [is_enough(one) for _ in range(MAX_A_CONNECTION)] == [False] * (MAX_A_CONNECTION - 1) + [True]
    assert not is_enough(other)
    assert not any(is_enough({}) for _ in range(2 * MAX_A_CONNECTION))  # a server that is not ours keeps nothing of it


async def test_wrong_keys_are_told_for_a_while_then_429_and_the_right_one_is_answered(start: Any) -> None:
    async with start(api_key_hashes=USER) as service:
        service_refusals = [await classify(service, f"wrong{number}") for number in range(MAX_A_SECOND + 10)]
        statuses = [response.status_code for response in service_refusals]
        assert statuses[:10] == [401] * 10
        if 429 in statuses:  # on a machine so slow that a second passes, none is turned away
            first = service_refusals[statuses.index(429)]
            assert "wrong key" in check_problem(first, 429, "rate_limited")
            assert first.headers["retry-after"] == "1"
        assert (await classify(service, "mine")).status_code == 200


@pytest.mark.parametrize("path", ["/models/tiny", "/predict", "/v2/models/tiny/infer", "/v1/models/tiny/load"])
async def test_every_protocol_and_the_administration_count(start: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.rates.MAX_A_SECOND", 1)
    async with start(api_key_hashes=USER, admin_key_hashes=USER) as service:
        statuses = [(await service.send(b"{}", {"X-API-Key": "wrong"}, path)).status_code for _ in range(3)]
        assert statuses[0] == 401
        assert set(statuses[1:]) <= {401, 429}


async def classify(service: Service, key: str) -> Any:
    return await service.classify("good", {"X-API-Key": key})
