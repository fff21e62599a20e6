"""Callers who leave or have a deadline, and a loop that dies: everybody is answered exactly once."""

from __future__ import annotations

import asyncio
import time

import pytest

from app.batching.results import DEADLINE_PASSED, Event
from app.core.errors import (
    DeadlineExceeded,
    Overloaded,
    Unavailable,
)
from tests.support.gated_engine import turn
from tests.support.scheduler_bench import LIMIT, Bench, bench_of, dropped, firsts, row, said_of_death

# --- what nobody wants any more is counted


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


async def test_when_the_loop_dies_everybody_who_waits_gets_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Event) -> None:
        raise ZeroDivisionError

    async with bench_of(listener=broken) as bench:
        running, release = await bench.occupy()
        waiting = [await bench.submit(row(number)) for number in (1, 2)]
        release()
        for waiter in (running, *waiting):
            with pytest.raises(Unavailable, match=r"^the engine is down$"):
                await waiter
        await died(bench, caplog)
        assert bench.scheduler.num_waiting_rows == 0


async def test_an_engine_that_cancels_its_caller_ends_the_loop_but_hangs_nobody(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    running = await bench.submit(row(1))
    batch = await bench.engine.batch()
    waiting = await bench.submit(row(2))
    batch.fail(asyncio.CancelledError())
    for entry in (running, waiting):
        with pytest.raises(Unavailable):
            await entry
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
