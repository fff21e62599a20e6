"""Clients who are refused or turned away while they are still sending."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from app.api.connection import (
    ARRIVED_S,
    BODY_GRACE_S,
    MAX_LINGERING_BYTES,
)
from tests.support.wire_client import HEAD, RECEIVE_S, Client, echo


@pytest.fixture
async def client() -> Client:
    return Client()


# --- a refusal while the client is still sending


async def refused(client: Client, length: int) -> None:
    client.send(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\nfirst" % length)
    await client.is_answered()
    assert client.wire.written.startswith(b"HTTP/1.1 413 ")


async def test_a_refused_client_may_send_on_and_is_not_heard(client: Client) -> None:
    await refused(client, 3_000_000)
    written = client.wire.written
    assert client.wire.is_half_closed
    client.send(b"x" * 3_000_000 + echo(b"the next"))
    assert not client.wire.ended
    assert client.wire.written == written
    assert not client.connection.cycle.body


async def test_it_is_read_on_even_if_reading_was_paused(client: Client) -> None:
    client.send(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 300_000)
    assert client.wire.is_reading_paused
    await client.is_answered()
    assert not client.wire.is_reading_paused
    assert not client.connection.cycle.body


async def test_it_may_not_send_on_for_longer_than_its_request_might_have_taken(client: Client) -> None:
    await refused(client, 3_000_000)
    for _ in range(int(RECEIVE_S)):
        client.send(b"x")
        client.loop.advance(1)
    assert not client.wire.ended
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended == "closed"


async def test_it_may_not_send_without_end(client: Client) -> None:
    await refused(client, 10 * MAX_LINGERING_BYTES)
    piece = bytes(MAX_LINGERING_BYTES // 8)
    for _ in range(8):
        client.send(piece)
    assert not client.wire.ended
    client.send(b"x")
    assert client.wire.ended == "aborted"


async def test_a_refused_client_who_has_sent_everything_is_not_waited_for(client: Client) -> None:
    client.send(b"POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfirst")
    await client.is_answered()
    assert (client.wire.ended, client.wire.is_half_closed) == ("closed", False)


async def test_a_refused_client_counts_as_a_connection(client: Client) -> None:
    await refused(client, 3_000_000)
    assert client.state.connections == {client.connection}
    client.connection.connection_lost(None)
    assert client.state.connections == set()


async def test_a_service_that_stops_waits_for_a_refused_client_no_longer_than_a_moment(client: Client) -> None:
    await refused(client, 3_000_000)
    client.connection.shutdown()
    client.loop.advance(ARRIVED_S)
    assert not client.wire.ended
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended == "closed"


@pytest.mark.parametrize("is_answered_first", [False, True])
async def test_nor_for_whoever_has_sent_half_a_request(client: Client, is_answered_first: bool) -> None:
    if not is_answered_first:
        client.send(HEAD)
        client.connection.shutdown()
    else:
        client.send(HEAD + b"\r\n0123456789" + HEAD)
        client.connection.shutdown()
        await client.is_answered()
    client.loop.advance(ARRIVED_S)
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended == "closed"


async def test_a_request_that_has_arrived_when_the_service_stops_is_answered_although_it_is_unread(client: Client) -> None:
    client.connection.shutdown()
    client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.is_answered()
    client.loop.advance(ARRIVED_S)
    assert client.wire.ended == "closed"
    assert client.wire.written.startswith(b"HTTP/1.1 ")


async def test_a_client_who_has_gone_when_it_is_refused_is_no_error(client: Client) -> None:
    def fail() -> None:
        raise OSError("not connected")

    client.wire.write_eof = fail  # type: ignore[method-assign]
    await refused(client, 3_000_000)


async def test_nothing_is_written_to_a_connection_that_was_cut_off(client: Client) -> None:
    client.send(HEAD + b"\r\n0123456789")
    client.send(b"this is no HTTP\r\n\r\n")
    assert client.wire.ended == "aborted"
    await client.is_answered()
    assert not client.wire.written  # transports of uvloop raise


# --- a load_shedder


REFUSED = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
ASKED = b"POST /full HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
BODY = b"\r\nbody"


def refuse_full(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    return REFUSED if target == b"/full" and (b"host", b"x") in headers else None


@pytest.fixture
async def guarded() -> Client:
    return Client(load_shedder=refuse_full)


async def test_who_is_turned_away_has_the_answer_before_the_body_and_the_connection_is_kept(guarded: Client) -> None:
    guarded.send(ASKED + b"\r\n")
    assert guarded.wire.written == REFUSED
    guarded.send(b"bo")
    guarded.send(b"dy")
    assert not guarded.state.tasks
    guarded.send(HEAD + b"\r\n0123456789")
    await guarded.is_answered()
    assert guarded.wire.written.startswith(REFUSED + b"HTTP/1.1 200 ")
    assert not guarded.wire.ended


async def test_it_can_be_turned_away_again_and_again(guarded: Client) -> None:
    for _ in range(3):
        guarded.send(ASKED + BODY)
    guarded.send(3 * (ASKED + BODY))
    assert guarded.wire.written == 6 * REFUSED
    assert guarded.state.total_requests == 6


async def test_afterwards_the_connection_ends_when_nothing_comes(guarded: Client) -> None:
    guarded.send(ASKED + BODY)
    guarded.loop.advance(guarded.connection.timeout_keep_alive + 1)
    assert guarded.wire.ended == "closed"


async def test_a_body_that_never_comes_ends_the_connection(guarded: Client) -> None:
    guarded.send(ASKED + b"\r\nbo")
    guarded.loop.advance(RECEIVE_S + BODY_GRACE_S)
    assert guarded.wire.ended == "aborted"


async def test_half_a_request_behind_it_in_the_same_chunk_ends_the_connection(guarded: Client) -> None:
    guarded.send(ASKED + BODY + b"POST /v1/cl")
    assert guarded.loop.waiting
    guarded.loop.advance(RECEIVE_S)
    assert b"HTTP/1.1 408 " in guarded.wire.written
    guarded.loop.advance(BODY_GRACE_S)
    assert guarded.wire.ended == "closed"


async def test_who_reads_no_answers_is_read_no_more_requests(guarded: Client) -> None:
    guarded.connection.pause_writing()
    guarded.send(3 * (ASKED + BODY))
    assert not guarded.wire.written
    assert len(guarded.connection.pipeline) == 2
    guarded.connection.resume_writing()
    await guarded.is_answered()
    await guarded.is_answered()
    await guarded.is_answered()


async def test_it_has_the_headers_that_every_answer_has(guarded: Client) -> None:
    guarded.state.default_headers = [(b"date", b"today")]
    guarded.send(ASKED + BODY)
    assert guarded.wire.written.startswith(b"HTTP/1.1 429 Too Many Requests\r\ndate: today\r\ncontent-length: 0\r\n")


async def test_a_load_shedder_who_fails_lets_everybody_in(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(load_shedder=lambda target, headers: bytes(1 // 0))
    client.send(ASKED + BODY)
    await client.is_answered()
    assert b"HTTP/1.1 200 " in client.wire.written
    (record,) = caplog.records
    assert vars(record)["error"] == "ZeroDivisionError"


async def test_a_request_behind_it_in_the_same_chunk_is_not_cut_off(guarded: Client) -> None:
    guarded.send(ASKED + BODY + HEAD + b"\r\n0123456789")
    guarded.loop.advance(guarded.connection.timeout_keep_alive + 1)
    assert not guarded.wire.ended
    await guarded.is_answered()
    assert guarded.wire.written.startswith(REFUSED + b"HTTP/1.1 200 ")


async def test_nobody_is_turned_away_before_those_who_came_first_are_answered(guarded: Client) -> None:
    guarded.send(HEAD + b"\r\n0123456789" + ASKED + BODY)
    assert not guarded.wire.written
    await guarded.is_answered()
    await guarded.is_answered()
    assert guarded.wire.written.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    "head",
    [
        b"GET /full HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n",
        b"POST /full HTTP/1.0\r\nHost: x\r\nContent-Length: 4\r\n",
        ASKED + b"Connection: close\r\n",
        ASKED + b"Expect: 100-continue\r\n",
        b"POST /room HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n",
    ],
)
async def test_whatever_is_not_plain_is_for_the_application(guarded: Client, head: bytes) -> None:
    guarded.send(head + BODY)
    await guarded.is_answered()
    assert b"429" not in guarded.wire.written
    assert b"HTTP/1.1 200 " in guarded.wire.written
