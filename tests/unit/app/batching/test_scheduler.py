"""The scheduler: every accepted row is answered exactly once, whatever happens to the engine, the loop or the caller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching import scheduler as scheduler_module
from app.batching.admission import QueueLimit
from app.batching.events import BatchFailed, BatchRan, Event, RowsDropped, Tell
from app.batching.memory import GOOD_BATCHES
from app.batching.policy import BULK_PATIENCE, Budget
from app.batching.queue import DEADLINE_PASSED
from app.batching.scheduler import Scheduler, SubmissionResult
from app.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    EngineStalled,
    HooperError,
    OutOfMemory,
    Overloaded,
    TooLarge,
    Unavailable,
)
from app.core.types import Priority, Row
from tests.support.gated_engine import GatedEngine, output_of, turn
from tests.support.strict_event_loop import impatient_loop

BUDGET = Budget(max_batch_tokens=100, max_batch_rows=8, layout="packed")
LIMIT = QueueLimit(max_rows=50, max_tokens=1000)
Submit = asyncio.Task[SubmissionResult]


def row(first: int, num_tokens: int = 10) -> Row:
    return Row([first] + [0] * (num_tokens - 1), [0] * num_tokens)


class Bench:
    """A scheduler over a gated engine."""

    def __init__(
        self, budget: Budget = BUDGET, limit: QueueLimit = LIMIT, tell: Tell | None = None, num_beside: int = 0
    ) -> None:
        self.engine = GatedEngine()
        self.beside = [GatedEngine() for _ in range(num_beside)]
        self.events: list[Event] = []
        self.scheduler = Scheduler(self.engine, budget, limit, tell or self.events.append, self.beside)
        self._callers: list[Submit] = []

    @property
    def engines(self) -> list[GatedEngine]:
        return [self.engine, *self.beside]

    async def submit(self, *rows: Row, deadline: float | None = None, priority: Priority = "interactive") -> Submit:
        """A caller whose rows have reached the queue."""
        task = asyncio.create_task(self.scheduler.submit(rows, deadline, priority))
        self._callers.append(task)
        await turn()
        return task

    async def aclose(self) -> None:
        await self.scheduler.aclose()
        await turn()
        assert all(one.done() for one in self._callers), "a caller was left waiting"
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


def firsts(answered: SubmissionResult) -> list[int]:
    return [int(output["logits"][0]) for output in answered.outputs if not isinstance(output, HooperError)]


# --- who runs together


async def test_a_lone_row_runs_at_once(bench: Bench) -> None:
    caller = await bench.submit(row(1))
    (await bench.engine.batch()).finish()
    assert firsts(await caller) == [1]


async def test_arrivals_during_a_batch_become_the_next_batch(bench: Bench) -> None:
    first, release = await bench.occupy()
    others = [await bench.submit(row(number)) for number in (1, 2, 3)]
    assert not bench.engine.has_batch
    release()
    batch = await bench.engine.batch()
    assert batch.firsts == [1, 2, 3]
    batch.finish()
    assert [firsts(await one) for one in (first, *others)] == [[0], [1], [2], [3]]


async def test_the_rows_of_a_batch_are_told_to_each_of_its_callers(bench: Bench) -> None:
    first, release = await bench.occupy()
    others = [await bench.submit(row(number)) for number in (1, 2, 3)]
    release()
    (await bench.engine.batch()).finish()
    assert [(await one).batch_rows for one in (first, *others)] == [1, 3, 3, 3]
    assert [(await one).batch_tokens for one in (first, *others)] == [10, 30, 30, 30]


async def test_the_engine_gets_one_batch_at_a_time(bench: Bench) -> None:
    callers = [await bench.submit(row(number, 100)) for number in range(5)]
    for number in range(5):
        batch = await bench.engine.batch()
        await turn()
        assert not bench.engine.has_batch
        assert batch.firsts == [number]
        batch.finish()
    await asyncio.gather(*callers)


async def test_rows_of_one_request_run_over_several_batches_and_come_back_in_order(bench: Bench) -> None:
    caller = await bench.submit(*[row(number, 40) for number in range(5)])
    sizes = []
    while not caller.done():
        batch = await bench.engine.batch()
        sizes.append(len(batch.rows))
        batch.finish(inference_s=0.5)
        await turn()
    answered = await caller
    assert sizes == [2, 2, 1]
    assert firsts(answered) == [0, 1, 2, 3, 4]
    assert answered.inference_s == pytest.approx(1.5)
    assert answered.batch_rows == 2
    assert answered.batch_tokens == 80


async def test_a_long_row_is_not_starved_by_a_flood_of_short_ones(bench: Bench) -> None:
    _, release = await bench.occupy()
    short = [await bench.submit(row(number, 60)) for number in range(1, 4)]
    long = await bench.submit(row(99, 100))
    release()
    for number in range(100, 110):  # somebody new with a short row is there before every batch
        short.append(await bench.submit(row(number, 10)))
        batch = await bench.engine.batch()
        batch.finish()
        await turn()
        if 99 in batch.firsts:
            break
    assert long.done()
    assert number < 104


async def test_a_row_passed_over_keeps_its_place(bench: Bench) -> None:
    _, release = await bench.occupy()
    for first, length in ((1, 60), (2, 70), (3, 40), (4, 5)):
        await bench.submit(row(first, length))
    release()
    one = await bench.engine.batch()
    assert one.firsts == [1, 3]
    one.finish()
    assert (await bench.engine.batch()).firsts == [2, 4]


async def test_rows_passed_over_together_keep_their_order(bench: Bench) -> None:
    _, release = await bench.occupy()
    for first, length in ((1, 60), (2, 41), (3, 42), (4, 40)):
        await bench.submit(row(first, length))
    release()
    one = await bench.engine.batch()
    assert one.firsts == [1, 4]
    one.finish()
    assert (await bench.engine.batch()).firsts == [2, 3]


async def test_what_ran_is_told_with_rows_tokens_and_time(bench: Bench) -> None:
    await bench.submit(row(1, 7), row(2, 5))
    (await bench.engine.batch()).finish(inference_s=0.25)
    await turn()
    assert bench.events == [BatchRan(num_rows=2, num_tokens=12, num_computed_tokens=12, inference_s=0.25)]


async def test_the_time_in_the_queue_ends_when_the_first_row_reaches_the_engine(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    caller = await bench.submit(row(1, 100), row(2, 100))
    clock[0] += 3.0
    release()
    batch = await bench.engine.batch()
    clock[0] += 5.0
    batch.finish()
    (await bench.engine.batch()).finish()
    assert (await caller).queue_s == pytest.approx(3.0)


async def test_rows_that_wait_are_counted(bench: Bench) -> None:
    _, release = await bench.occupy()
    await bench.submit(row(1), row(2))
    assert bench.scheduler.num_waiting_rows == 2
    release()
    await bench.engine.batch()
    assert bench.scheduler.num_waiting_rows == 0


# --- the bulk lane


async def test_interactive_rows_run_before_bulk_rows_that_came_first(bench: Bench) -> None:
    _, release = await bench.occupy()
    await bench.submit(row(1, 60), row(2, 30), priority="bulk")
    await bench.submit(row(3, 40), row(4, 20))
    release()
    batch = await bench.engine.batch()
    assert batch.firsts == [3, 4, 2]  # the bulk row that fits into what they leave rides along
    batch.finish()
    assert (await bench.engine.batch()).firsts == [1]


async def test_bulk_rows_run_at_once_while_nothing_interactive_waits(bench: Bench) -> None:
    caller = await bench.submit(row(1), row(2), priority="bulk")
    (await bench.engine.batch()).finish()
    assert firsts(await caller) == [1, 2]


@pytest.mark.parametrize("num_riders", [0, 1], ids=["alone", "while younger bulk rows ride along"])
async def test_the_oldest_bulk_row_is_passed_over_only_so_often(bench: Bench, num_riders: int) -> None:
    _, finish = await bench.occupy()
    waits = await bench.submit(row(99, 100), priority="bulk")
    for number in range(1, BULK_PATIENCE + 1):  # somebody interactive is there before every batch
        await bench.submit(row(number, 90))
        for _ in range(num_riders):
            await bench.submit(row(200 + number), priority="bulk")
        finish()
        batch = await bench.engine.batch()
        assert batch.firsts == [number, *[200 + number] * num_riders]
        finish = batch.finish
    await bench.submit(row(100, 90))
    finish()
    batch = await bench.engine.batch()
    assert batch.firsts == [99]
    batch.finish()
    assert firsts(await waits) == [99]
    assert (await bench.engine.batch()).firsts == [100]  # and then it is the others' turn again


async def test_patience_begins_anew_for_each_oldest_bulk_row(bench: Bench) -> None:
    _, finish = await bench.occupy()
    await bench.submit(row(98, 100), row(99, 100), priority="bulk")
    ran = []
    for number in range(1, 2 * BULK_PATIENCE + 3):
        await bench.submit(row(number, 90))
        finish()
        batch = await bench.engine.batch()
        ran += batch.firsts
        finish = batch.finish
    assert (ran.index(98), ran.index(99)) == (BULK_PATIENCE, 2 * BULK_PATIENCE + 1)


async def test_bulk_rows_are_turned_away_while_there_is_still_room_for_interactive_ones(bench: Bench) -> None:
    await bench.occupy()
    await bench.submit(*[row(1)] * (LIMIT.max_rows // 2), priority="bulk")
    with pytest.raises(Overloaded):
        bench.scheduler.check_open("bulk")
    with pytest.raises(Overloaded):
        await bench.scheduler.submit([row(2)], priority="bulk")
    bench.scheduler.check_open()
    await bench.submit(*[row(3)] * (LIMIT.max_rows // 2))
    with pytest.raises(Overloaded):
        await bench.scheduler.submit([row(4)])


async def test_interactive_rows_take_up_the_room_of_bulk_ones(bench: Bench) -> None:
    await bench.occupy()
    await bench.submit(*[row(1)] * (LIMIT.max_rows // 2))
    with pytest.raises(Overloaded):
        await bench.scheduler.submit([row(2)], priority="bulk")


async def test_a_bulk_request_that_could_never_be_accepted_is_too_large(bench: Bench) -> None:
    with pytest.raises(TooLarge, match="at most 25 rows and 500 tokens may wait"):
        await bench.scheduler.submit([row(1, 1)] * 26, priority="bulk")


async def test_bulk_rows_have_deadlines_and_callers_who_leave(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    gone = await bench.submit(row(1), priority="bulk")
    late = await bench.submit(row(2), deadline=clock[0] + 60, priority="bulk")
    stays = await bench.submit(row(3), priority="bulk")
    gone.cancel()
    await turn()
    assert bench.scheduler.num_waiting_rows == 2
    clock[0] += 60
    release()
    batch = await bench.engine.batch()
    assert batch.firsts == [3]
    batch.finish()
    assert firsts(await stays) == [3]
    with pytest.raises(DeadlineExceeded):
        await late


async def test_closing_finishes_bulk_rows_too(bench: Bench) -> None:
    _, release = await bench.occupy()
    waiting = await bench.submit(row(1), priority="bulk")
    closing = asyncio.create_task(bench.scheduler.aclose(drain_s=3600))
    release()
    (await bench.engine.batch()).finish()
    await closing
    assert firsts(await waiting) == [1]


async def test_when_the_loop_dies_bulk_callers_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async with bench_of(tell=lambda _: 1 / 0) as bench:
        _, release = await bench.occupy()
        waiting = await bench.submit(row(1), priority="bulk")
        release()
        with pytest.raises(Unavailable, match=r"^the engine is down$"):
            await waiting


# --- the engine fails


async def test_when_a_batch_raises_only_the_bad_row_fails(bench: Bench) -> None:
    _, release = await bench.occupy()
    callers = [await bench.submit(row(number)) for number in (1, 2, 666, 4, 5)]
    release()
    while not all(one.done() for one in callers):
        batch = await bench.engine.batch()
        batch.fail(RuntimeError("boom")) if 666 in batch.firsts else batch.finish()
        await turn()
    outputs = [(await one).outputs[0] for one in callers]
    assert [isinstance(one, EngineFailed) for one in outputs] == [False, False, True, False, False]
    assert bench.scheduler.is_alive


async def test_an_engine_error_does_not_tell_what_the_engine_said(bench: Bench) -> None:
    caller = await bench.submit(row(1))
    (await bench.engine.batch()).fail(ValueError("the secret text"))
    (error,) = (await caller).outputs
    assert isinstance(error, EngineFailed)
    assert "ValueError" in error.detail
    assert "secret" not in error.detail


async def test_a_row_with_an_error_in_its_place_fails_alone(bench: Bench) -> None:
    caller = await bench.submit(row(1), row(2))
    error = EngineFailed("no finite numbers")
    (await bench.engine.batch()).finish([error, output_of(row(2))])
    answered = await caller
    assert answered.outputs[0] is error
    assert firsts(answered) == [2]


@pytest.mark.parametrize("num_outputs", [0, 1, 3])
async def test_a_wrong_number_of_outputs_is_never_dealt_out(bench: Bench, num_outputs: int) -> None:
    caller = await bench.submit(row(1), row(2))
    (await bench.engine.batch()).finish([output_of(row(7))] * num_outputs)
    for _ in range(2):
        (await bench.engine.batch()).finish()
    assert firsts(await caller) == [1, 2]


async def test_a_row_whose_output_is_missing_fails_with_the_numbers(bench: Bench) -> None:
    caller = await bench.submit(row(1))
    (await bench.engine.batch()).finish([])
    (error,) = (await caller).outputs
    assert isinstance(error, EngineFailed)
    assert error.detail == "the engine gave 0 outputs for 1 rows"


async def test_rows_that_arrive_while_a_failed_batch_is_run_again_wait_for_it(bench: Bench) -> None:
    first = await bench.submit(row(1), row(2))
    (await bench.engine.batch()).fail(RuntimeError())
    late = await bench.submit(row(3))
    ran = []
    for _ in range(3):
        batch = await bench.engine.batch()
        ran.append(batch.firsts)
        batch.finish()
    assert ran == [[1], [2], [3]]
    await asyncio.gather(first, late)


async def run_all(bench: Bench, callers: list[Submit], fails: Callable[[list[int]], Exception | None]) -> list[list[int]]:
    """Run batches until every caller is answered, with an engine that fails where `fails` says so; what it was given."""
    ran = []
    while not all(one.done() for one in callers):
        batch = await bench.engine.batch()
        ran.append(batch.firsts)
        error = fails(batch.firsts)
        batch.finish() if error is None else batch.fail(error)
        await turn()
    return ran


@pytest.mark.parametrize("guilty", [{666}, set(range(9)) | {666}], ids=["one bad row", "nothing works"])
async def test_a_failed_batch_costs_a_bounded_number_of_runs(bench: Bench, guilty: set[int]) -> None:
    _, release = await bench.occupy()
    numbers = [1, 2, 3, 4, 5, 6, 7, 666]
    callers = [await bench.submit(row(number)) for number in numbers]
    release()
    ran = await run_all(bench, callers, lambda firsts: RuntimeError() if guilty & set(firsts) else None)
    assert len(ran) <= 2 * len(numbers) - 1
    for number in numbers:
        assert sum(number in firsts for firsts in ran) <= 1 + 3  # the batch, and log2 of its rows
    failed = [isinstance((await one).outputs[0], EngineFailed) for one in callers]
    assert failed == [number in guilty for number in numbers]


async def test_a_batch_that_is_run_again_leaves_out_those_whose_caller_has_left(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    stays = await bench.submit(row(1))
    gone = await bench.submit(row(2))
    late = await bench.submit(row(3), deadline=clock[0] + 60)
    release()
    batch = await bench.engine.batch()
    gone.cancel()
    await turn()
    clock[0] += 60
    batch.fail(RuntimeError())
    assert await run_all(bench, [stays, late], lambda _: None) == [[1]]
    with pytest.raises(DeadlineExceeded):
        await late
    assert dropped(bench) == {"client_left": 1, "deadline": 1}


async def test_a_stalled_batch_fails_whole_and_is_not_run_again(bench: Bench) -> None:
    callers = [await bench.submit(row(1), row(2))]
    stalled = EngineStalled("too late")
    assert await run_all(bench, callers, lambda _: stalled) == [[1, 2]]
    assert (await callers[0]).outputs == [stalled, stalled]
    assert bench.scheduler.is_alive
    assert bench.events == [BatchFailed(2, stalled)]


async def test_a_lost_engine_ends_the_loop_and_everybody_is_told_why(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    running = await bench.submit(row(1))
    batch = await bench.engine.batch()
    waiting = await bench.submit(row(2))
    batch.fail(EngineLost("stuck for 9 s"))
    for one in (running, waiting):
        with pytest.raises(Unavailable, match="stuck for 9 s"):
            await one
    with pytest.raises(Unavailable, match="stuck for 9 s"):
        bench.scheduler.check_open()
    assert await bench.scheduler.wait_closed()
    assert [(one.num_rows, one.error.detail) for one in bench.events if isinstance(one, BatchFailed)] == [(1, "stuck for 9 s")]
    assert "(stuck for 9 s)" in said_of_death(caplog).getMessage()
    assert not said_of_death(caplog).exc_info


async def test_an_engine_that_is_lost_while_a_failed_batch_is_run_again_leaves_nobody_waiting(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    callers = [await bench.submit(row(number)) for number in (1, 2)]
    (await bench.engine.batch()).finish()
    both = await bench.submit(row(3), row(4))
    await run_all(bench, [*callers, both], lambda firsts: RuntimeError() if len(firsts) > 1 else EngineLost("stuck"))
    with pytest.raises(Unavailable, match="stuck"):
        await both


async def test_a_scheduler_that_was_closed_has_not_died(bench: Bench) -> None:
    over = asyncio.create_task(bench.scheduler.wait_closed())
    await turn()
    assert not over.done()
    await bench.scheduler.aclose()
    assert await over is False


# --- memory is short


async def test_out_of_memory_halves_the_budget_once_and_every_row_is_answered(bench: Bench) -> None:
    _, release = await bench.occupy()
    callers = [await bench.submit(row(number, 12)) for number in range(1, 9)]
    release()
    ran = await run_all(bench, callers, lambda firsts: OutOfMemory("full") if len(firsts) > 2 else None)
    assert ran == [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4], [1, 2], [3, 4], [5, 6, 7, 8], [5, 6], [7, 8]]
    assert [firsts(await one) for one in callers] == [[number] for number in range(1, 9)]
    assert bench.scheduler.max_batch_tokens_now == 50
    assert bench.scheduler.budget == BUDGET


async def test_batches_keep_to_the_halved_budget_but_a_longer_row_still_runs(bench: Bench) -> None:
    _, release = await bench.occupy()
    first = await bench.submit(row(1), row(2))
    release()
    await run_all(bench, [first], lambda firsts: OutOfMemory("full") if len(firsts) > 1 else None)
    _, release = await bench.occupy()
    callers = [await bench.submit(row(number, length)) for number, length in ((3, 100), (4, 30), (5, 30), (6, 20))]
    release()
    assert await run_all(bench, callers, lambda _: None) == [[3], [4, 6], [5]]


async def test_a_lone_row_without_memory_fails_and_leaves_the_budget_alone(bench: Bench) -> None:
    caller = await bench.submit(row(1, 100))
    full = OutOfMemory("full")
    await run_all(bench, [caller], lambda _: full)
    assert (await caller).outputs == [full]
    assert bench.scheduler.max_batch_tokens_now == BUDGET.max_batch_tokens


async def test_a_row_that_alone_is_too_much_fails_alone(bench: Bench) -> None:
    _, release = await bench.occupy()
    callers = [await bench.submit(row(number)) for number in (1, 666, 3)]
    release()
    await run_all(bench, callers, lambda firsts: OutOfMemory("full") if 666 in firsts else None)
    assert [isinstance((await one).outputs[0], OutOfMemory) for one in callers] == [False, True, False]


async def test_good_batches_give_the_budget_back(bench: Bench) -> None:
    first = await bench.submit(row(1), row(2))
    await run_all(bench, [first], lambda firsts: OutOfMemory("full") if len(firsts) > 1 else None)
    assert bench.scheduler.max_batch_tokens_now == 50
    for _ in range(GOOD_BATCHES):
        await run_all(bench, [await bench.submit(row(1))], lambda _: None)
    assert bench.scheduler.max_batch_tokens_now == 100


# --- what nobody wants any more is counted


def dropped(bench: Bench) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for event in bench.events:
        if isinstance(event, RowsDropped):
            counted[event.reason] += event.num_rows
    return dict(counted)


async def test_rows_of_a_client_who_left_are_counted_and_never_run(bench: Bench) -> None:
    _, release = await bench.occupy()
    gone = await bench.submit(row(1), row(2))
    gone.cancel()
    await turn()
    assert dropped(bench) == {"client_left": 2}
    release()
    await turn()
    assert not bench.engine.has_batch
    assert dropped(bench) == {"client_left": 2}


async def test_rows_that_others_wait_with_are_not_counted(bench: Bench) -> None:
    await bench.occupy()
    await bench.submit(row(1), row(2), row(3))
    gone = await bench.submit(row(4))
    gone.cancel()
    await turn()
    assert dropped(bench) == {"client_left": 1}
    assert bench.scheduler.num_waiting_rows == 3


async def test_rows_whose_deadline_passed_are_counted_and_never_run(bench: Bench) -> None:
    _, release = await bench.occupy()
    with pytest.raises(DeadlineExceeded):
        await bench.scheduler.submit([row(1), row(2)], deadline=time.monotonic() + 0.001)
    release()
    await turn()
    assert not bench.engine.has_batch
    assert dropped(bench) == {"deadline": 2}


async def test_rows_that_the_loop_finds_too_late_are_counted_once(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    late = await bench.submit(row(1), row(2), deadline=clock[0] + 60)
    clock[0] += 60
    release()
    with pytest.raises(DeadlineExceeded):
        await late
    assert dropped(bench) == {"deadline": 2}


@pytest.mark.usefixtures("no_timers")
async def test_rows_that_a_batch_comes_across_too_late_are_refused_counted_and_left_out(
    bench: Bench, clock: list[float]
) -> None:
    _, release = await bench.occupy()
    late = await bench.submit(row(1), row(2), deadline=clock[0] + 60)
    stays = await bench.submit(row(3))
    clock[0] += 60
    release()
    batch = await bench.engine.batch()
    assert batch.firsts == [3]
    with pytest.raises(DeadlineExceeded):
        await late
    assert dropped(bench) == {"deadline": 2}
    batch.finish()
    await stays
    assert not bench.scheduler.num_waiting_rows


@pytest.mark.usefixtures("no_timers")
async def test_where_all_that_waits_is_too_late_the_engine_is_free_for_the_next(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    late = await bench.submit(row(1), deadline=clock[0] + 60)
    clock[0] += 60
    release()
    with pytest.raises(DeadlineExceeded):
        await late
    following = await bench.submit(row(2))
    (await bench.engine.batch()).finish()
    assert firsts(await following) == [2]


async def test_only_the_rows_that_had_not_run_are_counted(bench: Bench) -> None:
    caller = await bench.submit(row(1, 100), row(2, 100), row(3, 100))
    batch = await bench.engine.batch()
    caller.cancel()
    await turn()
    batch.finish()
    await turn()
    assert dropped(bench) == {"client_left": 2}


async def test_what_was_answered_is_not_dropped(bench: Bench) -> None:
    caller = await bench.submit(row(1))
    (await bench.engine.batch()).finish()
    await caller
    assert dropped(bench) == {}


# --- the loop dies


async def died(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    await turn()
    assert not bench.scheduler.is_alive
    with pytest.raises(Unavailable, match=r"^the engine is down$"):
        await bench.scheduler.submit([row(9)])
    told = said_of_death(caplog)
    assert "(the engine is down)" in told.getMessage()
    assert told.exc_info  # nobody expected it: where it comes from must be found out


def said_of_death(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """What whoever runs the service is told."""
    (told,) = [one for one in caplog.records if one.name == scheduler_module.__name__ and one.levelno == logging.CRITICAL]
    return told


async def test_when_the_loop_dies_everybody_who_waits_gets_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Event) -> None:
        raise ZeroDivisionError

    async with bench_of(tell=broken) as bench:
        running, release = await bench.occupy()
        waiting = [await bench.submit(row(number)) for number in (1, 2)]
        release()
        for one in (running, *waiting):
            with pytest.raises(Unavailable, match=r"^the engine is down$"):
                await one
        await died(bench, caplog)
        assert bench.scheduler.num_waiting_rows == 0


async def test_an_engine_that_cancels_its_caller_ends_the_loop_but_hangs_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    running = await bench.submit(row(1))
    batch = await bench.engine.batch()
    waiting = await bench.submit(row(2))
    batch.fail(asyncio.CancelledError())
    for one in (running, waiting):
        with pytest.raises(Unavailable):
            await one
    await died(bench, caplog)


async def test_a_loop_that_was_ended_before_it_began_turns_callers_away() -> None:
    bench = Bench()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await turn()
    with pytest.raises(Unavailable, match=r"^the engine is down$"):
        bench.scheduler.check_open()


# --- the caller leaves, or has a deadline


async def test_rows_of_a_caller_who_left_never_reach_the_engine(bench: Bench) -> None:
    _, release = await bench.occupy()
    gone = await bench.submit(row(1), row(2))
    stays = await bench.submit(row(3))
    gone.cancel()
    await turn()
    release()
    batch = await bench.engine.batch()
    assert batch.firsts == [3]
    batch.finish()
    assert firsts(await stays) == [3]


async def test_rows_of_a_caller_who_left_no_longer_take_up_the_queue(bench: Bench) -> None:
    await bench.occupy()
    gone = await bench.submit(*[row(number) for number in range(LIMIT.max_rows)])
    with pytest.raises(Overloaded):
        await bench.scheduler.submit([row(99)])
    gone.cancel()
    await turn()
    assert bench.scheduler.num_waiting_rows == 0
    await bench.submit(row(99))
    assert bench.scheduler.num_waiting_rows == 1


async def test_a_caller_who_leaves_during_its_batch_disturbs_nobody(bench: Bench) -> None:
    gone = await bench.submit(row(1))
    batch = await bench.engine.batch()
    gone.cancel()
    batch.finish()
    stays = await bench.submit(row(2))
    (await bench.engine.batch()).finish()
    assert firsts(await stays) == [2]


async def test_a_caller_who_leaves_between_two_batches_takes_its_other_rows_along(bench: Bench) -> None:
    gone = await bench.submit(row(1, 100), row(2, 100))
    batch = await bench.engine.batch()
    stays = await bench.submit(row(3, 100))
    gone.cancel()
    await turn()
    batch.finish()
    assert (await bench.engine.batch()).firsts == [3]
    assert not stays.done()


async def test_a_deadline_that_passed_already_is_refused_without_the_engine(bench: Bench) -> None:
    with pytest.raises(DeadlineExceeded):
        await bench.scheduler.submit([row(1)], deadline=time.monotonic() - 1)
    await turn()
    assert not bench.engine.has_batch


async def test_a_deadline_ends_the_wait_while_the_engine_is_busy(bench: Bench) -> None:
    _, release = await bench.occupy()
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await bench.scheduler.submit([row(1)], deadline=time.monotonic() + 0.001)
    assert bench.scheduler.num_waiting_rows == 0
    release()
    await turn()
    assert not bench.engine.has_batch


async def test_a_deadline_ends_the_wait_for_a_batch_that_has_begun(bench: Bench, clock: list[float]) -> None:
    caller = await bench.submit(row(1), deadline=clock[0] + 60)
    batch = await bench.engine.batch()
    clock[0] += 60
    with pytest.raises(DeadlineExceeded):
        await caller
    batch.finish()
    await turn()
    assert bench.scheduler.is_alive


async def test_the_loop_drops_rows_whose_deadline_passed_before_their_caller_noticed(bench: Bench, clock: list[float]) -> None:
    _, release = await bench.occupy()
    late = await bench.submit(row(1), deadline=clock[0] + 60)
    exact = await bench.submit(row(2), deadline=clock[0] + 120)
    clock[0] += 60
    release()
    assert (await bench.engine.batch()).firsts == [2]
    with pytest.raises(DeadlineExceeded):
        await late
    assert not exact.done()


async def test_an_answer_before_the_deadline_is_given(bench: Bench) -> None:
    caller = await bench.submit(row(1), deadline=time.monotonic() + 3600)
    (await bench.engine.batch()).finish()
    assert firsts(await caller) == [1]


# --- admission


async def test_a_row_beyond_the_budget_is_refused_at_the_door(bench: Bench) -> None:
    with pytest.raises(TooLarge, match="101 tokens exceeds the batch budget of 100"):
        await bench.scheduler.submit([row(1), row(2, 101)])
    assert bench.scheduler.num_waiting_rows == 0


@pytest.mark.parametrize("rows", [[row(1)] * 51, [row(1, 100)] * 11], ids=["rows", "tokens"])
async def test_a_request_that_no_empty_queue_could_take_is_too_large(bench: Bench, rows: list[Row]) -> None:
    with pytest.raises(TooLarge, match="may wait"):
        await bench.scheduler.submit(rows)


@pytest.mark.parametrize(("waiting", "one_more"), [([row(1)] * 50, row(2)), ([row(1, 100)] * 10, row(2, 1))])
async def test_a_full_queue_turns_callers_away(bench: Bench, waiting: list[Row], one_more: Row) -> None:
    await bench.occupy()
    bench.scheduler.check_open()
    await bench.submit(*waiting)
    told = f"{len(waiting)} rows of {sum(one.num_tokens for one in waiting)} tokens are waiting"
    with pytest.raises(Overloaded, match=told):
        await bench.scheduler.submit([one_more])
    with pytest.raises(Overloaded, match=told):
        bench.scheduler.check_open()


async def test_whether_everyone_is_turned_away_is_told_without_a_request(bench: Bench) -> None:
    await bench.occupy()
    await bench.submit(*[row(1)] * 25)
    assert bench.scheduler.overload() is None
    assert isinstance(bench.scheduler.overload("bulk"), Overloaded)
    await bench.submit(*[row(1)] * 25)
    assert isinstance(bench.scheduler.overload(), Overloaded)
    closing = asyncio.create_task(bench.scheduler.aclose(drain_s=3600))
    await turn()
    assert bench.scheduler.overload() is None  # it is closed: coming again would not help
    closing.cancel()


@pytest.mark.parametrize("one_more", [[row(2)] * 2, [row(2, 31)]], ids=["rows", "tokens"])
async def test_a_request_is_taken_whole_or_not_at_all(bench: Bench, one_more: list[Row]) -> None:
    await bench.occupy()
    waiting = [row(1, 20)] * 48 + [row(1, 10)]  # 49 rows, 970 tokens: room for 1 row and 30 tokens
    await bench.submit(*waiting)
    with pytest.raises(Overloaded):
        await bench.scheduler.submit(one_more)
    assert bench.scheduler.num_waiting_rows == 49
    await bench.submit(row(2, 30))
    assert bench.scheduler.num_waiting_rows == 50


async def retry_after(limit: QueueLimit, waiting: list[Row], seconds_per_100_tokens: float = 1.0) -> float:
    """Seconds that a caller is told to stay away, with these rows in the queue and an engine of this speed."""
    async with bench_of(limit=limit) as bench:
        await bench.submit(row(0, 100))
        (await bench.engine.batch()).finish(inference_s=seconds_per_100_tokens)
        await bench.occupy()
        await bench.submit(*waiting)
        with pytest.raises(Overloaded) as refused:
            bench.scheduler.check_open()
        return refused.value.retry_after_s


async def test_retry_after_grows_with_the_backlog_whichever_limit_it_hit() -> None:
    full_of_rows = QueueLimit(max_rows=50, max_tokens=1_000_000)
    assert await retry_after(full_of_rows, [row(1, 20)] * 50) == pytest.approx(5)  # half of 1000 tokens at 100 a second
    assert await retry_after(full_of_rows, [row(1, 60)] * 50) == pytest.approx(15)
    full_of_tokens = QueueLimit(max_rows=1000, max_tokens=3000)
    assert await retry_after(full_of_tokens, [row(1, 60)] * 50) == pytest.approx(15)


async def test_retry_after_follows_the_measured_speed() -> None:
    assert await retry_after(LIMIT, [row(1, 20)] * 50, seconds_per_100_tokens=4.0) == pytest.approx(20)


async def test_retry_after_counts_the_rows_of_the_caller_too(bench: Bench) -> None:
    await bench.submit(row(0, 100))
    (await bench.engine.batch()).finish(inference_s=1.0)
    await bench.occupy()
    await bench.submit(*[row(1, 20)] * 40)
    with pytest.raises(Overloaded) as refused:
        await bench.scheduler.submit([row(2, 20)] * 10 + [row(2, 1)])
    assert refused.value.retry_after_s == pytest.approx((800 + 201) / 2 / 100)


# --- closing


async def test_closing_finishes_what_was_accepted(bench: Bench) -> None:
    running, release = await bench.occupy()
    waiting = await bench.submit(row(1))
    closing = asyncio.create_task(bench.scheduler.aclose(drain_s=3600))
    await turn()
    assert not bench.scheduler.is_alive
    with pytest.raises(Unavailable, match="unloaded"):
        await bench.scheduler.submit([row(2)])
    release()
    batch = await bench.engine.batch()
    await turn()
    assert not closing.done()
    batch.finish()
    await closing
    assert [firsts(await one) for one in (running, waiting)] == [[0], [1]]


async def test_closing_waits_for_the_batch_in_the_engine(bench: Bench) -> None:
    running, release = await bench.occupy()
    closing = asyncio.create_task(bench.scheduler.aclose(drain_s=3600))
    await turn()
    assert not closing.done()
    release()
    await closing
    assert firsts(await running) == [0]


async def test_closing_gives_up_after_its_time_and_leaves_nobody_waiting(bench: Bench) -> None:
    running, _ = await bench.occupy()
    waiting = await bench.submit(row(1))
    await bench.scheduler.aclose(drain_s=0.001)
    for one in (running, waiting):
        with pytest.raises(Unavailable, match="unloaded"):
            await one


async def test_closing_without_a_time_waits_for_nobody_and_leaves_nobody_waiting(bench: Bench) -> None:
    running = await bench.submit(row(1))
    batch = await bench.engine.batch()

    async def close() -> tuple[bool, bool]:
        await bench.scheduler.aclose()
        return running.done(), batch.is_given_up

    closing = asyncio.create_task(close())
    await turn()
    assert closing.done()
    assert await closing == (True, True)  # when it is over and not some time after: the engine is given back next
    with pytest.raises(Unavailable, match=r"^the model is being unloaded$"):
        await running


async def test_closing_does_not_wait_for_callers_who_left(bench: Bench) -> None:
    _, release = await bench.occupy()
    gone = await bench.submit(row(1))
    closing = asyncio.create_task(bench.scheduler.aclose(drain_s=3600))
    await turn()
    gone.cancel()
    release()
    await closing


async def test_closing_an_idle_scheduler_ends_at_once_and_may_be_repeated(bench: Bench) -> None:
    await bench.scheduler.aclose(drain_s=3600)
    await bench.scheduler.aclose(drain_s=3600)


async def test_closing_after_the_loop_died_does_not_wait_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async with bench_of(tell=lambda _: 1 / 0) as bench:
        caller, release = await bench.occupy()
        release()
        with pytest.raises(Unavailable):
            await caller
        await bench.scheduler.aclose(drain_s=3600)


# --- everything at once

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


@pytest.mark.parametrize("num_beside", [0, 2, 3])
@settings(max_examples=150, deadline=None)
@given(sequence=steps)
def test_whatever_happens_every_submission_is_answered_exactly_once(num_beside: int, sequence: list[Step]) -> None:
    with asyncio.Runner(loop_factory=impatient_loop) as runner:
        runner.run(_everything_at_once(sequence, num_beside))


async def _everything_at_once(sequence: list[Step], num_beside: int) -> None:
    async with bench_of(limit=QueueLimit(20, 600), num_beside=num_beside) as bench:
        crowd = Crowd(bench)
        for what, number in sequence:
            await crowd.step(what, number)
        for _ in range(2 * sum(len(rows) for _, rows in crowd.callers)):
            await crowd.step("finish", 0)
        assert not bench.scheduler.num_waiting_rows
        assert not any(one.has_batch for one in bench.engines)
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
        ready = [one for one in self.bench.engines if one.has_batch]
        if not ready:
            return
        batch = await ready[number % len(ready)].batch()
        num_tokens = sum(one.num_tokens for one in batch.rows)
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
        assert all(one.done() for one in self.closing)
        assert all(task.done() for task, _ in self.callers)
        assert sorted(self.answers) == list(range(len(self.callers)))
        for task, rows in self.callers:
            with contextlib.suppress(asyncio.CancelledError, Unavailable, Overloaded, DeadlineExceeded):
                self.check_answer((await task).outputs, rows)

    def check_answer(self, outputs: object, rows: list[Row]) -> None:
        assert isinstance(outputs, list)
        assert len(outputs) == len(rows)
        for output, one in zip(outputs, rows, strict=True):
            if isinstance(output, EngineFailed):
                continue
            assert one.input_ids[0] != POISON
            assert np.array_equal(output["logits"], output_of(one)["logits"])
