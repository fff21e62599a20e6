"""Contestants are asked in turns, under the same load, and nobody is always the first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.bench.report import Report
from scripts.bench.service import Address
from scripts.bench.versus import Contestant, Standing, alone, ratio, stand
from tests.unit.scripts.bench.test_load import HOST, Server

MODEL = {"name": "sentiment", "version": 1, "provider": "CPUExecutionProvider", "precision": "int8", "layout": "packed"}


@contextmanager
def answering(status: Callable[[int], int] = lambda _: 200) -> Iterator[tuple[Server, Address]]:
    """A server on a loop of its own: the load has one, too."""
    one = Server(status)
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(asyncio.start_server(one.serve, HOST, 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield one, Address(HOST, listening.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


def test_each_is_asked_in_its_own_way_in_every_turn() -> None:
    with answering() as (ours, here), answering() as (theirs, there):
        found = stand(
            [
                Contestant("ours", here, "/v1/classify", lambda text: {"inputs": text}),
                Contestant("theirs", there, "/predict", lambda text: {"input": [text]}),
            ],
            "short", ["good"], connections=2, seconds=0.05, num_turns=3,
        )  # fmt: skip
    assert [one.title for one in found] == ["ours", "theirs"]
    assert {str(body) for body in ours.bodies} == {"{'inputs': 'good'}"}
    assert {str(body) for body in theirs.bodies} == {"{'input': ['good']}"}
    assert (ours.num_connections, theirs.num_connections) == (6, 6)
    for one in found:
        assert len(one.turns) == 3
        assert min(one.turns) > 0
        assert one.requests_per_s == round(sum(one.turns) / 3, 1)
    assert [one.failed for one in found] == [0, 0]


def state_of(number: int) -> str:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_others_stand_still_while_one_is_asked() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        here = Contestant("here", Address(HOST, 1), "/", lambda text: {}, lambda: [one.pid])
        there = Contestant("there", Address(HOST, 1), "/", lambda text: {}, lambda: [other.pid])
        with alone(here, [here, there]):
            os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)  # returns once it is stopped
            assert (state_of(one.pid) in "RS", state_of(other.pid)) == (True, "T")
        os.waitid(os.P_PID, other.pid, os.WCONTINUED | os.WNOWAIT)
        assert state_of(other.pid) in "RS"


def test_a_failure_counts() -> None:
    with answering(lambda number: 400 if number % 2 else 200) as (_, here):
        (one,) = stand([Contestant("ours", here, "/", lambda text: {})], "short", ["x"], 1, 0.05, 1)
    assert one.failed > 0


def standing(title: str, rate: float, p50: float) -> Standing:
    return Standing("short", 32, title, rate, [rate], p50, p50, 0)


def test_a_ratio_is_ours_over_theirs() -> None:
    both = [standing("ours", 400, 50), standing("theirs", 100, 200)]
    assert ratio(both, "ours", "theirs", "short", 32) == (4, 0.25)


def test_the_page_shows_every_contestant_as_a_ratio_of_the_first() -> None:
    page = Report(MODEL, standings=[standing("ours", 400, 50), standing("theirs", 100, 200)]).to_markdown()
    assert "| short | 32 | ours | 400 | 1.00 | 50 | 1.00 | 50 | 0 |" in page
    assert "| short | 32 | theirs | 100 | 4.00 | 200 | 0.25 | 200 | 0 |" in page


def test_one_that_never_answers_is_no_division_by_zero() -> None:
    page = Report(MODEL, standings=[standing("ours", 400, 50), standing("theirs", 0.0, float("nan"))]).to_markdown()
    assert "| theirs | 0.0 | no answer |" in page
