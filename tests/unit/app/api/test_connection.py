"""A connection whose client is slow, silent or talks nonsense ends in bounded time; the test moves the clock."""

from __future__ import annotations

import pytest

from app.api.connection import (
    BODY_GRACE_S,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
)
from app.api.rates import CONNECTION
from tests.support.wire_client import HEAD, RECEIVE_S, Client, Wire, bodies, echo


@pytest.fixture
async def client() -> Client:
    return Client()


# --- time


async def test_a_silent_connection_is_closed_without_a_word(client: Client) -> None:
    client.loop.advance(RECEIVE_S - 0.1)
    assert not client.wire.ended
    client.loop.advance(0.2)
    assert (client.wire.ended, client.wire.written) == ("aborted", b"")


async def test_a_head_that_comes_drop_by_drop_is_refused_and_drops_buy_no_time(client: Client) -> None:
    for byte in HEAD[: int(RECEIVE_S) - 1]:
        client.send(bytes([byte]))
        client.loop.advance(1)
    assert not client.wire.ended
    client.loop.advance(1)
    assert client.problem(408) == "the request's head was not complete after 5 seconds"
    assert client.wire.is_half_closed
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended == "closed"


async def test_empty_lines_buy_no_time(client: Client) -> None:
    for _ in range(int(RECEIVE_S)):
        client.send(b"\r\n")
        client.loop.advance(1)
    assert client.wire.ended == "aborted"


async def test_a_body_has_its_own_time_and_a_second_in_which_the_application_may_refuse_it(client: Client) -> None:
    client.loop.advance(RECEIVE_S - 1)
    client.send(HEAD + b"\r\n123")
    client.loop.advance(RECEIVE_S + BODY_GRACE_S - 0.1)
    assert not client.wire.ended
    client.loop.advance(0.2)
    assert client.wire.ended == "aborted"
    client.connection.connection_lost(None)
    await client.is_answered()


async def test_an_answer_takes_as_long_as_it_takes(client: Client) -> None:
    client.send(HEAD + b"\r\n0123456789")
    client.loop.advance(1000)
    assert not client.wire.ended
    await client.is_answered()
    assert client.wire.written.endswith(b"\r\n\r\nok")


async def test_half_a_request_behind_one_that_is_being_answered_does_not_end_it(client: Client) -> None:
    client.send(HEAD + b"\r\n0123456789" + HEAD)
    client.send(b"X")
    for _ in range(3):
        client.loop.advance(RECEIVE_S)
    assert not client.wire.ended
    await client.is_answered()
    client.loop.advance(RECEIVE_S)
    assert client.wire.is_half_closed
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended


async def test_a_body_that_goes_on_after_its_answer_is_cut_off(client: Client) -> None:
    client.send(HEAD + b"\r\n1")
    await client.is_answered()
    for _ in range(int(RECEIVE_S + BODY_GRACE_S)):
        client.send(b"1")  # ends uvicorn's keep-alive timer
        client.loop.advance(1)
    assert client.wire.ended == "aborted"


async def test_between_two_requests_only_the_keep_alive_timer_runs(client: Client) -> None:
    for _ in range(2):
        client.send(HEAD + b"\r\n0123456789")
        await client.is_answered()
        assert len(client.loop.waiting) == 1
    client.loop.advance(5)
    assert client.wire.ended == "closed"


async def test_a_client_who_takes_no_answer_is_cut_off_and_one_who_does_is_not(client: Client) -> None:
    client.connection.pause_writing()
    client.loop.advance(RECEIVE_S - 0.1)
    client.connection.resume_writing()
    client.connection._patience.cancel()  # type: ignore[union-attr]
    client.loop.advance(RECEIVE_S)
    assert not client.wire.ended
    client.connection.pause_writing()
    client.loop.advance(RECEIVE_S)
    assert client.wire.ended == "aborted"


async def test_what_a_closed_connection_still_has_to_send_waits_no_longer_than_that(client: Client) -> None:
    client.send(HEAD + b"Connection: close\r\n\r\n0123456789")
    await client.is_answered()
    assert client.wire.ended == "closed"
    client.loop.advance(RECEIVE_S)
    assert client.wire.ended == "aborted"


@pytest.mark.parametrize(
    "data", [b"", HEAD, HEAD + b"\r\n1", HEAD + b"\r\n0123456789"], ids=["silent", "head", "body", "whole"]
)
@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["closed", "reset"])
async def test_a_client_who_leaves_leaves_no_timer_behind(client: Client, data: bytes, error: Exception | None) -> None:
    if data:
        client.send(data)
    client.connection.pause_writing()
    client.connection.connection_lost(error)
    await client.is_answered()
    assert client.loop.waiting == []
    assert client.state.connections == set()


# --- bytes


async def test_a_head_without_end_is_refused_before_it_is_stored(client: Client) -> None:
    client.send(HEAD + b"X: ")
    for _ in range(MAX_HEAD_BYTES // 1000 + 1):
        client.send(b"x" * 1000)
    detail = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} lines"
    assert client.problem(431) == detail
    assert client.wire.is_half_closed


async def test_a_head_without_end_may_come_in_one_chunk(client: Client) -> None:
    client.send(HEAD + b"X: " + b"x" * MAX_HEAD_BYTES)
    assert "more than" in client.problem(431)


@pytest.mark.parametrize("is_whole", [False, True])
async def test_so_is_one_of_many_headers_each_of_which_takes_more_than_its_bytes(client: Client, is_whole: bool) -> None:
    client.send(HEAD + (MAX_HEADERS - 2) * b"X: y\r\n")
    assert not client.wire.written
    client.send(b"X: y\r\nX: y\r\n" + b"\r\n0123456789" * is_whole)
    assert client.problem(431).endswith(f"{MAX_HEADERS} lines")


CHUNKED = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_trailers_are_no_headers(client: Client) -> None:
    client.send(CHUNKED + b"2\r\nab\r\n0\r\nAuthorization: Bearer x\r\nX: y\r\n\r\n" + echo(b"the next"))
    assert client.connection.pipeline[0][0].scope["headers"][0][0] == b"host"
    assert client.connection.scope["headers"] == [(b"host", b"x"), (b"content-length", b"8")]
    await client.is_answered()
    await client.is_answered()
    assert bodies(client.wire.written) == [b"ab", b"the next"]


@pytest.mark.parametrize(
    ("begin", "piece"),
    [(b"2\r\nab\r\n0\r\n", b"X: y\r\n" * 100), (b"2\r\nab\r\n0\r\nX: ", b"x" * 1000), (b"1;a=", b"b" * 1000)],
)
async def test_trailers_and_what_is_said_of_a_chunk_have_an_end(client: Client, begin: bytes, piece: bytes) -> None:
    client.send(CHUNKED + begin)
    for _ in range(MAX_HEAD_BYTES // len(piece) + 1):
        assert not client.wire.ended
        client.send(piece)
    assert client.wire.ended == "aborted"
    client.connection.connection_lost(None)
    await client.is_answered()


async def test_a_body_of_small_chunks_may_be_long(client: Client) -> None:
    client.answering.set()
    client.send(CHUNKED)
    for _ in range(50):
        client.send(b"1\r\nx\r\n" * 1000)
    client.send(b"0\r\n\r\n")
    await client.is_answered()
    assert bodies(client.wire.written) == [b"x" * 50_000]


@pytest.mark.parametrize("excess", [False, True])
async def test_a_head_that_comes_at_once_is_measured_too(client: Client, excess: bool) -> None:
    client.send(HEAD + b"X: " + b"x" * (MAX_HEAD_BYTES - 100 + 200 * excess) + b"\r\n\r\n0123456789")
    if excess:
        assert "more than" in client.problem(431)
    else:
        await client.is_answered()
        assert client.wire.written.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("chunk_bytes", [1000, MAX_HEAD_BYTES + 1, 10 * MAX_HEAD_BYTES])
async def test_a_large_body_is_no_head(client: Client, chunk_bytes: int) -> None:
    body = b"x" * (4 * MAX_HEAD_BYTES)
    client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
    for start in range(0, len(body), chunk_bytes):
        client.send(body[start : start + chunk_bytes])
    assert not client.wire.ended
    await client.is_answered()
    assert client.wire.written.startswith(b"HTTP/1.1 200")


async def test_many_requests_in_one_chunk_are_not_one_long_head(client: Client) -> None:
    client.answering.set()
    whole = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
    for _ in range(3):
        client.send(whole + HEAD)
        client.send(b"\r\n0123456789")
        await client.is_answered()
    assert not client.wire.ended


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"], ids=repr)
async def test_what_is_no_http_is_told_so(client: Client, data: bytes) -> None:
    client.send(data)
    assert client.problem(400) == "this is not a request in HTTP/1.1"
    assert client.wire.is_half_closed


# --- number


async def test_more_connections_than_may_be_are_closed_and_the_others_stay(client: Client) -> None:
    wires = [Wire(), Wire()]
    for wire in wires:
        client.connect(wire)
    assert [wire.ended for wire in (client.wire, *wires)] == ["", "", "aborted"]


async def test_each_connection_has_a_state_of_its_own_that_its_requests_share(client: Client) -> None:
    other = client.connect(Wire())
    assert client.connection.app_state[CONNECTION] == {}
    assert client.connection.app_state[CONNECTION] is not other.app_state[CONNECTION]
