"""Inputs are read ahead, cut into chunks that are the same whenever they are read, and answered in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli import pipeline
from app.cli.pipeline import UNDER_WAY, Prefetch, chunks, in_order
from app.core.errors import HooperError, InvalidInput, Unavailable
from app.data import Input


class Groups:
    """Gives a number of groups of one input, then ends or fails; answers each when it is let go."""

    def __init__(self, number: int, failure: HooperError | None = None) -> None:
        self.taken = 0
        self._number, self._failure = number, failure
        self.asked: list[int] = []
        self.gates = [asyncio.Event() for _ in range(number)]
        self.is_full = asyncio.Event()

    def take(self) -> Sequence[Input]:
        if self.taken == self._number:
            if self._failure:
                raise self._failure
            return []
        self.taken += 1
        return [Input("-", self.taken - 1, {})]

    async def answer(self, inputs: Sequence[Input]) -> list[dict[str, Any]]:
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

    async def answer(inputs: Sequence[Input]) -> list[dict[str, Any]]:
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


# --- read ahead


def item(line: int, num_characters: int = 1) -> Input:
    return Input("-", line, {}, num_characters=num_characters)


def each(inputs: Iterable[Input]) -> Generator[Input, None, None]:
    yield from inputs


def take_all(reading: Prefetch) -> list[list[int]]:
    taken = []
    while some := reading.take():
        taken.append([entry.line for entry in some])
    return taken


def test_everything_comes_out_in_order() -> None:
    taken = take_all(Prefetch(each(map(item, range(1000)))))
    assert [line for some in taken for line in some] == list(range(1000))
    assert max(map(len, taken)) <= pipeline.MAX_ITEMS


@pytest.mark.parametrize(("num_characters", "most"), [(1, pipeline.MAX_ITEMS), (pipeline.MAX_CHARACTERS // 3, 3), (10**9, 1)])
def test_no_more_is_held_than_is_allowed(num_characters: int, most: int) -> None:
    drawn: list[int] = []
    full = threading.Event()

    def inputs() -> Generator[Input, None, None]:
        for line in range(1000):
            drawn.append(line)
            if line == most:  # one more than fits is drawn, and then waits
                full.set()
            yield item(line, num_characters)

    reading = Prefetch(inputs())
    full.wait()
    assert len(drawn) == most + 1
    assert len(reading.take()) == most
    reading.close()


def test_what_stops_the_reading_is_raised_after_what_came_before() -> None:
    def inputs() -> Generator[Input, None, None]:
        yield item(1)
        raise InvalidInput("cut off")

    reading = Prefetch(inputs())
    with pytest.raises(InvalidInput, match="cut off"):
        take_all(reading)
    with pytest.raises(InvalidInput, match="cut off"):
        reading.take()


def test_what_is_there_is_handed_out_without_waiting_for_more() -> None:
    more = threading.Event()

    def inputs() -> Generator[Input, None, None]:
        yield item(1)
        more.wait()
        yield item(2)

    reading = Prefetch(inputs())
    assert [entry.line for entry in reading.take()] == [1]
    more.set()
    assert take_all(reading) == [[2]]


def test_nothing_at_all_is_the_end() -> None:
    assert Prefetch(each([])).take() == []


def test_a_closed_one_lets_its_thread_go() -> None:
    ended = threading.Event()

    def inputs() -> Generator[Input, None, None]:
        try:
            while True:
                yield item(1)
        finally:
            ended.set()

    reading = Prefetch(inputs())
    reading.take()
    reading.close()
    ended.wait()


def test_whoever_reads_may_hold_less() -> None:
    taken = take_all(Prefetch(each(map(item, range(100))), max_items=3))
    assert max(map(len, taken)) <= 3
    taken = take_all(Prefetch(each(item(line, 10) for line in range(100)), max_characters=40))
    assert max(map(len, taken)) <= 4


# --- chunks


LENGTHS = st.lists(st.integers(0, 30), max_size=40)


def rows_of(lengths: list[int]) -> list[Input]:
    return [Input("in.txt", line, {"text": "x"}, num_characters=length) for line, length in enumerate(lengths, start=1)]


@given(LENGTHS)
def test_each_row_is_in_one_group_in_order(lengths: list[int]) -> None:
    cut = list(chunks(rows_of(lengths), 4, 50))
    assert [row.line for chunk in cut for row in chunk] == list(range(1, len(lengths) + 1))


@given(LENGTHS)
def test_no_group_is_larger_than_it_may_be_but_one_of_a_single_long_row(lengths: list[int]) -> None:
    for chunk in chunks(rows_of(lengths), 4, 20):
        assert 1 <= len(chunk) <= 4
        assert len(chunk) == 1 or sum(row.num_characters for row in chunk) <= 20


@given(LENGTHS)
def test_a_group_ends_only_where_the_next_row_has_no_room(lengths: list[int]) -> None:
    cut = list(chunks(rows_of(lengths), 4, 20))
    for chunk, following in pairwise(cut):
        assert len(chunk) == 4 or sum(row.num_characters for row in [*chunk, following[0]]) > 20
