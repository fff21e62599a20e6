"""Sequences that end before their last step, by their caller, their deadline or the engine: no slot is lost."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from app.batching.policy import Budget
from app.batching.results import DEADLINE_PASSED, BatchFailed, RowsDropped
from app.batching.scheduler import Scheduler
from app.batching.watchdog import Watchdog
from app.core.errors import (
    DeadlineExceeded,
    EngineFailed,
    EngineLost,
    EngineStalled,
    HooperError,
    OutOfMemory,
    Unavailable,
)
from tests.support.gated_engine import GatedEngine, turn
from tests.support.generation_bench import BUDGET, LIMIT, MANY, GenerationBench, collect, generation_bench_of
from tests.support.scheduler_bench import row
from tests.support.toy_engine import ToyBatch, ToyEngine, ToySlots, generated, prompt

# --- the caller leaves, or has a deadline


async def test_a_caller_who_leaves_during_a_step_frees_the_slot_when_it_ends(generation: GenerationBench) -> None:
    gone, stays = await generation.call(prompt(1, num_steps=9)), await generation.call(prompt(2, num_steps=2))
    for _ in range(3):
        await generation.step()
    gone.cancel()
    await turn()
    assert generation.slots.num_free == 2
    assert await generation.step() == ("decode", [1, 2])
    assert generation.slots.num_free == 4  # the other one ended with this step
    assert generated((await stays)[0]) == [(2, 1), (2, 2)]
    assert generation.events[-1] == RowsDropped(1, "client_left")


async def test_a_caller_who_leaves_while_others_take_their_turn_frees_the_slot_at_once() -> None:
    async with generation_bench_of(num_slots=2, budget=Budget(100, 1, "padded")) as bench:
        callers = [await bench.call(prompt(number, num_steps=9)) for number in (1, 2)]
        for _ in range(4):
            await bench.step()
        batch = await bench.engine.batch()
        idle = callers[1 - (batch.firsts[0] - 1)]
        idle.cancel()
        await turn()
        assert bench.slots.num_free == 1
        batch.finish()
        assert await bench.step() == ("decode", batch.firsts)


async def test_a_caller_who_leaves_before_its_turn_never_gets_a_slot() -> None:
    async with generation_bench_of(num_slots=1) as bench:
        await bench.call(prompt(1, num_steps=2))
        gone = await bench.call(prompt(2, num_steps=2))
        gone.cancel()
        for _ in range(2):
            await bench.step()
        assert not bench.engine.has_batch
        assert bench.slots.num_free == 1


async def test_a_deadline_ends_a_sequence_between_its_steps(generation: GenerationBench, clock: list[float]) -> None:
    late = await generation.call(prompt(1, num_steps=9), deadline=clock[0] + 60)
    stays = await generation.call(prompt(2, num_steps=9))
    for _ in range(3):
        await generation.step()
    clock[0] += 60
    await generation.step()
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await late
    assert generation.slots.num_free == 3
    assert await generation.step() == ("decode", [2])
    assert generation.events.count(RowsDropped(1, "deadline")) == 1
    assert not stays.done()


async def test_a_deadline_ends_a_stream(generation: GenerationBench) -> None:
    submission = await generation.start(prompt(1, num_steps=9), deadline=time.monotonic() + 0.001)
    with pytest.raises(DeadlineExceeded, match=DEADLINE_PASSED):
        await collect(submission)
    if generation.engine.has_batch:  # on a slow machine the deadline passes before the first step
        await generation.step()
    assert generation.slots.num_free == 4


# --- the engine fails


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), EngineStalled("late"), OutOfMemory("full")])
async def test_a_failed_step_fails_its_sequences_once_and_never_runs_twice(
    generation: GenerationBench, phase: str, error: Exception
) -> None:
    callers = [await generation.call(prompt(number, num_steps=9), prompt(number, num_steps=9)) for number in (1, 2)]
    for _ in range(3 if phase == "decode" else 2):
        await generation.step()
    batch = await generation.engine.batch()
    if phase == "prefill":
        assert batch.batch.phase == "prefill"
    batch.fail(error)
    await turn()
    failed = [[isinstance(output, EngineFailed) for output in task.result()] for task in callers if task.done()]
    assert failed == ([[True, True]] if phase == "prefill" else [[True, True]] * 2)
    assert sum(isinstance(event, BatchFailed) for event in generation.events) == 1
    assert generation.scheduler.is_alive
    if phase == "decode":
        assert not generation.engine.has_batch
        assert generation.slots.num_free == 4
    else:
        assert await generation.step() == ("decode", [1, 1])


async def test_a_failed_step_for_want_of_memory_halves_the_budget(generation: GenerationBench) -> None:
    caller = await generation.call(prompt(1, num_steps=9), prompt(2, num_steps=9))
    await generation.step()
    (await generation.engine.batch()).fail(OutOfMemory("full"))
    await caller
    assert generation.scheduler.max_batch_tokens_now == 50


async def test_a_sequence_whose_output_is_an_error_ends_alone(generation: GenerationBench) -> None:
    caller = await generation.call(prompt(1, num_steps=9), prompt(2, num_steps=2))
    await generation.step()
    batch = await generation.engine.batch()
    assert isinstance(batch, ToyBatch)
    error = EngineFailed("no finite numbers")
    batch.finish([error, batch._outputs()[1]])
    first, second = await caller
    assert first is error
    assert generated(second) == [(2, 1), (2, 2)]


async def test_an_error_in_a_stream_is_the_last_step_of_its_row(generation: GenerationBench) -> None:
    streaming = asyncio.ensure_future(collect(await generation.start(prompt(1, num_steps=9))))
    await generation.step()
    (await generation.engine.batch()).fail(RuntimeError("boom"))
    first, last = await streaming
    assert not first.is_last
    assert isinstance(last.output, HooperError)
    assert last.is_last


@pytest.mark.parametrize("wrong", [[], [False, False]])
async def test_a_step_that_does_not_say_which_sequences_ended_fails(
    generation: GenerationBench, wrong: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = await generation.call(prompt(1, num_steps=9))
    monkeypatch.setattr(ToyBatch, "_is_finished", lambda _: wrong)
    await generation.step()
    (error,) = await caller
    assert isinstance(error, EngineFailed)
    assert error.detail == f"the engine said of {len(wrong)} sequences whether they ended, of 1"


async def test_an_engine_that_is_lost_while_it_decodes_leaves_nobody_waiting(
    generation: GenerationBench, caplog: pytest.LogCaptureFixture
) -> None:
    callers = [await generation.call(prompt(number, num_steps=9)) for number in range(1, 6)]
    for _ in range(4):
        await generation.step()
    (await generation.engine.batch()).fail(EngineLost("stuck for 9 s"))
    for caller in callers:
        with pytest.raises(Unavailable, match="stuck for 9 s"):
            await caller
    assert await generation.scheduler.wait_closed()


async def test_slots_that_cannot_be_allocated_end_the_loop_and_leave_nobody_waiting(
    generation: GenerationBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ToySlots, "allocate", lambda _: 1 / 0)
    caller = await generation.call(prompt(1, num_steps=9))
    with pytest.raises(Unavailable, match="the engine is down"):
        await caller


# --- the watchdog times a step


async def test_steps_that_are_each_in_time_may_take_longer_together() -> None:
    loop = asyncio.get_running_loop()
    now, passed = loop.time, itertools.accumulate(itertools.repeat(40.0))
    async with generation_bench_of(step_s=50.0) as bench:
        caller = await bench.call(prompt(1, num_steps=4))
        for _ in range(4):
            shift = next(passed)
            loop.time = lambda shift=shift: now() + shift  # type: ignore[method-assign]
            await bench.step()
        assert len(generated((await caller)[0])) == 4
        assert not bench.engine.held
    assert bench.engine.num_terminated == 0


async def test_a_step_that_takes_too_long_fails_its_sequences_and_no_others(generation: GenerationBench) -> None:
    class Obedient(ToyEngine):
        def terminate(self) -> None:
            super().terminate()
            self._batches.get_nowait().fail(RuntimeError("told to stop"))

    engine = Obedient()
    scheduler = Scheduler(Watchdog(engine, 0.001, 3600), BUDGET, LIMIT, slots=ToySlots(4))
    result = asyncio.create_task(scheduler.start([prompt(1, num_steps=9)], sampling=MANY).result())
    (output,) = (await result).outputs
    assert isinstance(output, EngineStalled)
    assert engine.num_terminated == 1
    assert scheduler.is_alive
    await scheduler.aclose()


# --- closing, and what cannot be


async def test_closing_lets_sequences_end(generation: GenerationBench) -> None:
    caller = await generation.call(prompt(1, num_steps=3))
    closing = asyncio.create_task(generation.scheduler.aclose(drain_s=3600))
    for _ in range(3):
        assert not closing.done()
        await generation.step()
    await closing
    assert len(generated((await caller)[0])) == 3
    assert generation.slots.num_free == 4


async def test_closing_at_once_frees_every_slot(generation: GenerationBench) -> None:
    callers = [await generation.call(prompt(number, num_steps=9)) for number in (1, 2)]
    for _ in range(3):
        await generation.step()
    await generation.scheduler.aclose()
    for caller in callers:
        with pytest.raises(Unavailable, match="unloaded"):
            await caller
    assert generation.slots.num_free == 4
    assert not generation.engine.held


async def test_an_engine_that_is_lost_while_closing_waits_for_it_frees_every_slot(generation: GenerationBench) -> None:
    await generation.call(prompt(1, num_steps=9))
    batch = await generation.engine.batch()
    closing = [asyncio.create_task(generation.scheduler.aclose(drain_s)) for drain_s in (3600, 3600)]
    await turn()
    batch.fail(EngineLost("stuck"))
    await asyncio.gather(*closing)
    assert generation.slots.num_free == 4


async def test_closing_twice_at_once_frees_every_slot(generation: GenerationBench) -> None:
    await generation.call(prompt(1, num_steps=9))
    await asyncio.gather(generation.scheduler.aclose(), generation.scheduler.aclose())
    assert generation.slots.num_free == 4


async def test_an_engine_without_slots_generates_nothing() -> None:
    scheduler = Scheduler(GatedEngine(), BUDGET, LIMIT)
    with pytest.raises(ValueError, match="can generate nothing"):
        scheduler.start([row(1)], sampling=MANY)
    await scheduler.aclose()


async def test_slots_belong_to_one_engine() -> None:
    with pytest.raises(ValueError, match="no parallel ones"):
        Scheduler(ToyEngine(), BUDGET, LIMIT, parallel=[ToyEngine(), ToyEngine()], slots=ToySlots(1))
