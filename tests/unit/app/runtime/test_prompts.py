"""Rows are read in pieces whose ends are their own, and a beginning that was read is not read again: all else is the same."""

from __future__ import annotations

import asyncio
import random
from collections import abc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from app.batching.admission import QueueLimit
from app.batching.policy import Budget
from app.batching.results import BatchFailed, Event, PromptsRead
from app.batching.scheduler import Scheduler
from app.core.errors import EngineFailed
from app.core.sequences import Batch, Phase, SamplingParams, Sequence
from app.core.types import Array, Row
from app.runtime import prompts
from app.runtime.generation_engine import GenerationEngine, _slot_of
from tests.support.tiny_continuer import EOS, MAX_LENGTH, continuer_engine

SIZE = 4
"""Tokens of a piece."""
FRESH = SamplingParams(max_new_tokens=5, eos_token_ids=(EOS,))
SHARED = replace(FRESH, prefix_owner="a")
RNG = np.random.default_rng(11)
STEM = RNG.integers(4, 24, 18).tolist()


@pytest.fixture(autouse=True)
def short_pieces() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(prompts, "PROMPT_TOKENS", SIZE)
        yield


@pytest_asyncio.fixture
async def engine(tmp_path: Path, short_pieces: None) -> AsyncIterator[GenerationEngine]:
    engine = continuer_engine(tmp_path, keeps_prefixes=True)
    yield engine
    await engine.aclose()


def row_of(*token_ids: int, stem: int = len(STEM)) -> Row:
    """The first tokens of the stem, and others behind them."""
    return Row([*STEM[:stem], *token_ids], [0] * (stem + len(token_ids)))


def tokens(output: Any) -> list[int]:
    assert isinstance(output, dict), output
    return [int(token) for token in output["token_ids"]]


async def read(
    engine: GenerationEngine, rows: abc.Sequence[Row], sampling: SamplingParams = SHARED
) -> tuple[list[int], list[Array]]:
    """Read rows to their first tokens: how many tokens of each were reused, and the keys and values that it has then."""
    unread = [Sequence(row, sampling, cache_slot=100 + number) for number, row in enumerate(rows)]
    num_reused = [0] * len(rows)
    phase: Phase = "prefill"
    while unread:
        step = await engine.forward(Batch(phase, unread))
        for sequence, number in zip(unread, step.num_reused, strict=True):
            num_reused[_slot_of(sequence) - 100] += number
        unread = [sequence for sequence, reads_on in zip(unread, step.is_reading, strict=True) if reads_on]
        phase = "decode"
    cache = engine._opened().cache
    of_rows = [cache.rows(100 + number)[0] for number in range(len(rows))]
    held = [cache.past[:, :, place, :, : row.num_tokens].copy() for place, row in zip(of_rows, rows, strict=True)]
    engine.release([100 + number for number in range(len(rows))])
    return num_reused, held


async def test_a_beginning_that_is_reused_has_the_bits_of_one_that_is_read(engine: GenerationEngine) -> None:
    rows = [row_of(5, 6, 7), row_of(9), row_of(8, 8, stem=10)]
    fresh = [(await read(engine, [row], FRESH))[1][0] for row in rows]
    assert (await read(engine, rows[:1])) == ([0], [pytest.approx(fresh[0], abs=0)])
    for row, expected, size in zip(rows, fresh, (20, 16, 8), strict=True):
        num_reused, (held,) = await read(engine, [row])
        assert num_reused == [size]
        assert held.tobytes() == expected.tobytes()


async def test_who_is_there_besides_does_not_change_where_pieces_end(engine: GenerationEngine) -> None:
    rows = [row_of(5), row_of(7, 7, stem=3), row_of(4, 4, 9, stem=14), row_of(stem=1)]
    alone = [(await read(engine, [row], FRESH))[1][0] for row in rows]
    _, together = await read(engine, rows, FRESH)
    assert [held.tobytes() for held in together] == [held.tobytes() for held in alone]


async def test_rows_of_one_batch_read_what_they_share_once(engine: GenerationEngine) -> None:
    num_reused, _ = await read(engine, [row_of(5)] * 4)
    assert num_reused == [0, 16, 16, 16]
    outputs = engine.generate([row_of(5)] * 4, replace(SHARED, temperature=0.0))
    assert len({tuple(tokens(output)) for output in outputs}) == 1


async def test_what_a_step_copies_is_bounded_too(engine: GenerationEngine) -> None:
    await read(engine, [row_of(5)])
    batch = [Sequence(row_of(5, 6), SHARED, cache_slot=number) for number in range(3)]
    step = await engine.forward(Batch("prefill", batch))
    assert (step.num_reused, step.num_read) == ([16, 0, 0], SIZE)  # four pages fill it, and somebody is always read
    engine.release([0, 1, 2])


@pytest.mark.parametrize("owner", [None, "b"])
async def test_nobody_else_gets_what_was_read(engine: GenerationEngine, owner: str | None) -> None:
    await read(engine, [row_of(5)])
    assert (await read(engine, [row_of(5)], replace(SHARED, prefix_owner=owner)))[0] == [0]
    assert (await read(engine, [row_of(5)], replace(SHARED, prefix_owner=owner)))[0] == [0 if owner is None else 16]


async def test_an_engine_that_keeps_none_reads_all(tmp_path: Path) -> None:
    engine = continuer_engine(tmp_path)
    assert [(await read(engine, [row_of(5)]))[0] for _ in range(2)] == [[0], [0]]
    assert engine.slots.num_prefix_bytes == 0
    await engine.aclose()


async def test_what_a_failed_step_read_is_not_kept(engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    session, (expected,) = engine._opened(), engine.generate([row_of(5)], FRESH)
    real, lengths = session.read, list[int]()

    def failing(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        lengths.append(len(token_ids))
        if len(lengths) == 3:
            raise RuntimeError("boom")
        real(row, token_ids, options)

    monkeypatch.setattr(session, "read", failing)
    with pytest.raises(RuntimeError, match="boom"):
        await read(engine, [row_of(5)])
    engine.release([100])
    monkeypatch.setattr(session, "read", real)
    assert tokens(engine.generate([row_of(5)], SHARED)[0]) == tokens(expected)
    assert (await read(engine, [row_of(5)]))[0] == [16]


async def test_numbers_that_are_none_are_not_kept(engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine._opened()
    real = session.read

    def poisoned(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        real(row, token_ids, options)
        if 23 in token_ids:
            session.cache.past[1, 1, row, 0, int(session.cache.past_lengths[row])] = np.nan

    rows = [row_of(23, 5, 5, 5, 5, stem=6), row_of(6, 5, 5, 5, 5, stem=6)]
    monkeypatch.setattr(session, "read", poisoned)
    step = await engine.forward(Batch("prefill", [Sequence(rows[0], SHARED, cache_slot=1)]))
    while any(step.is_reading):
        step = await engine.forward(Batch("decode", [Sequence(rows[0], SHARED, cache_slot=1)]))
    assert isinstance(step.outputs[0], EngineFailed)
    engine.release([1])
    assert (await read(engine, rows[1:]))[0] == [4]
    assert np.isfinite((await read(engine, rows[1:]))[1][0]).all()


async def test_what_is_read_in_parts_is_not_kept(engine: GenerationEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    session = engine._opened()
    real = session.read

    def limited(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        if len(token_ids) > 2:
            raise RuntimeError("bad_alloc")
        real(row, token_ids, options)

    monkeypatch.setattr(session, "read", limited)
    assert [(await read(engine, [row_of(5)]))[0] for _ in range(2)] == [[0], [0]]


async def test_every_row_can_be_taken_whatever_is_kept(engine: GenerationEngine) -> None:
    for number in range(4, 9):
        await read(engine, [Row([number] * 30, [0] * 30)])
    assert engine.slots.num_prefix_bytes > 0
    assert engine.slots.num_free == engine.slots.num_rows == 8
    beams = replace(SHARED, num_beams=8, num_return_sequences=8)
    expected = tokens(engine.generate([row_of(5)], replace(beams, prefix_owner=None))[0])
    assert tokens(engine.generate([row_of(5)], beams)[0]) == expected
    await read(engine, [row_of(6)] * 8)
    assert engine.slots.num_prefix_bytes == 0, "all rows are in use"


# --- whatever is asked


WAYS = (
    FRESH,
    replace(FRESH, temperature=1.3, seed=3),
    replace(FRESH, num_beams=3, num_return_sequences=2),
    replace(FRESH, repetition_penalty=1.4, no_repeat_ngram_size=2, max_new_tokens=9),
)


@pytest.mark.parametrize(
    ("number", "num_rows"), [(60, 4), *(pytest.param(800, size, marks=pytest.mark.slow) for size in (1, 3, 4, 16))]
)
async def test_answers_are_the_same_with_and_without(tmp_path: Path, number: int, num_rows: int) -> None:
    """Of callers who come, stream, leave, run out of time and meet steps that fail."""
    rng = random.Random(number + num_rows)
    fresh, engine = (continuer_engine(tmp_path / name, num_rows, keeps_prefixes=name == "b") for name in "ab")
    events: list[Event] = []
    scheduler = Scheduler(engine, Budget(64, 8, "padded"), QueueLimit(10_000, 100_000), events.append, slots=engine.slots)
    session = engine._opened()
    real = session.read

    def sometimes(row: int, token_ids: abc.Sequence[int], options: object) -> None:
        if rng.random() < 0.01:
            raise RuntimeError("boom")
        real(row, token_ids, options)

    session.read = sometimes  # type: ignore[method-assign]
    kept = []
    for _ in range(number):
        stem, end = rng.randint(0, len(STEM)), [rng.randint(4, 23) for _ in range(rng.randint(1, 6))]
        rows, way = (
            [row_of(*end, stem=stem)] * rng.choice((1, 1, 2)),
            rng.choice([way for way in WAYS if way.num_beams <= num_rows]),
        )
        submission = scheduler.start(rows, sampling=replace(way, prefix_owner=rng.choice(("a", "b", None))))
        if rng.random() < 0.8:
            kept.append((submission, rows[0], way))
        else:
            asyncio.get_running_loop().call_later(rng.random() / 50, submission.cancel)
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    num_failed = 0
    for submission, row, way in kept:
        for output in (await submission.result()).outputs:
            if isinstance(output, EngineFailed):
                num_failed += 1
            else:
                assert tokens(output) == tokens(fresh.generate([row], way)[0]), (row, way)
    await scheduler.aclose(60)
    await engine.aclose()
    assert num_failed <= sum(event.num_rows for event in events if isinstance(event, BatchFailed)) < number
    read_events = [event for event in events if isinstance(event, PromptsRead)]
    assert sum(event.num_read for event in read_events) > 0
    assert (sum(event.num_reused for event in read_events) > 0) == (num_rows > 1), "one row leaves no room for what is kept"
    assert len(STEM) + 6 + 9 <= MAX_LENGTH
