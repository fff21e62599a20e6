"""A scheduler over an engine of many steps that the test drives, and its callers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import Event, StreamedStep, Submission
from app.batching.scheduler import Scheduler
from app.batching.watchdog import Watchdog
from app.core.sequences import Sampling, SamplingParams
from app.core.types import Priority, Row
from tests.support.gated_engine import turn
from tests.support.toy_engine import ToyEngine, ToySlots

BUDGET = Budget(max_batch_tokens=100, max_batch_rows=4, layout="padded")
LIMIT = QueueLimit(max_rows=50, max_tokens=1000)
MANY = SamplingParams(max_new_tokens=1000)


class GenerationBench:
    """A scheduler over an engine of many steps, and the submissions that it took."""

    def __init__(self, num_slots: int = 4, budget: Budget = BUDGET, step_s: float | None = None) -> None:
        self.engine, self.slots = ToyEngine(), ToySlots(num_slots)
        self.events: list[Event] = []
        engine = self.engine if step_s is None else Watchdog(self.engine, step_s)
        self.scheduler = Scheduler(engine, budget, LIMIT, self.events.append, slots=self.slots)
        self.callers: list[asyncio.Task[object]] = []

    async def start(
        self,
        *rows: Row,
        sampling: Sampling = MANY,
        deadline: float | None = None,
        priority: Priority = "interactive",
    ) -> Submission:
        """A submission whose caller has not asked for anything yet."""
        submission = self.scheduler.start(rows, deadline, priority, sampling)
        await turn()
        return submission

    async def call(self, *rows: Row, **options: object) -> asyncio.Task[list[object]]:
        """A caller who waits for the result."""
        submission = await self.start(*rows, **options)  # type: ignore[arg-type]

        async def outputs() -> list[object]:
            return list((await submission.result()).outputs)

        task = asyncio.create_task(outputs())
        self.callers.append(task)
        await turn()
        return task

    async def step(self) -> tuple[str, list[int]]:
        """Let the engine end one step: its phase, and the first token of each row."""
        batch = await self.engine.batch()
        batch.finish()
        await turn()
        return batch.batch.phase, batch.firsts

    async def aclose(self) -> None:
        await self.scheduler.aclose()
        await turn()
        assert all(task.done() for task in self.callers), "a caller was left waiting"
        await asyncio.gather(*self.callers, return_exceptions=True)


@contextlib.asynccontextmanager
async def generation_bench_of(
    num_slots: int = 4, budget: Budget = BUDGET, step_s: float | None = None
) -> AsyncIterator[GenerationBench]:
    bench = GenerationBench(num_slots, budget, step_s)
    try:
        yield bench
    finally:
        await bench.aclose()


async def collect(submission: Submission) -> list[StreamedStep]:
    return [step async for step in submission.stream()]
