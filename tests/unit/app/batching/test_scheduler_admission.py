"""Who is taken and who is turned away, while the scheduler runs and while it closes."""

from __future__ import annotations

import asyncio

import pytest

from app.batching.admission import QueueLimit
from app.core.errors import (
    Overloaded,
    TooLarge,
    Unavailable,
)
from app.core.types import Row
from tests.support.gated_engine import turn
from tests.support.scheduler_bench import LIMIT, Bench, bench_of, firsts, row

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
    told = f"{len(waiting)} rows of {sum(waiter.num_tokens for waiter in waiting)} tokens are waiting"
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
    assert [firsts(await entry) for entry in (running, waiting)] == [[0], [1]]


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
    for entry in (running, waiting):
        with pytest.raises(Unavailable, match="unloaded"):
            await entry


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
    async with bench_of(listener=lambda _: 1 / 0) as bench:
        caller, release = await bench.occupy()
        release()
        with pytest.raises(Unavailable):
            await caller
        await bench.scheduler.aclose(drain_s=3600)
