"""Engines in parallel: which of them takes the next batch, and how much of what waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.batching.admission import QueueLimit
from app.batching.engine import EnginePool
from app.batching.policy import SMALLEST_SHARE, Budget, select
from app.batching.scheduler import Scheduler
from app.core.errors import EngineFailed, EngineLost, Unavailable
from app.core.types import Row
from tests.support.gated_engine import GatedEngine, turn

BUDGET = Budget(max_batch_tokens=1000, max_batch_rows=8, layout="packed")
PACKED = Budget.for_tensors(1024, 64, "packed")
LIMIT = QueueLimit(max_rows=50, max_tokens=5000)


def row(first: int, num_tokens: int = 10) -> Row:
    return Row([first] + [0] * (num_tokens - 1), [0] * num_tokens)


def engine_pool(num_parallel: int) -> tuple[EnginePool, GatedEngine, list[GatedEngine]]:
    exclusive, parallel = GatedEngine(), [GatedEngine() for _ in range(num_parallel)]
    return EnginePool(exclusive, parallel), exclusive, parallel


# --- which engine


def test_without_others_the_one_engine_takes_everything_and_the_whole_budget() -> None:
    pool, exclusive, _ = engine_pool(0)
    assignment = pool.take(BUDGET, 7, 70)
    assert assignment is not None
    assert (assignment.engine, assignment.budget) == (exclusive, BUDGET)
    assert pool.take(BUDGET, 7, 70) is None


@pytest.mark.parametrize(("num_parallel", "num_rows"), [(2, 1), (4, 3)])
def test_too_few_rows_for_everybody_are_computed_with_every_thread(num_parallel: int, num_rows: int) -> None:
    pool, exclusive, _ = engine_pool(num_parallel)
    assignment = pool.take(BUDGET, num_rows, 10 * num_rows)
    assert assignment is not None
    assert (assignment.engine, assignment.budget) == (exclusive, BUDGET)


def test_enough_rows_are_computed_in_parallel() -> None:
    pool, _, parallel = engine_pool(2)
    taken = [pool.take(BUDGET, 2, 20), pool.take(BUDGET, 1, 10)]
    assert [assignment and assignment.engine for assignment in taken] == parallel
    assert pool.num_busy == 2
    assert pool.take(BUDGET, 1, 10) is None


def test_a_lone_row_joins_engines_that_compute_in_parallel() -> None:
    pool, _, parallel = engine_pool(2)
    pool.take(BUDGET, 2, 20)
    joined = pool.take(BUDGET, 1, 10)
    assert joined is not None
    assert joined.engine is parallel[1]


def test_nothing_is_computed_parallel_to_the_engine_with_every_thread() -> None:
    pool, exclusive, parallel = engine_pool(2)
    pool.take(BUDGET, 1, 10)
    assert pool.take(BUDGET, 5, 50) is None
    pool.give_back(exclusive)
    following = pool.take(BUDGET, 5, 50)
    assert following is not None
    assert following.engine is parallel[0]


# --- how much it takes


@pytest.mark.parametrize(
    ("num_engines", "num_free", "waiting", "tokens"),
    [
        (2, 1, 5000, 500),  # half of the budget
        (2, 2, 5000, 500),
        (2, 2, 301, 151),  # half of what waits
        (2, 1, 301, 500),  # the last free one takes all it may
        (8, 1, 5000, SMALLEST_SHARE),  # no crumbs
        (8, 4, 400, 100),
    ],
)
def test_a_share(num_engines: int, num_free: int, waiting: int, tokens: int) -> None:
    shared = BUDGET.shared(num_engines, num_free, waiting)
    assert (shared.max_batch_tokens, shared.max_batch_rows, shared.layout) == (tokens, 8, "packed")


@pytest.mark.parametrize(("num_engines", "num_rows"), [(2, 4), (2, 8), (4, 16)])
def test_equal_rows_are_divided_equally(num_engines: int, num_rows: int) -> None:
    left, sizes = [20] * num_rows, []
    for num_free in range(num_engines, 0, -1):
        taken = select(left, PACKED.shared(num_engines, num_free, sum(left)))
        sizes.append(len(taken))
        left = left[len(taken) :]
    assert sizes == [num_rows // num_engines] * num_engines


def test_a_share_is_never_more_than_the_budget() -> None:
    assert Budget(100, 8, "packed").shared(2, 1, 5000).max_batch_tokens == 100


# --- in the scheduler


class Rig:
    """A scheduler over three gated engines, and who waits for it."""

    def __init__(self) -> None:
        self.exclusive, self.first, self.second = GatedEngine(), GatedEngine(), GatedEngine()
        self.scheduler = Scheduler(self.exclusive, BUDGET, LIMIT, parallel=(self.first, self.second))

    async def submit(self, *rows: Row) -> asyncio.Task[object]:
        task: asyncio.Task[object] = asyncio.create_task(self.scheduler.submit(rows))
        await turn()
        return task


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    made = Rig()
    yield made
    await made.scheduler.aclose()


async def test_rows_of_one_request_are_split_between_the_engines(rig: Rig) -> None:
    caller = await rig.submit(*(row(number) for number in range(1, 5)))
    one, other = await rig.first.batch(), await rig.second.batch()
    assert one.firsts + other.firsts == [1, 2, 3, 4]
    assert len(one.firsts) == 2
    other.finish()
    await turn()
    assert not caller.done()
    one.finish()
    answered = await caller
    assert [int(output["logits"][0]) for output in answered.outputs] == [1, 2, 3, 4]  # type: ignore[attr-defined]


async def test_an_engine_that_ends_takes_what_waits_while_the_other_still_computes(rig: Rig) -> None:
    await rig.submit(row(1), row(2))
    one, other = await rig.first.batch(), await rig.second.batch()
    waiting = await rig.submit(row(3))
    assert not waiting.done()
    one.finish()
    following = await rig.first.batch()
    assert following.firsts == [3]
    following.finish()
    await waiting
    other.finish()


async def test_a_failure_of_one_is_isolated_on_the_same_engine(rig: Rig) -> None:
    bad = await rig.submit(*(row(number) for number in range(1, 7)))
    one, other = await rig.first.batch(), await rig.second.batch()
    size = len(one.rows)
    assert size > 1
    one.fail(RuntimeError("boom"))
    for _ in range(2):
        half = await rig.first.batch()
        assert len(half.rows) < size
        half.finish()
        await turn()
        if bad.done():
            break
    other.finish()
    answered = await bad
    assert not any(isinstance(output, EngineFailed) for output in answered.outputs)  # type: ignore[attr-defined]


async def test_time_in_two_engines_at_once_counts_once(rig: Rig) -> None:
    caller = await rig.submit(row(1), row(2))
    (await rig.first.batch()).finish(inference_s=40.0)
    await turn()
    (await rig.second.batch()).finish(inference_s=50.0)
    answered = await caller
    assert answered.inference_s < 40.0  # no more than has passed in truth  # type: ignore[attr-defined]


async def test_time_in_one_engine_after_the_other_adds_up(rig: Rig) -> None:
    other = await rig.submit(row(0), row(0))
    busy = await rig.second.batch()
    caller = await rig.submit(*(row(number, 400) for number in (1, 2)))
    (await rig.first.batch()).finish()
    for seconds in (40.0, 50.0):
        (await rig.first.batch()).finish(inference_s=seconds)
        await turn()
    assert (await caller).inference_s == 90.0  # type: ignore[attr-defined]
    busy.finish()
    await other


async def test_time_counts_once_also_where_a_batch_ran_alone_before(rig: Rig) -> None:
    other = await rig.submit(row(0), row(0))
    busy = await rig.second.batch()
    (await rig.first.batch()).finish()
    await turn()
    caller = await rig.submit(*(row(number, 400) for number in (1, 2, 3)))
    (await rig.first.batch()).finish(inference_s=0.0)
    await turn()
    busy.finish()
    await other
    await turn()
    for engine in (rig.first, rig.second):
        (await engine.batch()).finish(inference_s=40.0)
        await turn()
    assert (await caller).inference_s < 40.0  # type: ignore[attr-defined]


async def test_everybody_in_a_batch_is_told_how_long_they_waited(rig: Rig) -> None:
    other = await rig.submit(row(0), row(0))
    callers = [await rig.submit(row(1)), await rig.submit(row(2))]
    one, busy = await rig.first.batch(), await rig.second.batch()
    one.finish()
    together = await rig.first.batch()
    assert together.firsts == [1, 2]
    together.finish()
    assert max([(await caller).queue_s for caller in callers]) < 60  # type: ignore[attr-defined]
    busy.finish()
    await other


async def test_who_brings_no_tokens_waits_for_none(rig: Rig) -> None:
    caller = await rig.submit(row(1, 10))
    (await rig.exclusive.batch()).finish(inference_s=1000.0)
    await caller
    assert rig.scheduler.retry_after_s() == 1.0
    assert rig.scheduler.retry_after_s(1) == 50.0


async def test_a_lost_engine_ends_the_scheduler_and_leaves_nobody_waiting(rig: Rig) -> None:
    callers = [await rig.submit(row(1), row(2)), await rig.submit(row(3))]
    one, other = await rig.first.batch(), await rig.second.batch()
    one.fail(EngineLost("stuck"))
    for caller in callers:
        with pytest.raises(Unavailable):
            await caller
    await turn()
    assert other.is_given_up
    assert rig.scheduler.has_died


async def test_closing_waits_for_every_engine(rig: Rig) -> None:
    caller = await rig.submit(row(1), row(2))
    closing = asyncio.create_task(rig.scheduler.aclose(drain_s=3600))
    (await rig.first.batch()).finish()
    await turn()
    assert not closing.done()
    (await rig.second.batch()).finish()
    await closing
    await caller


async def test_two_engines_drain_twice_as_fast(rig: Rig) -> None:
    await rig.submit(row(1, 400), row(2, 400))
    one, other = await rig.first.batch(), await rig.second.batch()
    one.finish(inference_s=40.0)
    await turn()
    assert rig.scheduler.retry_after_s(800) == pytest.approx(20.0)  # 400 tokens in 40 s on each of the two, of which half wait
    other.finish()
