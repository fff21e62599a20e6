"""EngineThread: every call is told its end, also when the thread dies under it or is abandoned in a call."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.core.errors import EngineLost
from app.runtime.thread import EngineThread
from tests.support.gated_engine import turn

LONG_S = 3600.0


class Bench:
    """A thread, and whether it said that it ended."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.thread = EngineThread("of-a-test", self.ended.set)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def alive() -> list[str]:
    return [entry.name for entry in threading.enumerate() if entry.name == "engine-of-a-test"]


async def test_calls_are_made_in_turn_on_one_thread(bench: Bench) -> None:
    made = await asyncio.gather(*[bench.thread.call(threading.get_ident) for _ in range(5)])
    assert len(set(made)) == 1
    assert made[0] != threading.get_ident()
    assert await bench.thread.aclose(LONG_S)


async def test_what_a_call_raises_is_raised_and_the_thread_goes_on(bench: Bench) -> None:
    with pytest.raises(ZeroDivisionError):
        await bench.thread.call(lambda: 1 // 0)
    assert await bench.thread.call(lambda: 5) == 5
    assert await bench.thread.aclose(LONG_S)


async def test_a_thread_that_nobody_called_was_never_there(bench: Bench) -> None:
    assert alive() == []
    assert await bench.thread.aclose(LONG_S)
    assert bench.ended.is_set()
    with pytest.raises(EngineLost, match="has ended"):
        await bench.thread.call(lambda: 5)


async def test_closing_lets_calls_finish_and_may_be_repeated(bench: Bench) -> None:
    going = asyncio.ensure_future(bench.thread.call(lambda: 5))
    await asyncio.sleep(0)
    assert await bench.thread.aclose(LONG_S)
    assert await bench.thread.aclose(LONG_S)
    assert await going == 5
    assert alive() == []
    assert bench.ended.is_set()


def die() -> None:
    raise SystemExit


async def test_when_the_thread_dies_everybody_who_waits_is_told(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    first = asyncio.ensure_future(bench.thread.call(gate.wait))
    dying, behind = (asyncio.ensure_future(bench.thread.call(function)) for function in (die, int))
    await turn()
    gate.set()
    assert await first
    for entry in (dying, behind):
        with pytest.raises(EngineLost, match="engine-of-a-test has died"):
            await entry
    assert "engine-of-a-test has died" in caplog.text
    with pytest.raises(EngineLost):
        await bench.thread.call(int)
    assert await bench.thread.aclose(LONG_S)


async def test_a_thread_that_is_abandoned_ends_when_its_call_returns(bench: Bench) -> None:
    gate = threading.Event()
    stuck = asyncio.ensure_future(bench.thread.call(gate.wait))
    await turn()
    assert not await bench.thread.aclose(0.001)
    assert not bench.ended.is_set()
    gate.set()
    assert await stuck
    assert await asyncio.to_thread(bench.ended.wait, 30)


async def test_a_caller_who_left_is_not_told(bench: Bench) -> None:
    gate = threading.Event()
    gone = asyncio.ensure_future(bench.thread.call(gate.wait))
    await turn()
    gone.cancel()
    gate.set()
    assert await bench.thread.call(lambda: 5) == 5
    assert gone.cancelled()
    assert await bench.thread.aclose(LONG_S)


def test_a_thread_whose_callers_event_loop_is_gone_goes_on() -> None:
    bench, gate = Bench(), threading.Event()

    async def leave() -> None:
        asyncio.ensure_future(bench.thread.call(gate.wait)).add_done_callback(lambda _: None)
        await turn()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(bench.thread.call(lambda: 5)) == 5
    assert asyncio.run(bench.thread.aclose(LONG_S))
