"""Load is counted as its callers saw it, and a service that stalls is charged for it."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from scripts.bench.connection import FAILED, Connection, prepared
from scripts.bench.load import Measured, Sample, closed_loop
from scripts.bench.open_loop import open_loop

HOST = "127.0.0.1"
REQUEST = prepared(HOST, "/v1/classify", {"inputs": "gut, très bien"})


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
    one = Server(status)
    async with await asyncio.start_server(one.serve, HOST, 0) as listening:
        yield one, listening.sockets[0].getsockname()[1]


async def test_a_request_arrives_as_it_was_prepared_and_its_status_comes_back() -> None:
    async with server(lambda number: 200 if number == 1 else 429) as (one, port):
        connection = await Connection.to(HOST, port)
        assert [await connection.ask(REQUEST), await connection.ask(REQUEST)] == [200, 429]
        connection.close()
    assert one.bodies == [{"inputs": "gut, très bien"}] * 2
    assert one.num_connections == 1


async def test_a_broken_connection_fails_its_request_and_all_later_ones() -> None:
    async with server(lambda _: FAILED) as (_, port):
        connection = await Connection.to(HOST, port)
        assert [await connection.ask(REQUEST), await connection.ask(REQUEST)] == [FAILED, FAILED]


async def test_callers_of_a_closed_loop_wait_for_each_answer() -> None:
    async with server() as (one, port):
        measured = await closed_loop(HOST, port, [REQUEST], connections=3, seconds=0.05, warm_up_s=0.0)
    assert one.num_connections == 3
    assert measured.statuses == {200: len(measured.samples)}
    assert 0 <= len(one.bodies) - len(measured.samples) <= 3  # what was answered after the end is not counted


async def test_a_closed_loop_goes_on_after_a_broken_connection() -> None:
    async with server(lambda number: FAILED if number == 2 else 200) as (_, port):
        measured = await closed_loop(HOST, port, [REQUEST], connections=1, seconds=0.05, warm_up_s=0.0)
    assert measured.statuses[FAILED] == 1
    assert measured.statuses[200] > 1


async def test_an_open_loop_sends_at_its_rate_whatever_is_answered() -> None:
    async with server(lambda _: 503) as (one, port):
        measured = await open_loop(HOST, port, [REQUEST], rate=1000, seconds=0.2)
    assert len(one.bodies) == len(measured.samples)
    assert 120 < len(measured.samples) < 290
    assert measured.throughput == 0


def test_figures_are_of_good_answers_alone() -> None:
    good = [Sample(number / 1000, 200) for number in range(1, 101)]
    measured = Measured([*good, Sample(9.0, 429), Sample(9.0, FAILED)], seconds=10)
    assert measured.throughput == 10
    assert measured.goodput(0.05) == 5
    assert measured.percentile_ms(0.5) == pytest.approx(51)
    assert measured.percentile_ms(0.99) == pytest.approx(100)
    assert math.isnan(Measured([], 1).percentile_ms(0.5))
