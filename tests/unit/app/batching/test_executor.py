"""A step ends with an output or an error for each of its rows, whatever the engine does."""

from __future__ import annotations

import asyncio

import pytest

from app.batching.policy import GOOD_BATCHES
from app.batching.results import BatchFailed
from app.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    EngineStalled,
    OutOfMemory,
    Unavailable,
)
from tests.support.gated_engine import output_of, turn
from tests.support.scheduler_bench import BUDGET, Bench, dropped, firsts, row, run_all, said_of_death

# --- the engine fails


async def test_when_a_batch_raises_only_the_bad_row_fails(bench: Bench) -> None:
    _, release = await bench.occupy()
    callers = [await bench.submit(row(number)) for number in (1, 2, 666, 4, 5)]
    release()
    while not all(caller.done() for caller in callers):
        batch = await bench.engine.batch()
        batch.fail(RuntimeError("boom")) if 666 in batch.firsts else batch.finish()
        await turn()
    outputs = [(await caller).outputs[0] for caller in callers]
    assert [isinstance(output, EngineFailed) for output in outputs] == [False, False, True, False, False]
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
    failed = [isinstance((await caller).outputs[0], EngineFailed) for caller in callers]
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
    for entry in (running, waiting):
        with pytest.raises(Unavailable, match="stuck for 9 s"):
            await entry
    with pytest.raises(Unavailable, match="stuck for 9 s"):
        bench.scheduler.check_open()
    assert await bench.scheduler.wait_closed()
    assert [(event.num_rows, event.error.detail) for event in bench.events if isinstance(event, BatchFailed)] == [
        (1, "stuck for 9 s")
    ]
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
    assert [firsts(await caller) for caller in callers] == [[number] for number in range(1, 9)]
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
    assert [isinstance((await caller).outputs[0], OutOfMemory) for caller in callers] == [False, True, False]


async def test_good_batches_give_the_budget_back(bench: Bench) -> None:
    first = await bench.submit(row(1), row(2))
    await run_all(bench, [first], lambda firsts: OutOfMemory("full") if len(firsts) > 1 else None)
    assert bench.scheduler.max_batch_tokens_now == 50
    for _ in range(GOOD_BATCHES):
        await run_all(bench, [await bench.submit(row(1))], lambda _: None)
    assert bench.scheduler.max_batch_tokens_now == 100
