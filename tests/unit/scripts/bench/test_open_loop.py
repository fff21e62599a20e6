"""Callers who do not wait: everyone is counted once, from the time at which they meant to call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count

from scripts.bench.connection import FAILED, prepared
from scripts.bench.open_loop import arrivals, open_loop

HOST = "127.0.0.1"
REQUEST = prepared(HOST, "/v1/classify", {"inputs": "a"})


async def at_once() -> None:
    """Nothing is waited for before the answer."""


@asynccontextmanager
async def server(answer: Callable[[int], bytes], when: Callable[[], Awaitable[object]] = at_once) -> AsyncIterator[int]:
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
    times = arrivals(1000, 2.0, seed=1)
    assert times == sorted(arrivals(1000, 2.0, seed=1)) != arrivals(1000, 2.0, seed=2)
    assert 1800 < len(times) < 2200
    assert 0 < times[0] < times[-1] < 2


async def test_who_finds_no_connection_free_waits_for_one_and_that_counts() -> None:
    released = asyncio.Event()

    async with server(lambda _: said(200), released.wait) as port:
        asyncio.get_running_loop().call_later(0.2, released.set)
        measured = await open_loop(HOST, port, [REQUEST], rate=500, seconds=0.1, max_connections=1)
    assert measured.statuses == {200: len(measured.samples)}
    assert len(measured.samples) > 20
    for one in measured.samples:  # all were meant for the first tenth of a second, and nobody was answered before the second
        assert one.at_s < 0.1
        assert one.ended_s > 0.19


async def test_a_refusal_is_kept_with_what_it_asks_its_caller_to_wait() -> None:
    async with server(lambda number: said(429, "Retry-After: 3\r\n") if number % 2 else said(200)) as port:
        measured = await open_loop(HOST, port, [REQUEST], rate=500, seconds=0.1)
    assert {(one.status, one.retry_after_s) for one in measured.samples} == {(429, 3.0), (200, None)}


async def test_who_is_hung_up_on_failed_and_the_others_go_on() -> None:
    async with server(lambda number: b"" if number == 3 else said(200)) as port:
        measured = await open_loop(HOST, port, [REQUEST], rate=500, seconds=0.1, max_connections=1)
    assert measured.statuses[FAILED] == 1
    assert measured.statuses[200] == len(measured.samples) - 1 > 10


async def test_nobody_who_listens_fails_everyone() -> None:
    async with server(lambda _: said(200)) as port:
        pass
    measured = await open_loop(HOST, port, [REQUEST], rate=500, seconds=0.05)
    assert set(measured.statuses) == {FAILED}
