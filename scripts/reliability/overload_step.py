"""One step of an overload: a load, what became of it, and what the queue limit promises."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench.load import Measured, Sample
from scripts.bench.service import Address
from scripts.reliability.generator import Generator, Load, cpu_seconds
from scripts.reliability.health import watched

MAX_RETRY_S = 60
OK, TURNED_AWAY = 200, 429
QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}


@dataclass(frozen=True, slots=True)
class Limits:
    """What may wait, and what a batch may hold."""

    waiting_rows: int
    waiting_tokens: int
    batch_rows: int
    batch_tokens: int

    def bound_s(self, rows_per_s: float, tokens_per_row: float) -> float:
        """Seconds within which an accepted request is answered at this drain rate: whichever limit is met first."""
        rows = (self.waiting_rows + 2 * self.batch_rows) / rows_per_s
        tokens = (self.waiting_tokens + 2 * self.batch_tokens) / (rows_per_s * tokens_per_row)
        return min(rows, tokens)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the service can do. Each text is one row."""

    requests_per_s: float
    texts_per_request: int
    tokens_per_row: float

    @property
    def rows_per_s(self) -> float:
        return self.requests_per_s * self.texts_per_request


@dataclass(frozen=True, slots=True)
class Drained:
    """What the engine has worked off since the service started."""

    rows: float
    tokens: float

    @classmethod
    def of(cls, address: Address) -> Drained:
        return cls(*(_total(address.text("/metrics"), f"hooper_batch_{what}_sum") for what in ("rows", "tokens")))

    @property
    def tokens_per_row(self) -> float:
        return self.tokens / max(self.rows, 1)


@dataclass(frozen=True, slots=True)
class Bench:
    """What all steps have in common."""

    address: Address
    pid: int
    generator: Generator
    requests: Sequence[bytes]
    seconds: float
    limits: Limits
    capacity: Capacity

    def bound_s(self, requests_per_s: float) -> float:
        """That of `Limits`, with so many requests drained a second."""
        return self.limits.bound_s(requests_per_s * self.capacity.texts_per_request, self.capacity.tokens_per_row)


def take(bench: Bench, times: float) -> dict[str, Any]:
    """Offer so many times the capacity.

    Nothing counts as goodput until the load has gone on for as long as the queue may take to fill, or what the queue took up
    would be a part of it; nor does what was worked off when nothing came any more.
    """
    capacity = bench.capacity.requests_per_s
    rate, began, warm_up_s = times * capacity, cpu_seconds(bench.pid), bench.bound_s(capacity)
    print(f"{times:g} times the capacity: {rate:.0f} requests/s", file=sys.stderr)
    load = Load(bench.address, bench.requests, warm_up_s + bench.seconds)
    with watched(bench.address) as health:
        measured, client_s = bench.generator.open(load, rate)
    steady = [one for one in measured.samples if one.status == OK and warm_up_s < one.ended_s <= load.seconds]
    drained_per_s = min(capacity, len(steady) / bench.seconds) if times >= 1 else capacity
    bound_s = bench.bound_s(max(drained_per_s, 1e-3))
    return {
        "times": times,
        "offered_per_s": round(len(measured.samples) / load.seconds, 1),
        **counts(measured),
        "bound_ms": round(1000 * bound_s, 1),
        "answered_later": sum(one.status == OK and one.latency_s > bound_s for one in measured.samples),
        "goodput_per_s": round(sum(one.latency_s <= bound_s for one in steady) / bench.seconds, 1),
        **{name: round(measured.percentile_ms(share), 1) for name, share in QUANTILES.items()},
        "generator_cpu_s": round(client_s, 1),
        "service_cpu_s": round(cpu_seconds(bench.pid) - began, 1),
        "health": health.told(),
    }


def counts(measured: Measured) -> dict[str, Any]:
    """How many of what."""
    count = measured.statuses
    away: Sequence[Sample] = [one for one in measured.samples if one.status == TURNED_AWAY]
    waits = [one.retry_after_s for one in away if one.retry_after_s is not None]
    return {
        "offered": len(measured.samples),
        "answered": count.get(OK, 0),
        "turned_away": len(away),
        "others": len(measured.samples) - count.get(OK, 0) - len(away),
        "statuses": {str(status): number for status, number in sorted(count.items())},
        "retry_after_s": {f"{wait:g}": waits.count(wait) for wait in sorted(set(waits))},
        "without_plausible_retry_after": len(away) - sum(1 <= one <= MAX_RETRY_S for one in waits),
    }


def _total(exposition: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in exposition.splitlines() if line.startswith(name + "{"))
