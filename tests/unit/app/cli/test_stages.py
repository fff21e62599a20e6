"""Groups of inputs overlap, come out in order, and stop together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest

from app.cli.inputs import Asked
from app.cli.stages import UNDER_WAY, in_order
from app.core.errors import HooperError, InvalidInput, Unavailable


class Groups:
    """Gives a number of groups of one input, then ends or fails; answers each when it is let go."""

    def __init__(self, number: int, failure: HooperError | None = None) -> None:
        self.taken = 0
        self._number, self._failure = number, failure
        self.asked: list[int] = []
        self.gates = [asyncio.Event() for _ in range(number)]
        self.is_full = asyncio.Event()

    def take(self) -> Sequence[Asked]:
        if self.taken == self._number:
            if self._failure:
                raise self._failure
            return []
        self.taken += 1
        return [Asked("-", self.taken - 1, {})]

    async def answer(self, inputs: Sequence[Asked]) -> list[dict[str, Any]]:
        line = inputs[0].line
        self.asked.append(line)
        if len(self.asked) == UNDER_WAY:
            self.is_full.set()
        await self.gates[line].wait()
        return [{"line": line}]


async def collect(take: Any, answer: Any, found: list[int]) -> None:
    async for _, answers in in_order(take, answer):
        found.append(answers[0]["line"])


async def test_what_is_answered_first_waits_for_what_was_asked_first() -> None:
    groups = Groups(6)
    for gate in groups.gates[1:]:
        gate.set()
    found = []
    async with aclosing(in_order(groups.take, groups.answer)) as answered:
        first = asyncio.ensure_future(anext(answered))
        await groups.is_full.wait()
        assert (groups.taken, first.done()) == (UNDER_WAY, False)
        groups.gates[0].set()
        found.append((await first)[1][0]["line"])
        found += [answers[0]["line"] async for _, answers in answered]
    assert found == list(range(6))


async def test_what_stops_the_reading_is_raised_after_everything_before_it() -> None:
    groups = Groups(4, InvalidInput("cut off"))
    for gate in groups.gates:
        gate.set()
    found: list[int] = []
    with pytest.raises(InvalidInput, match="cut off"):
        await collect(groups.take, groups.answer, found)
    assert found == [0, 1, 2, 3]


async def test_a_group_that_fails_ends_it_and_leaves_nothing_running() -> None:
    groups = Groups(6)

    async def answer(inputs: Sequence[Asked]) -> list[dict[str, Any]]:
        if inputs[0].line == 1:
            raise Unavailable("the engine is down")
        return await groups.answer(inputs)

    groups.gates[0].set()
    before = asyncio.all_tasks()
    found: list[int] = []
    with pytest.raises(Unavailable, match="engine is down"):
        await collect(groups.take, answer, found)
    assert found == [0]
    assert asyncio.all_tasks() == before


async def test_whoever_leaves_early_leaves_nothing_running() -> None:
    groups = Groups(6)
    groups.gates[0].set()
    before = asyncio.all_tasks()
    async with aclosing(in_order(groups.take, groups.answer)) as answered:
        await anext(answered)
    assert asyncio.all_tasks() == before
