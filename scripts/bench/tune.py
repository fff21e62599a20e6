"""`hooper bench --tune`: the settings with which this machine answers most, found by trying them on real services.

One setting after the other, each value against the best so far: both services are up, and are asked in turns. A value must be
better by more than a shared machine's noise to be taken: settings stay at their defaults where nothing speaks for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import mean

from scripts.bench.load import measure_closed_loop
from scripts.bench.service import start_service

MARGIN = 1.03
"""So many times the best so far must a value reach."""
CONNECTIONS = 32

Settings = Mapping[str, str]
CompareSettings = Callable[[Settings, Settings], tuple[float, float]]
"""From the settings of two services to the requests a second of each, measured in turns."""


@dataclass(frozen=True, slots=True)
class SettingTrial:
    """One value of a setting against the best so far, which was measured in the same minutes."""

    setting: str
    value: str
    requests_per_s: float
    best_per_s: float

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


def tune(values: Mapping[str, Sequence[str]], compare: CompareSettings) -> Iterator[tuple[SettingTrial, Settings]]:
    """Every trial as it ends, with the best settings so far: those that differ from the defaults."""
    best: dict[str, str] = {}
    for setting, candidates in values.items():
        for value in candidates:
            challenger, champion = compare({**best, setting: value}, best)
            trial = SettingTrial(setting, value, challenger, champion)
            if trial.is_better:
                best = {**best, setting: value}
            yield trial, best


def compare_services(base: Settings, requests: Sequence[bytes], seconds: float, num_turns: int) -> CompareSettings:
    """Two real services with the settings `base` besides, both up, asked in turns of so many seconds."""

    def compare(challenger: Settings, champion: Settings) -> tuple[float, float]:
        with ExitStack() as stack:
            services = [stack.enter_context(start_service({**base, **settings})) for settings in (challenger, champion)]
            rates: list[list[float]] = [[], []]
            for turn in range(num_turns):
                for index in (0, 1) if turn % 2 else (1, 0):
                    result = measure_closed_loop(services[index].address, requests, CONNECTIONS, seconds)
                    rates[index].append(result.requests_per_s)
        return mean(rates[0]), mean(rates[1])

    return compare


def as_env_file(settings: Settings, machine: str) -> str:
    """Lines for `docker --env-file`, or for a shell."""
    lines = [f"{name}={value}" for name, value in settings.items()]
    return "\n".join([f"# found by `hooper bench --tune` on {machine}", *(lines or ["# the defaults are best here"]), ""])
