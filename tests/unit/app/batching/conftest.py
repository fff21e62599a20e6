"""Schedulers that a test drives. Nothing here happens but on the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from app.batching import scheduler as scheduler_module
from tests.support.generation_bench import GenerationBench, generation_bench_of
from tests.support.scheduler_bench import Bench, bench_of
from tests.support.strict_event_loop import strict_loop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"impatient": strict_loop}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with bench_of() as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The scheduler's clock, moved by hand."""
    now = [time.monotonic()]
    monkeypatch.setattr(scheduler_module.time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


@pytest.fixture
def no_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers do not notice that their deadline passes: the scheduler comes across it first."""
    monkeypatch.setattr(scheduler_module.asyncio, "timeout", lambda _: contextlib.nullcontext())


@pytest.fixture
async def generation() -> AsyncIterator[GenerationBench]:
    async with generation_bench_of() as bench:
        yield bench
        if not bench.scheduler.has_died:
            await bench.scheduler.aclose()
            assert bench.slots.num_free == bench.slots.num_slots, "a slot was lost"
