"""A request that asks for an upgrade which nobody offers is an ordinary request."""

from __future__ import annotations

import pytest

from app.api.connection import (
    BODY_GRACE_S,
    MAX_HEAD_BYTES,
)
from tests.support.wire_client import H2C, HEAD, RECEIVE_S, Client, bodies, echo


@pytest.fixture
async def client() -> Client:
    return Client()


@pytest.mark.parametrize(
    "upgrade",
    [
        H2C, b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Upgrade: TLS/1.0, h2c\r\nconnection: keep-alive, upgrade\r\n",
        b"Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\nConnection: Upgrade\r\n",
        b"Upgrade: h2c\r\n", b"Connection: Upgrade\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_the_body_of_a_request_that_asks_for_an_upgrade_is_read(client: Client, upgrade: bytes, step: int) -> None:
    client.answering.set()
    data = echo(b"a body", upgrade)
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
    await client.is_answered()
    assert bodies(client.wire.written) == [b"a body"]
    client.send(echo(b"the next"))
    await client.is_answered()
    assert bodies(client.wire.written) == [b"a body", b"the next"]
    assert not client.wire.ended


async def test_it_may_come_in_chunks(client: Client) -> None:
    client.send(b"POST /echo HTTP/1.1\r\nHost: x\r\n" + H2C + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    client.send(b"2\r\nde\r\n0\r\nX: y\r\n\r\n" + echo(b"the next", H2C))
    await client.is_answered()
    await client.is_answered()
    assert bodies(client.wire.written) == [b"abcde", b"the next"]


async def test_a_body_that_is_a_whole_request_is_a_body_and_has_one_answer(client: Client) -> None:
    smuggled = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
    client.send(echo(smuggled, H2C))
    await client.is_answered()
    assert bodies(client.wire.written) == [smuggled]


async def test_many_upgrades_in_one_chunk_are_as_many_requests(client: Client) -> None:
    client.answering.set()
    client.send(b"".join(echo(b"%d" % number, H2C) for number in range(9)))
    for _ in range(9):
        await client.is_answered()
    assert bodies(client.wire.written) == [b"%d" % number for number in range(9)]


async def test_a_get_and_the_old_protocol_may_ask_for_it_too(client: Client) -> None:
    client.answering.set()
    client.send(b"GET /echo HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n" + echo(b"old", H2C, b"1.0"))
    await client.is_answered()
    await client.is_answered()
    assert bodies(client.wire.written) == [b"", b"old"]
    assert client.wire.ended == "closed"  # as HTTP/1.0 wants it


@pytest.mark.parametrize("target", [b"example.org:443", b"/echo"])
async def test_it_is_no_tunnel(client: Client, target: bytes) -> None:
    client.send(b"CONNECT " + target + b" HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    client.problem(400)
    assert client.wire.written.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("more", [b"", H2C])
async def test_a_request_with_two_hosts_is_refused(client: Client, more: bytes) -> None:
    client.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nhost: y\r\n" + more + b"\r\n")
    client.problem(400)


async def test_an_upgrade_to_something_that_is_no_path_is_no_http(client: Client) -> None:
    client.send(b"POST x:y HTTP/1.1\r\nHost: x\r\n" + H2C + b"\r\n")
    client.problem(400)


async def test_a_head_that_asks_for_an_upgrade_has_its_limit(client: Client) -> None:
    client.send(HEAD + H2C + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n0123456789")
    client.problem(431)


async def test_a_request_that_asks_for_an_upgrade_has_its_time(client: Client) -> None:
    client.send(echo(b"a body", H2C)[:-1])
    client.loop.advance(RECEIVE_S + BODY_GRACE_S)
    assert client.wire.ended == "aborted"
    client.connection.connection_lost(None)
    await client.is_answered()
