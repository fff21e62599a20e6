"""The scheduler over an engine of many steps: streams, and sequences that join and leave a running batch."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from app.batching.policy import Budget
from app.batching.results import BatchRan, RowsDropped
from app.core.errors import TooLarge, Unavailable
from app.core.sequences import SamplingParams
from tests.support.gated_engine import turn
from tests.support.generation_bench import BUDGET, MANY, GenerationBench, collect, generation_bench_of
from tests.support.scheduler_bench import row
from tests.support.toy_engine import generated, prompt

# --- steps


async def test_a_sequence_is_prefilled_once_then_decoded_until_it_ends_by_itself(generation: GenerationBench) -> None:
    caller = await generation.call(prompt(7, num_steps=3))
    assert [await generation.step() for _ in range(3)] == [("prefill", [7]), ("decode", [7]), ("decode", [7])]
    (output,) = await caller
    assert generated(output) == [(7, 1), (7, 2), (7, 3)]
    assert not generation.engine.has_batch


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_sequence_ends_after_as_many_steps_as_its_caller_wants(generation: GenerationBench, limit: int) -> None:
    caller = await generation.call(prompt(7, num_steps=100), sampling=SamplingParams(limit))
    for _ in range(limit):
        await generation.step()
    (output,) = await caller
    assert generated(output) == [(7, step) for step in range(1, limit + 1)]


async def test_steps_are_told_with_their_phase_rows_and_tokens(generation: GenerationBench) -> None:
    submission = await generation.start(prompt(1, num_steps=2, num_tokens=12))
    result = asyncio.create_task(submission.result())
    for _ in range(2):
        await generation.step()
    assert [(event.phase, event.num_rows, event.num_tokens) for event in generation.events if isinstance(event, BatchRan)] == [
        ("prefill", 1, 12),
        ("decode", 1, 1),
    ]
    assert (await result).inference_s == pytest.approx(1.0)  # half a second for each of the two


async def test_the_time_of_decoding_counts_for_those_who_must_stay_away(generation: GenerationBench) -> None:
    caller = await generation.call(prompt(1, num_steps=2, num_tokens=10))
    for seconds in (1.0, 9.0):
        (await generation.engine.batch()).finish(inference_s=seconds)
        await turn()
    await caller
    following = await generation.call(prompt(2, num_steps=1, num_tokens=10))
    (await generation.engine.batch()).finish(inference_s=1.0)
    await following  # 10 tokens in 1 s at first, then 10 in 10: lately 10 in 2.8
    assert generation.scheduler.retry_after_s(100) == pytest.approx(14.0)


# --- streaming


async def test_a_stream_gives_each_step_as_it_comes(generation: GenerationBench) -> None:
    async with contextlib.aclosing((await generation.start(prompt(7, num_steps=3))).stream()) as steps:
        for number in (1, 2, 3):
            following = asyncio.ensure_future(anext(steps))
            await turn()
            assert not following.done()
            await generation.step()
            step = await following
            assert (generated(step.output), step.is_last) == ([(7, number)], number == 3)
        assert await anext(steps, None) is None


async def test_the_engine_has_its_next_step_before_anybody_reads_the_last_one(generation: GenerationBench) -> None:
    submission = await generation.start(prompt(7, num_steps=3))
    has_next = list[bool]()

    async def read() -> None:
        async for _ in submission.stream():
            has_next.append(generation.engine.has_batch)

    reading = asyncio.ensure_future(read())
    for _ in range(3):
        await generation.step()
    await reading
    assert has_next == [True, True, False]


async def test_what_came_before_the_stream_was_iterated_is_not_lost(generation: GenerationBench) -> None:
    submission = await generation.start(prompt(7, num_steps=2))
    for _ in range(2):
        await generation.step()
    steps = [step async for step in submission.stream()]
    assert [(*generated(step.output), step.is_last) for step in steps] == [((7, 1), False), ((7, 2), True)]


async def test_a_stream_of_several_rows_says_whose_each_step_is(generation: GenerationBench) -> None:
    streaming = asyncio.ensure_future(collect(await generation.start(prompt(7, num_steps=1), prompt(8, num_steps=2))))
    for _ in range(2):
        await generation.step()
    assert [(step.index, step.is_last) for step in await streaming] == [(0, True), (1, False), (1, True)]


async def test_rows_that_are_encoded_can_be_streamed_too(generation: GenerationBench) -> None:
    streaming = asyncio.ensure_future(collect(await generation.start(row(1), row(2, 95), sampling=None)))
    for _ in range(2):
        await generation.step()
    assert [(step.index, step.is_last) for step in await streaming] == [(0, True), (1, True)]


async def test_a_stream_that_is_closed_early_frees_its_slot_at_the_next_tick(generation: GenerationBench) -> None:
    steps = (await generation.start(prompt(7, num_steps=100))).stream()
    following = asyncio.ensure_future(anext(steps))
    await generation.step()
    await following
    await steps.aclose()
    await generation.step()  # the one that had begun
    assert generation.slots.num_free == 4
    assert generation.events[-1] == RowsDropped(1, "client_left")


async def test_a_stream_ends_where_somebody_cancels_its_submission(generation: GenerationBench) -> None:
    submission = await generation.start(prompt(7, num_steps=100))
    streaming = asyncio.ensure_future(collect(submission))
    await generation.step()
    submission.cancel()
    assert len(await streaming) == 1


async def test_a_stream_ends_in_the_error_where_the_scheduler_is_closed(generation: GenerationBench) -> None:
    streaming = asyncio.ensure_future(collect(await generation.start(prompt(7, num_steps=100))))
    await generation.step()
    await generation.scheduler.aclose()
    with pytest.raises(Unavailable, match="unloaded"):
        await streaming


# --- joining and leaving


async def test_a_newcomer_joins_the_running_batch(generation: GenerationBench) -> None:
    await generation.call(prompt(1, num_steps=9))
    assert await generation.step() == ("prefill", [1])
    await generation.call(prompt(2, num_steps=9))
    assert [await generation.step() for _ in range(3)] == [("decode", [1]), ("prefill", [2]), ("decode", [1, 2])]


async def test_who_is_done_leaves_the_others_running(generation: GenerationBench) -> None:
    short = await generation.call(prompt(1, num_steps=2))
    long = await generation.call(prompt(2, num_steps=3))
    assert [await generation.step() for _ in range(5)] == [
        ("prefill", [1]),
        ("decode", [1]),
        ("prefill", [2]),
        ("decode", [2]),
        ("decode", [2]),
    ]
    assert generated((await short)[0]) == [(1, 1), (1, 2)]
    assert generated((await long)[0]) == [(2, 1), (2, 2), (2, 3)]


async def test_a_slot_that_is_freed_is_taken_at_the_same_tick() -> None:
    async with generation_bench_of(num_slots=1) as bench:
        callers = [await bench.call(prompt(number, num_steps=2)) for number in (1, 2)]
        assert [await bench.step() for _ in range(4)] == [("prefill", [1]), ("decode", [1]), ("prefill", [2]), ("decode", [2])]
        await asyncio.gather(*callers)


async def test_no_more_are_admitted_than_there_are_slots() -> None:
    async with generation_bench_of(num_slots=2) as bench:
        await bench.call(*(prompt(number, num_steps=9) for number in (1, 2, 3)))
        assert [await bench.step() for _ in range(3)] == [("prefill", [1, 2]), ("decode", [1, 2]), ("decode", [1, 2])]
        assert bench.scheduler.num_waiting_rows == 1


async def test_newcomers_keep_to_the_token_budget(generation: GenerationBench) -> None:
    await generation.call(*(prompt(number, num_steps=9, num_tokens=40) for number in (1, 2, 3)))
    assert [await generation.step() for _ in range(3)] == [("prefill", [1, 2]), ("decode", [1, 2]), ("prefill", [3])]


async def test_rows_to_encode_pass_by_those_that_wait_for_a_slot() -> None:
    async with generation_bench_of(num_slots=1) as bench:
        await bench.call(prompt(1, num_steps=9))
        await bench.step()
        await bench.call(prompt(2, num_steps=9))
        encoded = await bench.call(row(3), sampling=None)
        assert [await bench.step() for _ in range(2)] == [("decode", [1]), ("encode", [3])]
        await encoded


async def test_a_batch_is_of_one_kind(generation: GenerationBench) -> None:
    _, release = await generation.call(row(0), sampling=None), (await generation.engine.batch()).finish
    await generation.call(prompt(1, num_steps=1))
    await generation.call(row(2), sampling=None)
    await generation.call(prompt(3, num_steps=1))
    release()
    assert [await generation.step() for _ in range(2)] == [("prefill", [1, 3]), ("encode", [2])]


async def test_rows_to_encode_are_not_overtaken_by_those_to_generate(generation: GenerationBench) -> None:
    await generation.call(row(0), sampling=None)
    batch = await generation.engine.batch()
    await generation.call(row(1), sampling=None)
    await generation.call(prompt(2, num_steps=1))
    batch.finish()
    assert [await generation.step() for _ in range(2)] == [("encode", [1]), ("prefill", [2])]


# --- nobody starves


async def test_a_flood_of_newcomers_holds_up_no_sequence_for_more_than_a_batch() -> None:
    async with generation_bench_of(num_slots=50) as bench:
        await bench.call(prompt(1, num_steps=5))
        await bench.step()
        phases = []
        for number in range(10, 20):  # somebody new is there before every step
            await bench.call(prompt(number, num_steps=50))
            phases.append((await bench.step())[0])
        assert phases == ["decode", "prefill"] * 5


@pytest.mark.parametrize("sampling", [MANY, None], ids=["to generate", "to encode"])
async def test_sequences_that_go_on_hold_up_no_newcomer_for_more_than_a_step(
    generation: GenerationBench, sampling: SamplingParams | None
) -> None:
    await generation.call(prompt(1, num_steps=100))
    for _ in range(5):
        await generation.step()
    await generation.call(row(2), sampling=sampling)
    await generation.step()  # had begun
    assert (await generation.step())[1] == [2]


async def test_more_sequences_than_a_batch_holds_take_turns() -> None:
    async with generation_bench_of(num_slots=6) as bench:
        await bench.call(*(prompt(number, num_steps=50) for number in range(1, 7)))
        ran = [await bench.step() for _ in range(9)]
        counts = {number: sum(number in firsts for _, firsts in ran) for number in range(1, 7)}
        assert max(counts.values()) - min(counts.values()) <= 1
        assert all(len(firsts) <= BUDGET.max_batch_rows for _, firsts in ran)


async def test_bulk_sequences_are_admitted_after_interactive_ones() -> None:
    async with generation_bench_of(num_slots=1) as bench:
        await bench.call(prompt(1, num_steps=1))
        await bench.call(prompt(2, num_steps=1), priority="bulk")
        await bench.call(prompt(3, num_steps=1))
        assert [firsts for _, firsts in [await bench.step() for _ in range(3)]] == [[1], [3], [2]]


# --- beams


def with_beams(number: int) -> SamplingParams:
    return SamplingParams(max_new_tokens=1000, num_beams=number)


async def test_a_sequence_with_beams_has_a_row_for_each_from_its_admission_to_its_end() -> None:
    async with generation_bench_of(num_slots=5) as bench:
        await bench.call(prompt(1, num_steps=2), sampling=with_beams(3))
        await bench.call(prompt(2, num_steps=1), sampling=with_beams(3))
        assert await bench.step() == ("prefill", [1])
        assert bench.slots.num_free == 2
        assert await bench.step() == ("decode", [1])
        assert await bench.step() == ("prefill", [2])
        assert bench.slots.num_free == 5


async def test_a_decode_step_counts_beams_as_rows() -> None:
    async with generation_bench_of(num_slots=8, budget=Budget(100, 4, "padded")) as bench:
        for number in (1, 2, 3):
            await bench.call(prompt(number, num_steps=9), sampling=with_beams(2))
        phases = [await bench.step() for _ in range(5)]
        assert ("decode", [1, 2, 3]) not in phases
        assert sum(firsts == [1, 2] or firsts == [3, 1] or firsts == [2, 3] for _, firsts in phases) >= 2


async def test_more_beams_than_the_cache_has_rows_are_refused_at_the_door() -> None:
    async with generation_bench_of(num_slots=3) as bench:
        with pytest.raises(TooLarge, match="4 beams"):
            await bench.start(prompt(1, num_steps=2), sampling=with_beams(4))
        assert not bench.engine.has_batch


async def test_each_row_of_a_submission_may_be_generated_in_its_own_way() -> None:
    async with generation_bench_of(num_slots=4) as bench:
        each = [SamplingParams(max_new_tokens=limit) for limit in (1, 2)]
        caller = await bench.call(prompt(1, num_steps=9), prompt(2, num_steps=9), sampling=each)
        for _ in range(2):
            await bench.step()
        assert [generated(output) for output in await caller] == [[(1, 1)], [(2, 1), (2, 2)]]
