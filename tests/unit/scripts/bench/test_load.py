"""Load is counted as its callers saw it, and a service that stalls is charged for it."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

import pytest

from scripts.bench.load import (
    FAILED,
    LoadConnection,
    LoadResult,
    Sample,
    arrival_times,
    closed_loop,
    open_loop,
    prepared_request,
    text_requests,
    whole_answer_status,
)
from scripts.bench.service import Address

HOST = "127.0.0.1"
REQUEST = prepared_request(HOST, "/v1/classify", {"inputs": "gut, très bien"})


class Server:
    """Answers each request with the next status, or hangs up where it is `FAILED`; remembers the bodies."""

    def __init__(self, status: Callable[[int], int]) -> None:
        self.bodies: list[object] = []
        self.num_connections = 0
        self._status = status

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(json.loads(await reader.readexactly(length)))
                status = self._status(len(self.bodies))
                if status == FAILED:
                    break
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        except asyncio.IncompleteReadError:
            pass  # the client has left
        finally:
            writer.close()


@asynccontextmanager
async def server(status: Callable[[int], int] = lambda _: 200) -> AsyncIterator[tuple[Server, int]]:
    answering = Server(status)
    async with await asyncio.start_server(answering.serve, HOST, 0) as listening:
        yield answering, listening.sockets[0].getsockname()[1]


async def test_a_request_arrives_as_it_was_prepared_and_its_status_comes_back() -> None:
    async with server(lambda number: 200 if number == 1 else 429) as (answering, port):
        connection = await LoadConnection.open(Address(HOST, port))
        assert [await connection.ask(REQUEST), await connection.ask(REQUEST)] == [200, 429]
        connection.close()
    assert answering.bodies == [{"inputs": "gut, très bien"}] * 2
    assert answering.num_connections == 1


async def test_a_broken_connection_fails_its_request_and_all_later_ones() -> None:
    async with server(lambda _: FAILED) as (_, port):
        connection = await LoadConnection.open(Address(HOST, port))
        assert [await connection.ask(REQUEST), await connection.ask(REQUEST)] == [FAILED, FAILED]


@pytest.fixture
def _a_slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at it is a millisecond after the one before: how busy the machine is plays no part."""
    ticks = count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)


@pytest.mark.usefixtures("_a_slow_clock")
async def test_callers_of_a_closed_loop_wait_for_each_answer() -> None:
    async with server() as (answering, port):
        measured = await closed_loop(Address(HOST, port), [REQUEST], connections=3, seconds=0.05, warm_up_s=0.0)
    assert answering.num_connections == 3
    assert measured.statuses == {200: len(measured.samples)}
    assert 0 <= len(answering.bodies) - len(measured.samples) <= 3  # what was answered after the end is not counted


@pytest.mark.usefixtures("_a_slow_clock")
async def test_a_closed_loop_goes_on_after_a_broken_connection() -> None:
    async with server(lambda number: FAILED if number == 2 else 200) as (_, port):
        measured = await closed_loop(Address(HOST, port), [REQUEST], connections=1, seconds=0.05, warm_up_s=0.0)
    assert measured.statuses[FAILED] == 1
    assert measured.statuses[200] > 1


async def test_an_open_loop_sends_at_its_rate_whatever_is_answered() -> None:
    async with server(lambda _: 503) as (answering, port):
        measured = await open_loop(Address(HOST, port), [REQUEST], rate=1000, seconds=0.2)
    assert len(answering.bodies) == len(measured.samples)
    assert 120 < len(measured.samples) < 290
    assert measured.requests_per_s == 0


def test_figures_are_of_good_answers_alone() -> None:
    good = [Sample(number / 1000, 200) for number in range(1, 101)]
    measured = LoadResult([*good, Sample(9.0, 429), Sample(9.0, FAILED)], seconds=10)
    assert measured.requests_per_s == 10
    assert measured.goodput(0.05) == 5
    assert measured.percentile_ms(0.5) == pytest.approx(51)
    assert measured.percentile_ms(0.99) == pytest.approx(100)
    assert math.isnan(LoadResult([], 1).percentile_ms(0.5))


def test_texts_go_into_requests_as_many_as_asked_for() -> None:
    assert [request.rpartition(b"\r\n\r\n")[2] for request in text_requests("/x", ["a", "b", "c"], 2, model="m")] == [
        b'{"model": "m", "inputs": ["a", "b"]}'
    ]
    assert text_requests("/x", ["a"])[0].endswith(b'{"inputs": "a"}')


HEAD = b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (HEAD + b"content-length: 4\r\nretry-after: 1\r\n\r\nbody", 429),
        (HEAD + b"content-length: 0\r\n\r\n", 429),
        (HEAD + b"content-length: 4\r\n\r\nbod", None),
        (HEAD + b"content-length: 4\r\n\r\nbody and more", None),
        (HEAD + b"content-length: 4\r\n", None),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nbody", None),
        (HEAD + b"content-length: x\r\n\r\nbody", None),
        (b"HTTP/2 200\r\ncontent-length: 0\r\n\r\n", None),
        (b"", None),
    ],
)
def test_an_answer_is_whole_where_its_length_says_so(data: bytes, status: int | None) -> None:
    assert whole_answer_status(data) == status


# --- an open loop


async def at_once() -> None:
    """Nothing is waited for before the answer."""


@asynccontextmanager
async def slow_server(answer: Callable[[int], bytes], when: Callable[[], Awaitable[object]] = at_once) -> AsyncIterator[int]:
    """Answers the nth request so and then, and hangs up on one without an answer; gives its port."""
    numbers = count(1)
    conversations = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversations.append(asyncio.current_task())
        with suppress(asyncio.IncompleteReadError):
            while True:
                await reader.readexactly(len(REQUEST))
                await when()
                said = answer(next(numbers))
                if not said:
                    break
                writer.write(said)
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as listening:
        yield listening.sockets[0].getsockname()[1]
        await asyncio.gather(*conversations)


def said(status: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status} x\r\n{more}Content-Length: 0\r\n\r\n".encode()


def test_arrivals_are_the_same_for_the_same_seed_and_come_at_the_mean_rate() -> None:
    times = arrival_times(1000, 2.0, seed=1)
    assert times == sorted(arrival_times(1000, 2.0, seed=1)) != arrival_times(1000, 2.0, seed=2)
    assert 1800 < len(times) < 2200
    assert 0 < times[0] < times[-1] < 2


async def test_who_finds_no_connection_free_waits_for_one_and_that_counts() -> None:
    released = asyncio.Event()

    async with slow_server(lambda _: said(200), released.wait) as port:
        asyncio.get_running_loop().call_later(0.2, released.set)
        measured = await open_loop(Address(HOST, port), [REQUEST], rate=500, seconds=0.1, max_connections=1)
    assert measured.statuses == {200: len(measured.samples)}
    assert len(measured.samples) > 20
    for sample in measured.samples:  # all were meant for the first tenth of a second, and nobody was answered before the second
        assert sample.at_s < 0.1
        assert sample.ended_s > 0.19


async def test_a_refusal_is_kept_with_what_it_asks_its_caller_to_wait() -> None:
    async with slow_server(lambda number: said(429, "Retry-After: 3\r\n") if number % 2 else said(200)) as port:
        measured = await open_loop(Address(HOST, port), [REQUEST], rate=500, seconds=0.1)
    assert {(sample.status, sample.retry_after_s) for sample in measured.samples} == {(429, 3.0), (200, None)}


async def test_who_is_hung_up_on_failed_and_the_others_go_on() -> None:
    async with slow_server(lambda number: b"" if number == 3 else said(200)) as port:
        measured = await open_loop(Address(HOST, port), [REQUEST], rate=500, seconds=0.1, max_connections=1)
    assert measured.statuses[FAILED] == 1
    assert measured.statuses[200] == len(measured.samples) - 1 > 10


async def test_nobody_who_listens_fails_everyone() -> None:
    async with slow_server(lambda _: said(200)) as port:
        pass
    measured = await open_loop(Address(HOST, port), [REQUEST], rate=500, seconds=0.05)
    assert set(measured.statuses) == {FAILED}
