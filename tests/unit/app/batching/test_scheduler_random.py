"""Whatever happens, in whatever order: every submission is answered exactly once."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching.admission import QueueLimit
from app.batching.results import Submission
from app.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    EngineStalled,
    HooperError,
    OutOfMemory,
    Overloaded,
    Unavailable,
)
from app.core.sequences import SamplingParams
from app.core.types import Priority, Row
from tests.support.gated_engine import output_of, turn
from tests.support.generation_bench import BUDGET as GENERATION_BUDGET
from tests.support.generation_bench import GenerationBench, collect, generation_bench_of
from tests.support.scheduler_bench import BUDGET, Bench, Submit, bench_of, row
from tests.support.strict_event_loop import strict_loop
from tests.support.toy_engine import generated, prompt

Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["submit", "bulk", "pair", "poison", "expired"]), st.integers(1, 100)),
        st.tuples(
            st.sampled_from(["finish", "finish", "fail", "miscount", "nan", "stall", "full", "lose", "cancel", "turn"]),
            st.integers(0, 30),
        ),
        st.tuples(st.just("close"), st.integers(0, 1)),
    ),
    max_size=40,
)
POISON = 666
ENDS = {"stall": EngineStalled("late"), "full": OutOfMemory("full"), "lose": EngineLost("stuck")}


@pytest.mark.parametrize("num_parallel", [0, 2, 3])
@settings(max_examples=150, deadline=None)
@given(sequence=steps)
def test_whatever_happens_every_submission_is_answered_exactly_once(num_parallel: int, sequence: list[Step]) -> None:
    with asyncio.Runner(loop_factory=strict_loop) as runner:
        runner.run(_everything_at_once(sequence, num_parallel))


async def _everything_at_once(sequence: list[Step], num_parallel: int) -> None:
    async with bench_of(limit=QueueLimit(20, 600), num_parallel=num_parallel) as bench:
        crowd = Crowd(bench)
        for what, number in sequence:
            await crowd.step(what, number)
        for _ in range(2 * sum(len(rows) for _, rows in crowd.callers)):
            await crowd.step("finish", 0)
        assert not bench.scheduler.num_waiting_rows
        assert not any(engine.has_batch for engine in bench.engines)
        await bench.scheduler.aclose()
        await crowd.check()


class Crowd:
    """Many callers of one scheduler, driven step by step."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.callers: list[tuple[Submit, list[Row]]] = []
        self.answers: list[int] = []
        self.closing: list[asyncio.Task[None]] = []

    async def step(self, what: str, number: int) -> None:
        match what:
            case "submit" | "bulk" | "pair" | "poison" | "expired":
                await self.submit(what, number)
            case "cancel":
                for task, _ in self.callers[number : number + 1]:
                    task.cancel()
            case "close":
                self.closing.append(asyncio.create_task(self.bench.scheduler.aclose(3600 if number else 0)))
            case "turn":
                await turn()
            case _:
                await self.engine(what, number)

    async def submit(self, what: str, num_tokens: int) -> None:
        caller = len(self.callers)
        first = POISON if what == "poison" else caller + 1
        rows = [row(first, num_tokens)] * (2 if what in ("pair", "bulk") else 1)
        deadline = time.monotonic() - 1 if what == "expired" else None
        priority: Priority = "bulk" if what == "bulk" else "interactive"
        task = asyncio.create_task(self.bench.scheduler.submit(rows, deadline, priority))
        task.add_done_callback(lambda _: self.answers.append(caller))
        self.callers.append((task, rows))

    async def engine(self, what: str, number: int) -> None:
        await turn()
        ready = [engine for engine in self.bench.engines if engine.has_batch]
        if not ready:
            return
        batch = await ready[number % len(ready)].batch()
        num_tokens = sum(row.num_tokens for row in batch.rows)
        assert len(batch.rows) <= BUDGET.max_batch_rows
        assert len(batch.rows) == 1 or num_tokens <= BUDGET.max_batch_tokens
        if what == "fail" or POISON in batch.firsts:
            batch.fail(RuntimeError("boom"))
        elif what in ENDS:
            batch.fail(ENDS[what])
        elif what == "miscount":
            batch.finish([output_of(row(1))] * (len(batch.rows) + 1))
        elif what == "nan":
            batch.finish([EngineFailed("no finite numbers"), *map(output_of, batch.rows[1:])])
        else:
            batch.finish()
        await turn()

    async def check(self) -> None:
        await turn()
        assert all(entry.done() for entry in self.closing)
        assert all(task.done() for task, _ in self.callers)
        assert sorted(self.answers) == list(range(len(self.callers)))
        for task, rows in self.callers:
            with contextlib.suppress(asyncio.CancelledError, Unavailable, Overloaded, DeadlineExceeded):
                self.check_answer((await task).outputs, rows)

    def check_answer(self, outputs: object, rows: list[Row]) -> None:
        assert isinstance(outputs, list)
        assert len(outputs) == len(rows)
        for output, entry in zip(outputs, rows, strict=True):
            if isinstance(output, EngineFailed):
                continue
            assert entry.input_ids[0] != POISON
            assert np.array_equal(output["logits"], output_of(entry)["logits"])


# --- the same over an engine of many steps

generation_steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["generate", "pair", "bulk", "limited", "encode", "stream", "expired"]), st.integers(1, 6)),
        st.tuples(
            st.sampled_from(
                ["finish", "finish", "finish", "fail", "full", "stall", "miscount", "lose", "cancel", "leave", "turn"]
            ),
            st.integers(0, 12),
        ),
        st.tuples(st.just("close"), st.integers(0, 1)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(num_slots=st.integers(1, 4), sequence=generation_steps)
def test_whatever_happens_every_sequence_ends_once_and_every_slot_is_free_again(num_slots: int, sequence: list[Step]) -> None:
    with asyncio.Runner(loop_factory=strict_loop) as runner:
        runner.run(_generate_at_random(num_slots, sequence))


async def _generate_at_random(num_slots: int, sequence: list[Step]) -> None:
    async with generation_bench_of(num_slots) as bench:
        crowd = GenerationCrowd(bench)
        for what, number in sequence:
            await crowd.step(what, number)
            assert len(bench.engine.held) <= num_slots
        await turn()
        while bench.engine.has_batch:
            await crowd.step("finish", 0)
        assert not bench.scheduler.num_waiting_rows
        await bench.scheduler.aclose()
        await turn()
        crowd.check()
        if not bench.scheduler.has_died:
            assert bench.slots.num_free == num_slots
            assert not bench.engine.held


class GenerationCrowd:
    """Callers who wait or iterate, driven step by step."""

    def __init__(self, bench: GenerationBench) -> None:
        self.bench = bench
        self.submissions: list[Submission] = []
        self.expected: list[list[tuple[int, int]]] = []
        self.tasks: list[asyncio.Task[list[object]]] = []
        self.closing: list[asyncio.Task[None]] = []

    async def step(self, what: str, number: int) -> None:
        match what:
            case "cancel":
                for task in self.tasks[number : number + 1]:
                    task.cancel()
            case "leave":
                for submission in self.submissions[number : number + 1]:
                    submission.cancel()
            case "close":
                self.closing.append(asyncio.create_task(self.bench.scheduler.aclose(3600 if number else 0)))
            case "turn":
                await turn()
            case "finish" | "fail" | "full" | "stall" | "miscount" | "lose":
                await self.engine(what)
            case _:
                self.submit(what, number)

    def submit(self, what: str, num_steps: int) -> None:
        first = len(self.submissions) + 1
        rows = [prompt(first, num_steps)] * (2 if what in ("pair", "bulk") else 1)
        limit = 2 if what == "limited" else 1000
        sampling = None if what == "encode" else SamplingParams(limit)
        deadline = time.monotonic() - 1 if what == "expired" else None
        try:
            submission = self.bench.scheduler.start(rows, deadline, "bulk" if what == "bulk" else "interactive", sampling)
        except (Unavailable, Overloaded):
            return
        self.submissions.append(submission)
        self.expected.append([(first, step) for step in range(1, min(limit, num_steps) + 1)])
        self.tasks.append(asyncio.create_task(self.streamed(submission) if what == "stream" else self.awaited(submission)))

    async def awaited(self, submission: Submission) -> list[object]:
        return list((await submission.result()).outputs)

    async def streamed(self, submission: Submission) -> list[object]:
        steps = await collect(submission)
        if submission.future.cancelled():
            return []
        assert [step.is_last for step in steps] == [False] * (len(steps) - 1) + [True]
        errors = [step.output for step in steps if isinstance(step.output, HooperError)]
        return [errors[0] if errors else {"token": np.concatenate([step.output["token"] for step in steps])}]

    async def engine(self, what: str) -> None:
        await turn()
        if not self.bench.engine.has_batch:
            return
        batch = await self.bench.engine.batch()
        assert len(batch.rows) <= GENERATION_BUDGET.max_batch_rows
        if what == "finish":
            batch.finish()
        elif what == "miscount":
            batch.finish([])
        else:
            batch.fail({**ENDS, "fail": RuntimeError("boom")}[what])
        await turn()

    def check(self) -> None:
        assert all(task.done() for task in [*self.tasks, *self.closing])
        for task, expected in zip(self.tasks, self.expected, strict=True):
            if task.cancelled() or isinstance(task.exception(), (Unavailable, DeadlineExceeded)):
                continue
            for output in task.result():
                if isinstance(output, dict) and "token" in output:
                    assert generated(output) == expected
