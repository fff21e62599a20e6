"""GenerationEngine without an encoder: a row is read in pieces and continued, whoever keeps it company."""

from __future__ import annotations

import itertools
import threading
from collections import abc
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import pytest_asyncio

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.scheduler import Scheduler
from app.core.errors import EngineFailed, InvalidArtefact, InvalidInput, OutOfMemory, TooLarge
from app.core.sequences import Batch, SamplingParams, Sequence
from app.core.types import Row
from app.runtime import prompts
from app.runtime.decoder_session import open_decoder
from app.runtime.generation_engine import GenerationEngine
from tests.support.tiny_continuer import (
    CPU,
    EOS,
    KV_HEADS,
    LAYERS,
    MAX_LENGTH,
    SIZE,
    VOCABULARY,
    continuer_engine,
    write_continuer,
)

GREEDY = SamplingParams(max_new_tokens=8, eos_token_ids=(EOS,))
RNG = np.random.default_rng(3)
ROWS = [Row(RNG.integers(4, 24, size).tolist(), [0] * size) for size in (1, 2, 5, 9, 14, 20, 3)]


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[GenerationEngine]:
    engine = continuer_engine(tmp_path)
    yield engine
    await engine.aclose()


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> int:
    """Tokens of rows that a step reads."""
    monkeypatch.setattr(prompts, "PROMPT_TOKENS", 4)
    return 4


def tokens(output: object) -> list[int]:
    assert isinstance(output, dict), output
    return [int(token) for token in output["token_ids"]]


def token_by_token(folder: Path, row: Row, sampling: SamplingParams = GREEDY) -> list[int]:
    """What the graph alone writes, which reads one token at a time."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    shape = (1, KV_HEADS, MAX_LENGTH, SIZE)
    cache = {f"past_{kind}.{n}": np.zeros(shape, np.float32) for kind in ("key", "value") for n in range(LAYERS)}
    read = list(row.input_ids)
    for place in itertools.count():
        given = {
            "input_ids": np.array([[read[place]]]),
            "past_lengths": np.array([place], np.int32),
            "total_length": np.array(place + 1, np.int32),
        }
        outputs = dict(zip(names, session.run(None, {**given, **cache}), strict=True))
        logits = outputs.pop("logits")
        cache = {name.removeprefix("new_"): tensor for name, tensor in outputs.items()}
        if place == len(read) - 1:
            read.append(int(logits[0].argmax()))
            if read[-1] == EOS or len(read) == row.num_tokens + sampling.max_new_tokens or len(read) == MAX_LENGTH:
                return read[row.num_tokens :]
    raise AssertionError


def test_rows_read_at_once_are_continued_as_token_by_token(engine: GenerationEngine, tmp_path: Path) -> None:
    written = [tokens(output) for output in engine.generate(ROWS, GREEDY)]
    assert written == [token_by_token(tmp_path, row) for row in ROWS]
    assert len({tuple(token_ids) for token_ids in written}) > 4


def test_rows_read_in_pieces_are_continued_the_same(engine: GenerationEngine, tmp_path: Path, short_steps: int) -> None:
    expected = [token_by_token(tmp_path, row) for row in ROWS]
    assert [tokens(output) for output in engine.generate(ROWS, GREEDY)] == expected
    for beams in (2, 3):
        sampling = replace(GREEDY, num_beams=beams, num_return_sequences=2)
        alone = [tokens(engine.generate([row], sampling)[0]) for row in ROWS[:4]]
        assert [tokens(output) for output in engine.generate(ROWS[:4], sampling)] == alone
    engine.generate([], GREEDY)
    assert engine.num_used_rows <= 8


async def test_a_step_reads_so_much_and_writes_what_is_being_written(engine: GenerationEngine, short_steps: int) -> None:
    writing, long, waiting = (Sequence(ROWS[n], GREEDY, cache_slot=slot) for slot, n in enumerate((1, 3, 2)))
    first = await engine.forward(Batch("prefill", [writing]))
    assert first.is_reading == [False]
    assert first.num_computed_tokens == 2
    step = await engine.forward(Batch("prefill", [long, waiting]))
    assert (step.is_reading, step.num_computed_tokens) == ([True, True], short_steps)
    assert [len(tokens(output)) for output in step.outputs] == [0, 0]
    step = await engine.forward(Batch("decode", [writing, long, waiting]))
    assert (step.is_reading, step.num_computed_tokens) == ([False, True, True], short_steps + 1)
    assert len(tokens(step.outputs[0])) == 1
    step = await engine.forward(Batch("decode", [writing, long, waiting]))  # the last of nine; no part of the next four
    assert (step.is_reading, step.num_computed_tokens) == ([False, False, True], 1 + 1)
    step = await engine.forward(Batch("decode", [writing, long, waiting]))
    assert (step.is_reading, step.num_computed_tokens) == ([False, False, True], 2 + short_steps)
    step = await engine.forward(Batch("decode", [writing, long, waiting]))
    assert (step.is_reading, step.num_computed_tokens) == ([False, False, False], 2 + 1)


async def test_the_scheduler_counts_no_step_that_reads(tmp_path: Path, short_steps: int) -> None:
    engine = continuer_engine(tmp_path, num_cache_rows=3)
    scheduler = Scheduler(engine, Budget(64, 8, "padded"), QueueLimit(64, 1024), slots=engine.slots)
    short = replace(GREEDY, max_new_tokens=2)
    outputs = (await scheduler.submit(ROWS, sampling=short)).outputs
    assert [tokens(output) for output in outputs] == [token_by_token(tmp_path, row, short) for row in ROWS]
    submission = scheduler.start(ROWS[5:6], sampling=short)
    steps = [step async for step in submission.stream()]
    assert [len(tokens(step.output)) for step in steps] == [1] * len(steps)
    await scheduler.aclose()
    assert engine.slots.num_free == 3
    await engine.aclose()


def test_a_long_row_is_continued_as_far_as_there_is_room(engine: GenerationEngine, tmp_path: Path) -> None:
    row = Row([5, 6] * (MAX_LENGTH // 2 - 1), [0] * (MAX_LENGTH - 2))
    (output,) = engine.generate([row], replace(GREEDY, max_new_tokens=30, eos_token_ids=()))
    assert len(tokens(output)) == 2
    with pytest.raises(TooLarge, match="a text of 40 tokens leaves no room for another among the 40"):
        engine.generate([Row([5] * MAX_LENGTH, [0] * MAX_LENGTH)], GREEDY)


def test_penalties_count_what_is_continued(engine: GenerationEngine) -> None:
    row = ROWS[3]
    best = tokens(engine.generate([row], GREEDY)[0])[0]
    repeated = Row([*row.input_ids, best, *row.input_ids], [0] * (2 * row.num_tokens + 1))
    (output,) = engine.generate([repeated], replace(GREEDY, no_repeat_ngram_size=row.num_tokens + 1))
    assert tokens(output)[0] != best or tokens(engine.generate([repeated], GREEDY)[0])[0] != best


async def test_memory_that_is_short_lets_fewer_tokens_be_read_at_once(tmp_path: Path) -> None:
    engine = continuer_engine(tmp_path)
    lengths: list[int] = []

    assert engine._session is not None
    read = engine._session.read

    def limited(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        if len(token_ids) > 3:
            raise RuntimeError("bad_alloc")
        lengths.append(len(token_ids))
        read(row, token_ids, options)

    engine._session.read = limited  # type: ignore[method-assign]
    (output,) = engine.generate([ROWS[4]], GREEDY)
    assert tokens(output) == token_by_token(tmp_path, ROWS[4])
    assert sum(lengths) == 14

    def never(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        raise RuntimeError("bad_alloc")

    engine._session.read = never  # type: ignore[method-assign]
    with pytest.raises(OutOfMemory, match="to read one token"):
        engine.generate([ROWS[4]], GREEDY)
    await engine.aclose()


async def test_a_row_without_finite_numbers_fails_alone(tmp_path: Path) -> None:
    engine = continuer_engine(tmp_path, num_cache_rows=3)
    assert engine._session is not None
    real = engine._session.read

    def poisoned(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        real(row, token_ids, options)
        if 23 in token_ids:
            engine._session.logits[row] = np.nan  # type: ignore[union-attr]

    engine._session.read = poisoned  # type: ignore[method-assign]
    rows = [Row([5, 6], [0] * 2), Row([5, 23], [0] * 2), Row([7], [0])]
    batch = [Sequence(row, GREEDY, cache_slot=number) for number, row in enumerate(rows)]
    step = await engine.forward(Batch("prefill", batch))
    assert isinstance(step.outputs[1], EngineFailed)
    assert [tokens(step.outputs[n]) for n in (0, 2)] == [token_by_token(tmp_path, rows[n])[:1] for n in (0, 2)]
    await engine.aclose()


class Anything:
    """A constraint that allows every token but the end, and its own filter."""

    def __init__(self, num_allowed: int = 99) -> None:
        self.was_asked, self.num_left, self.written = threading.Event(), num_allowed, list[int]()

    def start(self) -> Anything:
        return self

    def allowed(self) -> Any:
        self.was_asked.set()
        self.num_left -= 1
        if self.num_left < 0:
            raise InvalidInput("is stuck", "schema")
        return np.arange(VOCABULARY) != EOS

    def advance(self, token_id: int) -> None:
        self.written.append(token_id)


async def test_what_may_be_written_is_found_out_while_the_decoder_takes_its_step(
    engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, anything = engine._opened(), Anything()

    def after_the_mask(run: abc.Callable[..., None], *arguments: Any) -> None:
        assert anything.was_asked.wait(30), "it is found out behind the step"
        anything.was_asked.clear()
        run(*arguments)

    monkeypatch.setattr(session, "read", partial(after_the_mask, session.read))
    monkeypatch.setattr(session, "step", partial(after_the_mask, session.step))
    (output,) = engine.generate([ROWS[1]], replace(GREEDY, constraint=anything, max_new_tokens=5))
    assert tokens(output) == anything.written
    assert 99 - anything.num_left == len(anything.written) == 5


async def test_a_form_that_cannot_be_followed_fails_its_sequence_alone(engine: GenerationEngine, tmp_path: Path) -> None:
    sampling = replace(GREEDY, constraint=Anything(num_allowed=1))
    batch = [Sequence(ROWS[1], sampling, cache_slot=1), Sequence(ROWS[2], GREEDY, cache_slot=2)]
    steps = [await engine.forward(Batch(phase, batch)) for phase in ("prefill", "decode")]
    assert isinstance(steps[1].outputs[0], InvalidInput)
    assert [tokens(step.outputs[1])[0] for step in steps] == token_by_token(tmp_path, ROWS[2])[:2]


def test_a_decoder_behind_an_encoder_is_none_of_these(tmp_path: Path) -> None:
    manifest = write_continuer(tmp_path)
    assert manifest.decoder is not None
    wrong = manifest.model_copy(update={"decoder": manifest.decoder.model_copy(update={"has_encoder": True})})
    session = open_decoder(tmp_path / "model.onnx", manifest.decoder, CPU, 1)
    with pytest.raises(InvalidArtefact, match="has no decoder that reads a text itself"):
        GenerationEngine(wrong, None, tmp_path / "model.onnx", session, CPU, 2)
