"""The scheduler: who runs together, and in which order."""

from __future__ import annotations

import asyncio

import pytest

from app.batching.policy import BULK_PATIENCE
from app.batching.results import BatchRan
from app.core.errors import (
    DeadlineExceeded,
    Overloaded,
    TooLarge,
    Unavailable,
)
from tests.support.gated_engine import turn
from tests.support.scheduler_bench import LIMIT, Bench, bench_of, firsts, row

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
    assert [firsts(await other) for other in (first, *others)] == [[0], [1], [2], [3]]


async def test_the_next_batch_reaches_the_engine_before_those_of_the_last_are_answered(bench: Bench) -> None:
    first, release = await bench.occupy()
    second = await bench.submit(row(1))
    engine_was_busy: list[bool] = []
    first.add_done_callback(lambda _: engine_was_busy.append(bench.engine.has_batch))
    release()
    await first
    assert engine_was_busy == [True]
    (await bench.engine.batch()).finish()
    assert firsts(await second) == [1]


async def test_the_rows_of_a_batch_are_told_to_each_of_its_callers(bench: Bench) -> None:
    first, release = await bench.occupy()
    others = [await bench.submit(row(number)) for number in (1, 2, 3)]
    release()
    (await bench.engine.batch()).finish()
    assert [(await other).batch_rows for other in (first, *others)] == [1, 3, 3, 3]
    assert [(await other).batch_tokens for other in (first, *others)] == [10, 30, 30, 30]


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
    async with bench_of(listener=lambda _: 1 / 0) as bench:
        _, release = await bench.occupy()
        waiting = await bench.submit(row(1), priority="bulk")
        release()
        with pytest.raises(Unavailable, match=r"^the engine is down$"):
            await waiting
