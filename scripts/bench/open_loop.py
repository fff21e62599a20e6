"""A load whose callers do not wait for each other: requests leave at times drawn beforehand, whatever is answered by then.

Latency counts from those times, not from when it came to sending: a service that stalls is charged for all who would have
called meanwhile (no coordinated omission, see Tene, "How NOT to measure latency"). It is cheap, since it runs beside what it
measures: no task for each request, bytes made beforehand, and connections that are kept.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from itertools import cycle

from scripts.bench.connection import FAILED, Connection
from scripts.bench.load import Measured, Sample

MAX_CONNECTIONS = 512
FRESH_S = 4.0
"""Seconds that an idle connection is used after: the service closes it after five, and its request would be lost in between."""


async def open_loop(
    host: str,
    port: int,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    seed: int = 7,
    max_connections: int = MAX_CONNECTIONS,
    tick_s: float = 0.0,
) -> Measured:
    """Requests arrive at random at a mean rate a second; returns when all of them are answered.

    Those that find no connection free wait for one, and that counts as latency. So does `tick_s`: who is due within it leaves
    together, which costs the generator half as much where there are thousands.
    """
    loop = _OpenLoop(host, port, requests, arrivals(rate, seconds, seed), max_connections, tick_s)
    return Measured(await loop.run(), seconds)


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times within so many seconds, as those of independent callers are (a Poisson process)."""
    generator = random.Random(seed)
    times = []
    at = generator.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += generator.expovariate(rate)
    return times


class _OpenLoop:
    """Invariant: each arrival becomes one sample."""

    def __init__(
        self,
        host: str,
        port: int,
        requests: Sequence[bytes],
        times: Sequence[float],
        max_connections: int,
        tick_s: float,
    ) -> None:
        self._tick_s = tick_s
        self._host, self._port, self._coming, self._times = host, port, cycle(requests), times
        self._max_connections, self._num_open = max_connections, 0
        self._idle: list[tuple[float, Connection]] = []
        self._late: deque[float] = deque()
        self._samples: list[Sample] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self._num_arrived = 0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Sequence[Sample]:
        self._began = time.perf_counter()
        self._arrive()
        await self._over
        for _, connection in self._idle:
            connection.close()
        return self._samples

    def _arrive(self) -> None:
        """Send all that is due, and come back when the next is."""
        while self._num_arrived < len(self._times):
            intended = self._began + self._times[self._num_arrived]
            delay = intended - time.perf_counter()
            if delay > 0:
                asyncio.get_running_loop().call_later(max(delay, self._tick_s), self._arrive)
                return
            self._num_arrived += 1
            self._place(intended)
        self._end_if_over()

    def _place(self, intended: float) -> None:
        connection = self._pop_fresh()
        if connection is not None:
            self._send(connection, intended)
        elif self._num_open < self._max_connections:
            self._num_open += 1
            task = asyncio.create_task(self._open(intended))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._late.append(intended)

    def _pop_fresh(self) -> Connection | None:
        """The idle connection that was used last; all are closed where that is long ago, since the others' is longer."""
        if not self._idle:
            return None
        since, connection = self._idle.pop()
        if time.perf_counter() - since < FRESH_S:
            return connection
        for _, stale in [*self._idle, (since, connection)]:
            stale.close()
            self._num_open -= 1
        self._idle.clear()
        return None

    async def _open(self, intended: float) -> None:
        try:
            connection = await Connection.to(self._host, self._port)
        except OSError:
            self._ended(None, intended, FAILED)
        else:
            self._send(connection, intended)

    def _send(self, connection: Connection, intended: float) -> None:
        connection.send(next(self._coming), lambda status: self._ended(connection, intended, status))

    def _ended(self, connection: Connection | None, intended: float, status: int) -> None:
        now = time.perf_counter()
        wait_s = connection.retry_after_s if connection is not None and status not in (FAILED, 200) else None
        self._samples.append(Sample(now - intended, status, wait_s, intended - self._began))
        if connection is None or not status:
            self._num_open -= 1
            if self._late:
                self._place(self._late.popleft())
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._idle.append((now, connection))
        self._end_if_over()

    def _end_if_over(self) -> None:
        if len(self._samples) == len(self._times) and not self._over.done():
            self._over.set_result(None)
