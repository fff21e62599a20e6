"""Load on a service: closed loops, whose callers wait for each other's answers, and open ones, whose callers do not.

An open loop sends at times drawn beforehand and measures from those times, not from when it came to sending: a service that
stalls is charged for all who would have called meanwhile (no coordinated omission, see Tene, "How NOT to measure latency").
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from scripts.bench.connection import Connection

MAX_CONNECTIONS = 512
OK = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, as its caller saw it."""

    latency_s: float
    status: int


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load got."""

    samples: Sequence[Sample]
    seconds: float

    @property
    def throughput(self) -> float:
        """Good answers a second."""
        return sum(one.status == OK for one in self.samples) / self.seconds

    @property
    def statuses(self) -> dict[int, int]:
        return dict(Counter(one.status for one in self.samples))

    def goodput(self, objective_s: float) -> float:
        """Good answers a second that came within the objective."""
        return sum(one.status == OK and one.latency_s <= objective_s for one in self.samples) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Latency of good answers below which this share of them lies, in milliseconds; NaN where there is none."""
        latencies = sorted(one.latency_s for one in self.samples if one.status == OK)
        if not latencies:
            return float("nan")
        return 1000 * latencies[min(len(latencies) - 1, int(share * len(latencies)))]


async def closed_loop(
    host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> Measured:
    """Each connection sends its next request when the last one is answered; what ends in the warm-up is left out."""
    coming = cycle(requests)
    began = time.perf_counter()
    counted_from, until = began + warm_up_s, began + warm_up_s + seconds
    samples: list[Sample] = []

    async def call() -> None:
        connection = await Connection.to(host, port)
        while (sent := time.perf_counter()) < until:
            status = await connection.ask(next(coming))
            ended = time.perf_counter()
            if counted_from <= ended <= until:
                samples.append(Sample(ended - sent, status))
            if not status:
                connection = await Connection.to(host, port)
        connection.close()

    await asyncio.gather(*(call() for _ in range(connections)))
    return Measured(samples, seconds)


async def open_loop(host: str, port: int, requests: Sequence[bytes], rate: float, seconds: float, seed: int = 7) -> Measured:
    """Requests arrive at random at a mean rate a second, whatever has been answered by then."""
    generator = random.Random(seed)
    coming = cycle(requests)
    idle: list[Connection] = []
    slots = asyncio.Semaphore(MAX_CONNECTIONS)
    samples: list[Sample] = []

    async def call(request: bytes, intended: float) -> None:
        async with slots:
            connection = idle.pop() if idle else await Connection.to(host, port)
            status = await connection.ask(request)
            if status:
                idle.append(connection)
        samples.append(Sample(time.perf_counter() - intended, status))

    began = time.perf_counter()
    at = generator.expovariate(rate)
    async with asyncio.TaskGroup() as group:
        while at < seconds:
            delay = began + at - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            group.create_task(call(next(coming), began + at))
            at += generator.expovariate(rate)
    for connection in idle:
        connection.close()
    return Measured(samples, seconds)
