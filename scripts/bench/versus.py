"""The service beside others on the same weights: asked in turns, since a machine's pace changes.

Whoever is not asked is stopped meanwhile (SIGSTOP): some servers keep a core busy while they wait.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from scripts.bench.connection import prepared
from scripts.bench.load import Measured, closed_loop
from scripts.bench.service import Address


@dataclass(frozen=True, slots=True)
class Contestant:
    """One server, and how it is asked about a text."""

    title: str
    address: Address
    path: str
    body: Callable[[str], object]
    processes: Callable[[], Sequence[int]] = tuple
    """Ids of its processes, so that they can be stopped while others are asked."""

    def requests(self, texts: Sequence[str]) -> list[bytes]:
        return [prepared(self.address.host, self.path, self.body(text)) for text in texts]


@dataclass(frozen=True, slots=True)
class Standing:
    """What one contestant reached under one load, one text a request."""

    profile: str
    connections: int
    title: str
    requests_per_s: float
    """Mean over the turns."""
    turns: Sequence[float]
    p50_ms: float
    """Median over the turns."""
    p99_ms: float
    failed: int


def stand(
    contestants: Sequence[Contestant], profile: str, texts: Sequence[str], connections: int, seconds: float, num_turns: int
) -> list[Standing]:
    """Each contestant in each turn; the first of a turn is another one each time."""
    measured: dict[str, list[Measured]] = {one.title: [] for one in contestants}
    for turn in range(num_turns):
        first = turn % len(contestants)
        for one in [*contestants[first:], *contestants[:first]]:
            with alone(one, contestants):
                measured[one.title].append(_ask(one, texts, connections, seconds))
    return [_standing(title, profile, connections, found) for title, found in measured.items()]


def ratio(standings: Sequence[Standing], one: str, other: str, profile: str, connections: int) -> tuple[float, float]:
    """Requests a second and p50 of one contestant, over those of another, under the same load."""
    a, b = (
        next(s for s in standings if (s.title, s.profile, s.connections) == (title, profile, connections))
        for title in (one, other)
    )
    return a.requests_per_s / b.requests_per_s, a.p50_ms / b.p50_ms


@contextmanager
def alone(one: Contestant, contestants: Sequence[Contestant]) -> Iterator[None]:
    """Only this one runs until the block ends."""
    stopped = [number for other in contestants if other is not one for number in other.processes()]
    for number in stopped:
        os.kill(number, signal.SIGSTOP)
    try:
        yield
    finally:
        for number in stopped:
            os.kill(number, signal.SIGCONT)


def descendants(number: int) -> list[int]:
    """A process with all that it started, as far as Linux tells."""
    file = Path(f"/proc/{number}/task/{number}/children")
    children = [int(one) for one in file.read_text(encoding="ascii").split()] if file.exists() else []
    return [number, *(found for child in children for found in descendants(child))]


def _ask(one: Contestant, texts: Sequence[str], connections: int, seconds: float) -> Measured:
    load = closed_loop(one.address.host, one.address.port, one.requests(texts), connections, seconds, seconds / 5)
    return asyncio.run(load)


def _standing(title: str, profile: str, connections: int, turns: Sequence[Measured]) -> Standing:
    rates = [round(one.throughput, 1) for one in turns]
    return Standing(
        profile=profile,
        connections=connections,
        title=title,
        requests_per_s=round(mean(rates), 1),
        turns=rates,
        p50_ms=round(median(one.percentile_ms(0.5) for one in turns), 2),
        p99_ms=round(median(one.percentile_ms(0.99) for one in turns), 2),
        failed=sum(count for one in turns for status, count in one.statuses.items() if status != 200),
    )
