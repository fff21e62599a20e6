"""What a load on a service got, and a load whose callers wait for each other's answers; `open_loop` has one whose do not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from scripts.bench.connection import Connection

OK = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, as its caller saw it."""

    latency_s: float
    status: int
    retry_after_s: float | None = None
    """What the answer asked its caller to wait."""
    at_s: float = 0.0
    """When it was to be sent, since an open loop began."""

    @property
    def ended_s(self) -> float:
        return self.at_s + self.latency_s


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
