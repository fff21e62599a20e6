"""GenerationEngine over a tiny encoder and decoder: it writes what numpy writes without a cache, whoever keeps it company."""

from __future__ import annotations

import asyncio
import random
import time
from collections import abc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import Submission
from app.batching.scheduler import Scheduler
from app.batching.watchdog import Watchdog
from app.core.errors import EngineFailed, EngineLost, EngineStalled, HooperError, InvalidArtefact, OutOfMemory
from app.core.sequences import Batch, SamplingParams, Sequence
from app.core.types import Priority, Row
from app.runtime.generation_engine import GenerationEngine
from tests.support.faulty_engine import FaultyDecoderFactory, FaultySessionFactory, Hang
from tests.support.gated_engine import turn
from tests.support.tiny_decoder import (
    EOS,
    GREEDY,
    MAX_SOURCE_TOKENS,
    START,
    VOCABULARY,
    engine_of,
    greedily,
    log_probability,
    tiny_engine,
    write_model,
)
from tests.support.tiny_model import row

PRIORITIES: tuple[Priority, ...] = ("interactive", "bulk")
BUDGET = Budget(100, 8, "padded")
LIMIT = QueueLimit(max_rows=1000, max_tokens=100_000)


def sources(number: int, seed: int = 0) -> list[Row]:
    rng = random.Random(seed)
    return [row(*rng.choices(range(3, VOCABULARY), k=rng.randint(1, MAX_SOURCE_TOKENS))) for _ in range(number)]


ROWS = sources(12)
RARE = 17
"""A token that nothing here is followed by."""


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[GenerationEngine]:
    made = tiny_engine(tmp_path / "1")
    yield made
    await made.aclose()


def tokens(output: object) -> list[int]:
    assert isinstance(output, abc.Mapping), output
    assert set(output["sequence_index"].tolist()) <= {0}
    token_ids: list[int] = output["token_ids"].tolist()
    return token_ids


def sequence(source: Row, slot: int, sampling: SamplingParams = GREEDY) -> Sequence:
    return Sequence(source, sampling, cache_slot=slot)


# --- what is written


def test_greedy_tokens_are_those_of_the_whole_computation(engine: GenerationEngine) -> None:
    written = [tokens(output) for output in engine.generate(ROWS, GREEDY)]
    assert written == [greedily(source) for source in ROWS]
    assert len({len(token_ids) for token_ids in written}) > 1, "all end together: nothing shows that one may leave"


async def test_sequences_that_come_and_go_write_what_each_writes_alone(engine: GenerationEngine) -> None:
    scheduler = Scheduler(engine, BUDGET, LIMIT, slots=engine.slots)
    rng, rows = random.Random(1), sources(60, seed=2)
    limits, submissions = [rng.randint(1, 12) for _ in rows], []
    for source, limit in zip(rows, limits, strict=True):
        submissions.append(scheduler.start([source], sampling=replace(GREEDY, max_new_tokens=limit)))
        for _ in range(rng.randint(0, 3)):
            await turn()
    for submission, source, limit in zip(submissions, rows, limits, strict=True):
        (output,) = (await submission.result()).outputs
        assert tokens(output) == greedily(source, limit)
    await scheduler.aclose()
    assert engine.slots.num_free == 8


def test_a_sequence_may_start_with_several_tokens_whatever_its_neighbours_start_with(engine: GenerationEngine) -> None:
    firsts = [(START,), (START, 7, 9), (5,), (START, 4, 4, 8)]
    batch = [
        sequence(source, slot, replace(GREEDY, decoder_input_ids=first, max_new_tokens=1))
        for slot, (source, first) in enumerate(zip(ROWS[:4], firsts, strict=True))
    ]
    step = asyncio.run(_forward(engine, Batch("prefill", batch)))
    assert [tokens(output) for output in step] == [
        greedily(source, 1, first) for source, first in zip(ROWS[:4], firsts, strict=True)
    ]


async def _forward(engine: GenerationEngine, batch: Batch) -> abc.Sequence[object]:
    return (await engine.forward(batch)).outputs


async def test_a_step_tells_what_it_came_to(engine: GenerationEngine) -> None:
    batch = [sequence(source, slot) for slot, source in enumerate(ROWS[:3])]
    step = await engine.forward(Batch("prefill", batch))
    assert step.num_computed_tokens >= sum(source.num_tokens for source in ROWS[:3])
    assert step.inference_s > 0
    assert [len(tokens(output)) for output in step.outputs] == [1, 1, 1]
    following = await engine.forward(Batch("decode", batch[1:]))
    assert (len(following.outputs), following.num_computed_tokens) == (2, 2)


async def test_sequences_that_are_left_out_of_a_step_go_on_where_they_were(engine: GenerationEngine) -> None:
    batch = [sequence(source, slot) for slot, source in enumerate(ROWS[:4])]
    written = [tokens(output) for output in (await engine.forward(Batch("prefill", batch))).outputs]
    for chosen in ([0, 2], [1], [3, 0], [2, 3, 1]):
        step = await engine.forward(Batch("decode", [batch[index] for index in chosen]))
        for index, output in zip(chosen, step.outputs, strict=True):
            written[index] += tokens(output)
    for source, token_ids in zip(ROWS, written, strict=False):
        assert token_ids == greedily(source)[: len(token_ids)]


def test_a_task_may_end_a_sequence_by_what_was_written(engine: GenerationEngine) -> None:
    def ends(token_ids: abc.Sequence[int]) -> bool:
        return len(token_ids) == 3

    (output,) = engine.generate(ROWS[:1], replace(GREEDY, ends=ends))
    assert tokens(output) == greedily(ROWS[0])[:3]


async def test_a_condition_that_fails_fails_its_sequence_alone(engine: GenerationEngine) -> None:
    batch = [sequence(ROWS[0], 1, replace(GREEDY, ends=lambda token_ids: bool(1 / 0))), sequence(ROWS[1], 2)]
    step = await engine.forward(Batch("prefill", batch))
    assert isinstance(step.outputs[0], EngineFailed)
    assert step.is_finished == [True, False]
    assert tokens(step.outputs[1]) == greedily(ROWS[1])[:1]


def test_beams_find_what_is_likelier_than_the_greedy_text(engine: GenerationEngine) -> None:
    sampling = replace(GREEDY, num_beams=4, length_penalty=0.0, early_stopping="never")
    gains = [
        log_probability(source, tokens(output)) - log_probability(source, greedily(source))
        for source, output in zip(ROWS, engine.generate(ROWS, sampling), strict=True)
    ]
    assert min(gains) > -1e-4
    assert max(gains) > 0.05


async def test_beams_are_the_same_beside_others_that_come_and_go(engine: GenerationEngine) -> None:
    wide = replace(GREEDY, num_beams=3, num_return_sequences=2)
    expected = engine.generate(ROWS, wide)
    scheduler = Scheduler(engine, BUDGET, LIMIT, slots=engine.slots)
    others = [scheduler.start([source], sampling=GREEDY) for source in sources(8, seed=5)]
    submission = scheduler.start(ROWS, sampling=wide)
    outputs = (await submission.result()).outputs
    for found, alone in zip(outputs, expected, strict=True):
        assert not isinstance(found, HooperError)
        assert {name: array.tolist() for name, array in found.items()} == {
            name: array.tolist() for name, array in alone.items()
        }
    for other, source in zip(others, sources(8, seed=5), strict=True):
        assert tokens((await other.result()).outputs[0]) == greedily(source)
    await scheduler.aclose()


def test_what_is_drawn_depends_on_the_seed_and_the_row_alone(engine: GenerationEngine) -> None:
    drawn = replace(GREEDY, temperature=1.5, seed=3)
    together = [tokens(output) for output in engine.generate(ROWS, drawn)]
    assert [tokens(engine.generate([source], drawn)[0]) for source in ROWS] == together
    assert [tokens(output) for output in engine.generate(ROWS, replace(drawn, seed=4))] != together


# --- what goes wrong


async def test_a_sequence_without_finite_numbers_fails_alone_and_spoils_nothing(tmp_path: Path) -> None:
    manifest = write_model(tmp_path)
    poison(tmp_path / "decoder.onnx", "words", RARE)
    engine = engine_of(tmp_path, manifest, num_cache_rows=3)
    bad = replace(GREEDY, decoder_input_ids=(RARE,))
    batch = [sequence(ROWS[0], 1), sequence(ROWS[1], 2, bad), sequence(ROWS[2], 3)]
    step = await engine.forward(Batch("prefill", batch))
    assert isinstance(step.outputs[1], EngineFailed)
    assert step.is_finished == [False, True, False]
    assert engine._session is not None
    assert np.isfinite(engine._session.cache.past).all(), "the row would be given to another sequence as it is"
    engine.release([2])
    batch[1] = sequence(ROWS[3], 4)
    assert tokens((await engine.forward(Batch("prefill", batch[1:2]))).outputs[0]) == greedily(ROWS[3])[:1]
    following = (await engine.forward(Batch("decode", batch))).outputs
    assert [tokens(output) for output in following] == [greedily(ROWS[index])[1:2] for index in (0, 3, 2)]
    await engine.aclose()


async def test_a_source_without_finite_numbers_fails_alone(tmp_path: Path) -> None:
    manifest = write_model(tmp_path)
    poison(tmp_path / "model.onnx", "source", 20)
    engine = engine_of(tmp_path, manifest, num_cache_rows=3)
    batch = [sequence(row(5, 6), 1), sequence(row(20, 6), 2), sequence(row(7), 3)]
    step = await engine.forward(Batch("prefill", batch))
    assert [isinstance(output, EngineFailed) for output in step.outputs] == [False, True, False]
    assert tokens(step.outputs[2]) == greedily(row(7))[:1]
    await engine.aclose()


async def test_a_source_that_the_encoder_fails_on_fails_alone(tmp_path: Path) -> None:
    factory = FaultySessionFactory()
    engine = tiny_engine(tmp_path, session_factory=factory)

    def twist(
        answered: abc.Sequence[np.ndarray], tensors: abc.Mapping[str, np.ndarray], options: object
    ) -> abc.Sequence[np.ndarray]:
        if 20 in tensors["input_ids"]:
            raise RuntimeError("boom")
        return answered

    factory.twist = twist
    batch = [sequence(row(5, 6), 1), sequence(row(20, 6), 2), sequence(row(7), 3)]
    step = await engine.forward(Batch("prefill", batch))
    assert isinstance(step.outputs[1], EngineFailed)
    assert [tokens(step.outputs[index]) for index in (0, 2)] == [greedily(row(5, 6))[:1], greedily(row(7))[:1]]
    await engine.aclose()


async def test_a_step_that_lacks_memory_is_taken_in_halves(tmp_path: Path) -> None:
    factory = FaultyDecoderFactory()
    engine = tiny_engine(tmp_path, decoder_factory=factory)
    batch = [sequence(source, slot) for slot, source in enumerate(ROWS[:5])]
    await engine.forward(Batch("prefill", batch))
    factory.max_rows = 2
    step = await engine.forward(Batch("decode", batch))
    assert [tokens(output) for output in step.outputs] == [greedily(source)[1:2] for source in ROWS[:5]]
    factory.max_rows = 0
    with pytest.raises(OutOfMemory):
        await engine.forward(Batch("decode", batch))
    await engine.aclose()


async def test_a_step_that_fails_is_the_failure_of_its_sequences_and_others_go_on(tmp_path: Path) -> None:
    factory = FaultyDecoderFactory()
    engine = tiny_engine(tmp_path, decoder_factory=factory)
    scheduler = Scheduler(engine, BUDGET, LIMIT, slots=engine.slots)
    factory.twist = failing_step
    assert isinstance((await scheduler.submit(ROWS[:1], sampling=GREEDY)).outputs[0], EngineFailed)
    factory.twist = None
    outputs = (await scheduler.submit(ROWS[:2], sampling=GREEDY)).outputs
    assert [tokens(output) for output in outputs] == [greedily(source) for source in ROWS[:2]]
    await scheduler.aclose()
    assert engine.slots.num_free == 8
    await engine.aclose()


async def test_a_step_that_is_told_to_stop_stops_and_the_engine_goes_on(tmp_path: Path) -> None:
    factory = FaultyDecoderFactory()
    engine = tiny_engine(tmp_path, decoder_factory=factory)
    hang = Hang()

    def obeying() -> None:
        hang([], {}, None)
        raise RuntimeError("terminated")

    batch = [sequence(ROWS[0], 1)]
    await engine.forward(Batch("prefill", batch))
    factory.twist = obeying
    stalling = asyncio.ensure_future(Watchdog(engine, step_s=0.05, grace_s=50).forward(Batch("decode", batch)))
    await asyncio.to_thread(hang.begun.wait)
    asyncio.get_running_loop().call_later(0.1, hang.release)
    with pytest.raises(EngineStalled):
        await stalling
    factory.twist = None
    engine.release([1])
    step = await engine.forward(Batch("prefill", [sequence(ROWS[0], 2)]))
    assert tokens(step.outputs[0]) == greedily(ROWS[0])[:1]
    await engine.aclose()


async def test_a_step_that_hangs_loses_the_engine_and_is_abandoned(tmp_path: Path) -> None:
    factory, hang = FaultyDecoderFactory(), Hang()
    engine = tiny_engine(tmp_path, decoder_factory=factory)
    batch = [sequence(ROWS[0], 1)]
    await engine.forward(Batch("prefill", batch))
    factory.twist = lambda: hang([], {}, None)
    with pytest.raises(EngineLost):
        await Watchdog(engine, step_s=0.05, grace_s=0.05).forward(Batch("decode", batch))
    await engine.aclose(0.01)
    hang.release()


async def test_a_closed_engine_writes_nothing(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    await engine.aclose()
    with pytest.raises(EngineLost):
        await engine.forward(Batch("prefill", [sequence(ROWS[0], 1)]))
    with pytest.raises(EngineLost):
        engine.generate(ROWS[:1], GREEDY)


# --- graphs that are not as the manifest says


def test_a_manifest_without_a_decoder_or_with_another_encoder_is_refused(tmp_path: Path) -> None:
    manifest = write_model(tmp_path)
    assert manifest.decoder is not None
    with pytest.raises(InvalidArtefact, match="has no decoder that reads what an encoder makes"):
        engine_of(
            tmp_path, manifest.model_copy(update={"decoder": manifest.decoder.model_copy(update={"has_encoder": False})}), 2
        )
    (output,) = manifest.graph.outputs
    graph = manifest.graph.model_copy(update={"outputs": (output.model_copy(update={"axis": "row"}),)})
    with pytest.raises(InvalidArtefact, match="does not give `cross` for each token"):
        engine_of(tmp_path, manifest.model_copy(update={"graph": graph}), 2)


def test_a_decoder_with_other_inputs_is_refused(tmp_path: Path) -> None:
    manifest = write_model(tmp_path)
    assert manifest.decoder is not None
    decoder = manifest.decoder.model_copy(update={"num_layers": 1})
    with pytest.raises(InvalidArtefact, match=r"where a decoder of its manifest takes .*'past_key.0'"):
        engine_of(tmp_path, manifest.model_copy(update={"decoder": decoder}), 2)


def test_the_engine_says_what_it_runs_on(tmp_path: Path) -> None:
    engine = tiny_engine(tmp_path)
    assert engine.execution_providers == engine.decoder_execution_providers == ["CPUExecutionProvider"]
    assert (engine.provider.precision, engine.decoder_provider.precision, engine.num_threads) == ("fp32", "fp32", 1)


def test_eos_and_the_limit_end_a_sequence(engine: GenerationEngine) -> None:
    written = [tokens(output) for output in engine.generate(ROWS, GREEDY)]
    assert all(
        (token_ids[-1] == EOS) != (len(token_ids) == GREEDY.max_new_tokens) or token_ids[-1] == EOS for token_ids in written
    )
    assert all(EOS not in token_ids[:-1] for token_ids in written)


# --- whatever happens


@pytest.mark.parametrize("number", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_sequences_that_are_left_at_any_time_leave_every_row_free_and_others_as_they_were(
    engine: GenerationEngine, number: int
) -> None:
    rng = random.Random(number)
    ways = [GREEDY, replace(GREEDY, num_beams=2), replace(GREEDY, num_beams=4), replace(GREEDY, temperature=1.0, seed=5)]
    cases = [(source, way) for source in ROWS[:6] for way in ways]
    alone = [tokens(output) for source, way in cases for output in engine.generate([source], way)]
    scheduler = Scheduler(Watchdog(engine, 60.0), BUDGET, QueueLimit(100_000, 10_000_000), slots=engine.slots)
    kept: list[tuple[Submission, int]] = []
    for _ in range(number):
        case = rng.randrange(len(cases))
        source, way = cases[case]
        deadline = time.monotonic() + rng.random() / 50 if rng.random() < 0.1 else None
        submission = scheduler.start([source], deadline, rng.choice(PRIORITIES), way)
        if deadline is None and rng.random() < 0.7:
            kept.append((submission, case))
        else:
            asyncio.get_running_loop().call_later(rng.random() / 50, submission.cancel)
        if rng.random() < 0.3:
            await turn()
    for submission, case in kept:
        assert tokens((await submission.result()).outputs[0]) == alone[case]
    await scheduler.aclose(60)
    assert engine.slots.num_free == engine.slots.num_rows
    (output,) = engine.generate(ROWS[:1], GREEDY)  # takes what was released out of use first
    assert tokens(output) == greedily(ROWS[0])
    assert engine.num_used_rows == 1


def failing_step() -> None:
    raise RuntimeError("boom")


def poison(path: Path, table: str, token_id: int) -> None:
    model = onnx.load(path)
    (words,) = [entry for entry in model.graph.initializer if entry.name == table]
    array = numpy_helper.to_array(words).copy()
    array[token_id] = np.nan
    words.CopyFrom(numpy_helper.from_array(array, table))
    onnx.save(model, path)
