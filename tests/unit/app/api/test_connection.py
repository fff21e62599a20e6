"""A connection whose client is slow, silent or talks nonsense ends in bounded time; the test moves the clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.api.body_budget import HELD, BodyBudget
from app.api.connection import (
    BODY_GRACE_S,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_LINGERING_BYTES,
    MAX_PIPELINED,
    Connection,
    LoadShedder,
    limited,
)
from app.api.refusals import CONNECTION

RECEIVE_S = 5.0
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"


REFUSAL = [(b"content-length", b"2"), (b"connection", b"close")]
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"


async def whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


@dataclass
class Timer:
    due_s: float
    call: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    """A clock that the test moves, and real tasks."""

    now_s: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def create_task(self, work: Any) -> Any:
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for timer in [one for one in self.timers if one.due_s <= self.now_s]:
            self.timers.remove(timer)
            if not timer.is_cancelled:
                timer.call()

    @property
    def waiting(self) -> list[Timer]:
        return [one for one in self.timers if not one.is_cancelled]


class Wire(asyncio.Transport):
    """What the service wrote, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.ended = b"", ""
        self.is_half_closed = self.is_reading_paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True


@dataclass
class Client:
    """The other end of a connection."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    loop: Loop = field(default_factory=Loop)
    wire: Wire = field(default_factory=Wire)

    doorman: LoadShedder | None = None
    budget: BodyBudget | None = None

    def __post_init__(self) -> None:
        self.state = ServerState()
        self.connection = self.connect(self.wire)

    def connect(self, wire: Wire, max_connections: int = 2) -> Connection:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await answer(scope, receive, send)
            finally:
                if HELD in scope:  # as the middleware does
                    scope[HELD].release()

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await self.answering.wait()
            if scope["path"] == "/echo":
                echoed = await whole_body(receive)
                length = str(len(echoed)).encode()
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
                await send({"type": "http.response.body", "body": echoed})
                return
            if scope["path"] == "/refused":
                await send({"type": "http.response.start", "status": 413, "headers": REFUSAL})
                await send({"type": "http.response.body", "body": b"no"})
                return
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        config = uvicorn.Config(
            app, http=limited(RECEIVE_S, max_connections, self.doorman, self.budget), ws="none", log_config=None, lifespan="off"
        )
        config.load()
        made = config.http_protocol_class(config=config, server_state=self.state, app_state={}, _loop=self.loop)
        assert isinstance(made, Connection)
        made.connection_made(wire)
        return made

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    async def is_answered(self) -> None:
        self.answering.set()
        await asyncio.gather(*self.state.tasks)

    def problem(self, status: int) -> str:
        """The detail of the error that was answered."""
        head, _, body = self.wire.written.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
        assert b"connection: close" in head
        problem = json.loads(body)
        assert f"x-request-id: {problem['request_id']}".encode() in head
        assert problem["status"] == status
        return str(problem["detail"])


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


# --- an upgrade that nobody takes


def echo(body: bytes, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /echo HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (version, more, len(body), body)


def bodies(written: bytes) -> list[bytes]:
    """Of the answers, each of which tells its length."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        written = rest[length:]
    return found


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
    client.loop.advance(BODY_GRACE_S)
    assert client.wire.ended == "closed"


async def test_a_client_who_has_gone_when_it_is_refused_is_no_error(client: Client) -> None:
    def fail() -> None:
        raise OSError("not connected")

    client.wire.write_eof = fail  # type: ignore[method-assign]
    await refused(client, 3_000_000)


# --- a budget of bytes


@pytest.fixture
async def budgeted() -> Client:
    return Client(budget=BodyBudget(100))


def posting(length: int, body: bytes, path: bytes = b"/echo") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path, length, body)


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


# --- number


async def test_more_connections_than_may_be_are_closed_and_the_others_stay(client: Client) -> None:
    wires = [Wire(), Wire()]
    for wire in wires:
        client.connect(wire)
    assert [one.ended for one in (client.wire, *wires)] == ["", "", "aborted"]


# --- a doorman

REFUSED = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
ASKED = b"POST /full HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
BODY = b"\r\nbody"


def refuse_full(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    return REFUSED if target == b"/full" and (b"host", b"x") in headers else None


@pytest.fixture
async def guarded() -> Client:
    return Client(doorman=refuse_full)


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


async def test_a_doorman_who_fails_lets_everybody_in(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(doorman=lambda target, headers: bytes(1 // 0))
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


async def test_each_connection_has_a_state_of_its_own_that_its_requests_share(client: Client) -> None:
    other = client.connect(Wire())
    assert client.connection.app_state[CONNECTION] == {}
    assert client.connection.app_state[CONNECTION] is not other.app_state[CONNECTION]
