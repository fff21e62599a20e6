"""The watchdog: a run ends in a stated time, and its end says whether the engine may be asked again."""

from __future__ import annotations

import asyncio

import pytest

from app.batching.watchdog import Watchdog
from app.core.errors import EngineLost, EngineStalled
from app.core.sequences import Batch
from tests.support.gated_engine import GatedEngine, turn
from tests.support.tiny_model import row

SOON_S = 0.001
NEVER_S = 3600.0


class Obedient(GatedEngine):
    """An engine whose run ends when it is told to stop, with this."""

    def __init__(self, end: BaseException | None) -> None:
        super().__init__()
        self._end = end

    def terminate(self) -> None:
        super().terminate()
        batch = self._batches.get_nowait()
        batch.finish() if self._end is None else batch.fail(self._end)


async def test_a_run_that_ends_in_time_is_left_alone() -> None:
    engine = GatedEngine()
    running = asyncio.ensure_future(Watchdog(engine, NEVER_S).forward(Batch.of_rows([row(1)])))
    (await engine.batch()).finish()
    assert len((await running).outputs) == 1
    assert engine.num_terminated == 0


async def test_what_a_run_raises_in_time_is_raised() -> None:
    engine = GatedEngine()
    running = asyncio.ensure_future(Watchdog(engine, NEVER_S).forward(Batch.of_rows([row(1)])))
    (await engine.batch()).fail(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await running


async def test_a_run_that_stops_when_it_is_told_to_has_stalled() -> None:
    said = RuntimeError("terminate flag")
    engine = Obedient(said)
    with pytest.raises(EngineStalled, match=r"did not end a batch of 2 rows within 0\.001 s$") as stalled:
        await Watchdog(engine, SOON_S, NEVER_S).forward(Batch.of_rows([row(1), row(2)]))
    assert engine.num_terminated == 1
    assert stalled.value.__cause__ is said


async def test_a_run_that_is_cancelled_when_it_is_told_to_stop_has_stalled() -> None:
    with pytest.raises(EngineStalled, match="did not end a batch of 1 rows"):
        await Watchdog(Obedient(asyncio.CancelledError()), SOON_S, NEVER_S).forward(Batch.of_rows([row(1)]))


async def test_an_engine_that_is_lost_when_it_is_told_to_stop_is_not_asked_again() -> None:
    with pytest.raises(EngineLost, match="thread has died"):
        await Watchdog(Obedient(EngineLost("the thread has died")), SOON_S, NEVER_S).forward(Batch.of_rows([row(1)]))


async def test_how_long_a_run_may_take_to_stop_is_told_apart_from_how_long_it_may_take() -> None:
    with pytest.raises(EngineLost, match=r"within 0\.001 s, nor stop within 0\.002 s more"):
        await Watchdog(GatedEngine(), SOON_S, 2 * SOON_S).forward(Batch.of_rows([row(1)]))


async def test_a_run_that_ends_well_while_it_is_told_to_stop_is_an_answer() -> None:
    assert len((await Watchdog(Obedient(None), SOON_S, NEVER_S).forward(Batch.of_rows([row(1)]))).outputs) == 1


async def test_a_run_that_does_not_stop_is_lost_and_not_waited_for() -> None:
    engine = GatedEngine()
    with pytest.raises(EngineLost, match=r"within 0\.001 s, nor stop within 0\.001 s more"):
        await Watchdog(engine, SOON_S).forward(Batch.of_rows([row(1)]))
    assert engine.num_terminated == 1
    batch = await engine.batch()
    await turn()
    assert batch.is_given_up  # nobody is called back by a run that comes to an end after all


async def test_a_caller_who_is_cancelled_cancels_the_wait() -> None:
    engine = GatedEngine()
    running = asyncio.ensure_future(Watchdog(engine, NEVER_S).forward(Batch.of_rows([row(1)])))
    batch = await engine.batch()
    running.cancel()
    await turn()
    assert running.cancelled()
    assert batch.is_given_up
