"""What is read ahead is bounded, comes out in order, and fails where the reading failed."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable

import pytest

from app.cli import ahead
from app.cli.ahead import ReadAhead
from app.cli.inputs import Asked
from app.core.errors import InvalidInput


def asked(line: int, num_characters: int = 1) -> Asked:
    return Asked("-", line, {}, num_characters=num_characters)


def each(inputs: Iterable[Asked]) -> Generator[Asked, None, None]:
    yield from inputs


def take_all(reading: ReadAhead) -> list[list[int]]:
    taken = []
    while some := reading.take():
        taken.append([one.line for one in some])
    return taken


def test_everything_comes_out_in_order() -> None:
    taken = take_all(ReadAhead(each(map(asked, range(1000)))))
    assert [line for some in taken for line in some] == list(range(1000))
    assert max(map(len, taken)) <= ahead.MAX_ITEMS


@pytest.mark.parametrize(("num_characters", "most"), [(1, ahead.MAX_ITEMS), (ahead.MAX_CHARACTERS // 3, 3), (10**9, 1)])
def test_no_more_is_held_than_is_allowed(num_characters: int, most: int) -> None:
    drawn: list[int] = []
    full = threading.Event()

    def inputs() -> Generator[Asked, None, None]:
        for line in range(1000):
            drawn.append(line)
            if line == most:  # one more than fits is drawn, and then waits
                full.set()
            yield asked(line, num_characters)

    reading = ReadAhead(inputs())
    full.wait()
    assert len(drawn) == most + 1
    assert len(reading.take()) == most
    reading.close()


def test_what_stops_the_reading_is_raised_after_what_came_before() -> None:
    def inputs() -> Generator[Asked, None, None]:
        yield asked(1)
        raise InvalidInput("cut off")

    reading = ReadAhead(inputs())
    with pytest.raises(InvalidInput, match="cut off"):
        take_all(reading)
    with pytest.raises(InvalidInput, match="cut off"):
        reading.take()


def test_what_is_there_is_handed_out_without_waiting_for_more() -> None:
    more = threading.Event()

    def inputs() -> Generator[Asked, None, None]:
        yield asked(1)
        more.wait()
        yield asked(2)

    reading = ReadAhead(inputs())
    assert [one.line for one in reading.take()] == [1]
    more.set()
    assert take_all(reading) == [[2]]


def test_nothing_at_all_is_the_end() -> None:
    assert ReadAhead(each([])).take() == []


def test_a_closed_one_lets_its_thread_go() -> None:
    ended = threading.Event()

    def inputs() -> Generator[Asked, None, None]:
        try:
            while True:
                yield asked(1)
        finally:
            ended.set()

    reading = ReadAhead(inputs())
    reading.take()
    reading.close()
    ended.wait()


def test_whoever_reads_may_hold_less() -> None:
    taken = take_all(ReadAhead(each(map(asked, range(100))), max_items=3))
    assert max(map(len, taken)) <= 3
    taken = take_all(ReadAhead(each(asked(line, 10) for line in range(100)), max_characters=40))
    assert max(map(len, taken)) <= 4
