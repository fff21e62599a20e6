"""The bodies of all requests together: counted before they are read, refused where there is no room, released at every end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from app.api.body import BodyBudget
from tests.support.gated_engine import turn
from tests.support.requests import Caller, GatedService

LIMIT = 2048
BUDGET = 4000
GOOD = json.dumps({"inputs": "good"}).encode()
CHUNKED = {"content-length": "", "transfer-encoding": "chunked"}


def test_what_is_held_never_exceeds_the_budget_and_all_of_it_comes_back() -> None:
    budget = BodyBudget(10)
    first, second = budget.account(), budget.account()
    assert first.hold(4)
    assert first.hold(3)  # it holds them already
    assert budget.held_bytes == 4
    assert not second.hold(7)
    assert second.is_refused
    assert budget.held_bytes == 4
    first.release()
    first.release()
    assert budget.held_bytes == 0


def test_who_was_refused_or_is_done_holds_nothing_any_more() -> None:
    budget = BodyBudget(10)
    refused, done = budget.account(), budget.account()
    refused.hold(5)
    assert not refused.hold(11)
    assert not refused.hold(1)
    done.release()
    assert not done.hold(1)
    assert budget.held_bytes == 0
    assert (refused.is_refused, done.is_refused) == (True, False)


def budget_of(service: Any) -> BodyBudget:
    budget = service.app.state.body_budget
    assert isinstance(budget, BodyBudget)
    return budget


@pytest.fixture
async def service(start: Any) -> Any:
    async with start(max_body_bytes=LIMIT, max_held_body_bytes=BUDGET) as running:
        yield running


def headers_of(caller: Caller) -> dict[bytes, bytes]:
    return dict(next(message["headers"] for message in caller.sent if message["type"] == "http.response.start"))


async def test_a_body_for_which_there_is_no_room_is_refused_unread_and_those_before_it_go_on(service: Any) -> None:
    first, second = (Caller(service.app, **{"content-length": length}) for length in ("1999", "2000"))
    await turn()
    assert budget_of(service).held_bytes == 3999
    third = Caller(service.app, **{"content-length": "2"})
    await third.task  # nothing was ever sent
    assert third.status == 429
    assert headers_of(third)[b"retry-after"] == b"1"
    assert json.loads(third.sent[-1]["body"])["type"] == "overloaded"
    fourth = Caller(service.app, **{"content-length": "1"})
    for caller in (first, second, fourth):
        caller.send(GOOD)
        await caller.task
        assert caller.status == 200
    assert budget_of(service).held_bytes == 0


async def test_a_body_without_a_length_is_counted_as_it_comes(service: Any) -> None:
    callers = [Caller(service.app, **CHUNKED) for _ in range(3)]
    for caller in callers:
        caller.send(b" " * 1500, more=True)
    await turn()
    assert [caller.status for caller in callers] == [None, None, 429]
    assert budget_of(service).held_bytes == 3000
    for caller in callers[:2]:
        caller.send(GOOD)
        await caller.task
        assert caller.status == 200
    await callers[2].task
    assert budget_of(service).held_bytes == 0


@pytest.mark.parametrize("end", ["leaves", "sends too much", "is cancelled", "sends no JSON"])
async def test_whatever_the_end_nothing_stays_counted(service: Any, end: str) -> None:
    caller = Caller(service.app, **CHUNKED)
    caller.send(b" " * 1500, more=True)
    await turn()
    assert budget_of(service).held_bytes == 1500
    if end == "leaves":
        caller.leave()
    elif end == "sends too much":
        caller.send(b" " * LIMIT, more=True)
    elif end == "sends no JSON":
        caller.send(b"x")
    else:
        caller.task.cancel()
    await asyncio.wait([caller.task])
    assert budget_of(service).held_bytes == 0


async def test_a_body_that_is_too_slow_is_counted_no_more(start: Any) -> None:
    async with start(receive_s=0.01) as service:
        caller = Caller(service.app)
        await caller.task
        assert caller.status == 408
        assert budget_of(service).held_bytes == 0


async def test_a_body_counts_until_its_answer(gated_service: GatedService) -> None:
    caller = Caller(gated_service.app, **{"content-length": str(len(GOOD))})
    caller.send(GOOD)
    await gated_service.has_waiting(1)
    assert budget_of(gated_service).held_bytes == len(GOOD)
    caller.leave()
    await caller.task
    assert budget_of(gated_service).held_bytes == 0


async def test_who_brings_no_key_holds_nothing(start: Any) -> None:
    async with start(api_key_hashes="0" * 64) as service:
        caller = Caller(service.app, **{"content-length": "2000000"})
        await caller.task  # nothing was ever sent
        assert caller.status == 401
        assert budget_of(service).held_bytes == 0


async def test_the_largest_body_always_has_room(start: Any) -> None:
    async with start(max_body_bytes=BUDGET, max_held_body_bytes=LIMIT) as service:
        caller = Caller(service.app, **{"content-length": str(BUDGET)})
        caller.send(GOOD)
        await caller.task
        assert caller.status == 200


# --- what an answer before the body says of the connection


@pytest.mark.parametrize(
    ("path", "headers", "status", "is_last"),
    [
        ("/v1/classify", {"content-type": "text/csv"}, 415, False),
        ("/v1/classify", {"content-type": "text/csv", "expect": "100-continue"}, 415, True),
        ("/v1/classify", {"content-type": "text/csv", "content-length": "65537"}, 415, True),
        ("/v1/classify", {"content-type": "text/csv", **CHUNKED}, 415, True),
        ("/v1/classify", {"content-length": str(LIMIT + 1)}, 413, False),
        ("/v1/classify", {"content-length": str(LIMIT + 1), "expect": "100-continue"}, 413, True),
        ("/nowhere", {"content-length": "65537"}, 404, True),
        ("/nowhere", {"expect": "100-continue"}, 404, True),
        ("/v1/models", {"expect": "100-continue"}, 405, True),
    ],
)
async def test_the_connection_ends_where_much_is_still_to_come_or_nobody_knows_whether_it_will(
    service: Any, path: str, headers: dict[str, str], status: int, is_last: bool
) -> None:
    caller = Caller(service.app, path=path, **headers)
    await caller.task  # nothing was ever sent, and nothing was waited for
    assert caller.status == status
    assert (headers_of(caller).get(b"connection") == b"close") is is_last


async def test_so_does_the_answer_to_a_get_with_a_body(service: Any) -> None:
    caller = Caller(service.app, "GET", "/health/live", **{"content-length": "70000"})
    await caller.task
    assert caller.status == 200
    assert headers_of(caller)[b"connection"] == b"close"


async def test_it_stays_where_the_body_was_read(service: Any) -> None:
    caller = Caller(service.app, **{"content-length": "2000", "expect": "100-continue"})
    caller.send(GOOD)
    await caller.task
    assert caller.status == 200
    assert b"connection" not in headers_of(caller)
