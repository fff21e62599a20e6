"""`hooper bench --tune`: the settings with which this machine answers most, found by trying them on real services.

One setting after the other, each value against the best so far: both services are up, and are asked in turns. A value must be
better by more than a shared machine's noise to be taken: settings stay at their defaults where nothing speaks for others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import mean

from scripts.bench.load import closed_loop
from scripts.bench.service import Address, started

MARGIN = 1.03
"""So many times the best so far must a value reach."""
CONNECTIONS = 32

Settings = Mapping[str, str]
Measure = Callable[[Settings, Settings], tuple[float, float]]
"""From the settings of two services to the requests a second of each, measured in turns."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One value against the best so far."""

    setting: str
    value: str
    requests_per_s: float
    best_per_s: float
    """What the best so far reached beside it."""

    @property
    def ratio(self) -> float:
        if not self.best_per_s:
            return float("inf") if self.requests_per_s else 1.0
        return self.requests_per_s / self.best_per_s

    @property
    def is_better(self) -> bool:
        return self.ratio > MARGIN

    def __str__(self) -> str:
        return f"{self.setting}={self.value}: {self.ratio:.2f} of the best so far{', taken' if self.is_better else ''}"


def choices(num_cores: int) -> dict[str, list[str]]:
    """Values to try, by setting; those that most depends on first. Front ends need cores of their own."""
    streams = sorted({1, 2, max(1, num_cores // 2), num_cores})
    threads = sorted({max(1, num_cores - 1), max(1, num_cores // 2)} - {num_cores}, reverse=True)
    return {
        "HOOPER_MAX_BATCH_TOKENS": ["512", "2048", "4096", "8192"],
        "HOOPER_MAX_BATCH_ROWS": ["32", "128", "256"],
        "HOOPER_ENGINE_THREADS": [str(number) for number in threads],
        "HOOPER_ENGINE_STREAMS": [str(number) for number in streams if number <= num_cores],
        "HOOPER_FRONT_ENDS": [str(number) for number in (2, 4, 8) if number <= num_cores // 2],
    }


def tune(values: Mapping[str, Sequence[str]], measure: Measure) -> Iterator[tuple[Trial, Settings]]:
    """Every trial as it ends, with the best settings so far: those that differ from the defaults."""
    best: dict[str, str] = {}
    for setting, tried in values.items():
        for value in tried:
            challenger, champion = measure({**best, setting: value}, best)
            trial = Trial(setting, value, challenger, champion)
            if trial.is_better:
                best = {**best, setting: value}
            yield trial, best


def measure_services(base: Settings, requests: Callable[[Address], Sequence[bytes]], seconds: float, num_turns: int) -> Measure:
    """Two real services, both up, asked over `CONNECTIONS` connections in turns of so many seconds.

    Args:
        base: settings of both.
        requests: prepared for an address.
        seconds: of each turn, a fifth of it to warm up besides.
        num_turns: of each service.
    """

    def measure(one: Settings, other: Settings) -> tuple[float, float]:
        with ExitStack() as stack:
            addresses = [stack.enter_context(started({**base, **settings})) for settings in (one, other)]
            rates: list[list[float]] = [[], []]
            for turn in range(num_turns):
                for index in (0, 1) if turn % 2 else (1, 0):
                    rates[index].append(_throughput(addresses[index], requests, seconds))
        return mean(rates[0]), mean(rates[1])

    return measure


def _throughput(address: Address, requests: Callable[[Address], Sequence[bytes]], seconds: float) -> float:
    load = closed_loop(address.host, address.port, requests(address), CONNECTIONS, seconds, seconds / 5)
    return asyncio.run(load).throughput


def as_env_file(settings: Settings, machine: str) -> str:
    """Lines for `docker --env-file`, or for a shell."""
    lines = [f"{name}={value}" for name, value in settings.items()]
    return "\n".join([f"# found by `hooper bench --tune` on {machine}", *(lines or ["# the defaults are best here"]), ""])
