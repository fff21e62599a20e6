"""A scheduler over engines that the test drives, and its callers."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from app.batching import scheduler as scheduler_module
from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import Event, EventListener, RowsDropped, SubmissionResult
from app.batching.scheduler import Scheduler
from app.core.errors import (
    HooperError,
)
from app.core.types import Priority, Row
from tests.support.gated_engine import GatedEngine, turn

BUDGET = Budget(max_batch_tokens=100, max_batch_rows=8, layout="packed")
LIMIT = QueueLimit(max_rows=50, max_tokens=1000)
Submit = asyncio.Task[SubmissionResult]


def row(first: int, num_tokens: int = 10) -> Row:
    return Row([first] + [0] * (num_tokens - 1), [0] * num_tokens)


class Bench:
    """A scheduler over a gated engine."""

    def __init__(
        self, budget: Budget = BUDGET, limit: QueueLimit = LIMIT, listener: EventListener | None = None, num_parallel: int = 0
    ) -> None:
        self.engine = GatedEngine()
        self.parallel = [GatedEngine() for _ in range(num_parallel)]
        self.events: list[Event] = []
        self.scheduler = Scheduler(self.engine, budget, limit, listener or self.events.append, self.parallel)
        self._callers: list[Submit] = []

    @property
    def engines(self) -> list[GatedEngine]:
        return [self.engine, *self.parallel]

    async def submit(self, *rows: Row, deadline: float | None = None, priority: Priority = "interactive") -> Submit:
        """A caller whose rows have reached the queue."""
        task = asyncio.create_task(self.scheduler.submit(rows, deadline, priority))
        self._callers.append(task)
        await turn()
        return task

    async def aclose(self) -> None:
        await self.scheduler.aclose()
        await turn()
        assert all(caller.done() for caller in self._callers), "a caller was left waiting"
        await asyncio.gather(*self._callers, return_exceptions=True)

    async def occupy(self) -> tuple[Submit, Callable[[], None]]:
        """A caller in the engine, so that whoever comes next must wait; and what lets it go."""
        task = await self.submit(row(0))
        batch = await self.engine.batch()
        return task, batch.finish


@asynccontextmanager
async def bench_of(**options: object) -> AsyncIterator[Bench]:
    made = Bench(**options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.aclose()


def firsts(answered: SubmissionResult) -> list[int]:
    return [int(output["logits"][0]) for output in answered.outputs if not isinstance(output, HooperError)]


async def run_all(bench: Bench, callers: list[Submit], fails: Callable[[list[int]], Exception | None]) -> list[list[int]]:
    """Run batches until every caller is answered, with an engine that fails where `fails` says so; what it was given."""
    ran = []
    while not all(caller.done() for caller in callers):
        batch = await bench.engine.batch()
        ran.append(batch.firsts)
        error = fails(batch.firsts)
        batch.finish() if error is None else batch.fail(error)
        await turn()
    return ran


def dropped(bench: Bench) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for event in bench.events:
        if isinstance(event, RowsDropped):
            counted[event.reason] += event.num_rows
    return dict(counted)


def said_of_death(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """What whoever runs the service is told."""
    (told,) = [
        record for record in caplog.records if record.name == scheduler_module.__name__ and record.levelno == logging.CRITICAL
    ]
    return told
