"""What a connection holds of bodies, and clients who wait to be asked for theirs."""

from __future__ import annotations

import asyncio

import pytest

from app.api.body import HELD, BodyBudget
from app.api.connection import (
    MAX_PIPELINED,
)
from tests.support.wire_client import Client, Wire, bodies, echo, posting


@pytest.fixture
async def client() -> Client:
    return Client()


# --- a budget of bytes


@pytest.fixture
async def budgeted() -> Client:
    return Client(budget=BodyBudget(100))


def held(client: Client) -> int:
    assert client.budget is not None
    return client.budget.held_bytes


async def test_what_is_buffered_counts_before_anybody_reads_it_and_until_the_answer(budgeted: Client) -> None:
    budgeted.send(posting(60, b"x" * 40))
    assert held(budgeted) == 40
    budgeted.send(b"x" * 20)
    assert held(budgeted) == 60
    await budgeted.is_answered()
    assert held(budgeted) == 0
    assert bodies(budgeted.wire.written) == [b"x" * 60]


async def test_what_has_no_room_is_not_buffered_and_the_reader_learns_it(budgeted: Client) -> None:
    other = Wire()
    connection = budgeted.connect(other)
    budgeted.send(posting(60, b"x" * 60))
    connection.data_received(posting(60, b"x" * 40))
    connection.data_received(b"x" * 20)
    assert held(budgeted) == 60
    assert not connection.cycle.body
    assert connection.cycle.scope[HELD].is_refused  # type: ignore[typeddict-item]
    await budgeted.is_answered()
    assert held(budgeted) == 0


async def test_requests_that_wait_for_those_before_them_count_and_are_released_with_their_connection(budgeted: Client) -> None:
    budgeted.send(3 * posting(20, b"x" * 20))
    assert held(budgeted) == 60
    budgeted.connection.connection_lost(None)
    assert held(budgeted) == 20  # of the one whose answer is under way
    await budgeted.is_answered()
    assert held(budgeted) == 0


async def test_what_a_refused_client_goes_on_sending_is_not_held(budgeted: Client) -> None:
    budgeted.send(posting(90, b"x" * 10, b"/refused"))
    await budgeted.is_answered()
    budgeted.send(b"x" * 80)
    assert held(budgeted) == 0


async def test_what_comes_of_a_body_after_its_answer_is_not_held(budgeted: Client) -> None:
    budgeted.send(posting(90, b"x" * 10, b"/"))
    await budgeted.is_answered()
    budgeted.send(b"x" * 80 + posting(4, b"next"))
    assert held(budgeted) == 4
    await budgeted.is_answered()
    assert budgeted.wire.written.endswith(b"next")


async def test_nobody_may_have_any_number_of_requests_wait(client: Client) -> None:
    client.send((1 + MAX_PIPELINED) * echo(b""))
    assert not client.wire.ended
    client.send(echo(b""))
    assert client.wire.ended == "aborted"
    client.connection.connection_lost(None)
    await client.is_answered()


# --- a client who waits to be told to send its body


EXPECTING = b"POST %b HTTP/%b\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


async def test_it_is_told_so_when_somebody_reads_it(client: Client) -> None:
    client.send(EXPECTING % (b"/echo", b"1.1"))
    client.answering.set()
    for _ in range(3):
        await asyncio.sleep(0)
    assert client.wire.written == GO_ON
    client.send(b"body")
    await client.is_answered()
    assert bodies(client.wire.written.removeprefix(GO_ON)) == [b"body"]


async def test_it_is_refused_in_its_place(client: Client) -> None:
    client.send(EXPECTING % (b"/refused", b"1.1"))
    await client.is_answered()
    assert client.wire.written.startswith(b"HTTP/1.1 413 ")
    assert client.wire.is_half_closed


async def test_the_old_protocol_knows_nothing_of_it(client: Client) -> None:
    client.send(EXPECTING % (b"/echo", b"1.0") + b"body")
    await client.is_answered()
    assert bodies(client.wire.written) == [b"body"]
