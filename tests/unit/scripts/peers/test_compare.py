"""Contestants are asked in turns, under the same load, and nobody is always the first."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.core.errors import SetupError
from scripts.bench.service import Address, ProcessStats
from scripts.peers.compare import Contestant, PeerResult, check_answers, compare, keep, others_stopped, page
from tests.unit.scripts.bench.test_load import HOST, Server


def service(address: Address, pid: int | None = None) -> Any:
    """A service in a process of its own, or in this one, which must not be stopped."""
    own: list[ProcessStats] = []
    return SimpleNamespace(
        address=address, stats=SimpleNamespace(descendants=lambda: own) if pid is None else ProcessStats(pid)
    )


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
        found = compare(
            [
                Contestant("ours", service(here), "/v1/classify", lambda text: {"inputs": text}),
                Contestant("theirs", service(there), "/predict", lambda text: {"input": [text]}),
            ],
            "short", ["good"], connections=2, seconds=0.05, num_turns=3,
        )  # fmt: skip
    assert [match.title for match in found] == ["ours", "theirs"]
    assert {str(body) for body in ours.bodies} == {"{'inputs': 'good'}"}
    assert {str(body) for body in theirs.bodies} == {"{'input': ['good']}"}
    assert (ours.num_connections, theirs.num_connections) == (6, 6)
    for match in found:
        assert len(match.turns) == 3
        assert min(match.turns) > 0
        assert match.requests_per_s == sorted(match.turns)[1]
    assert [match.failed for match in found] == [0, 0]


def answerer(title: str, score: float) -> Contestant:
    """Gives every text the same answer."""
    posted = SimpleNamespace(post=lambda path, body: {"a": score, "b": 1 - score})
    return Contestant(title, SimpleNamespace(address=posted), "/", lambda text: text)  # type: ignore[arg-type]


def test_others_must_answer_as_ours_in_fp32_and_ours_in_int8_only_tells_how_far_it_is() -> None:
    ours = [answerer("Hooper in int8", 0.75), answerer("Hooper in fp32", 0.7)]
    found = check_answers([*ours, answerer("theirs", 0.7004)], ["x", "y"], ["a", "b"])
    assert found == {"Hooper in int8": 0.05, "Hooper in fp32": 0.0, "theirs": 0.0004}
    with pytest.raises(SetupError, match=r"others answers otherwise, by up to 0\.400"):
        check_answers([*ours, answerer("others", 0.3)], ["x"], ["a", "b"])


def test_calibrated_scores_are_compared_as_they_were_before() -> None:
    half = 0.6**0.5 / (0.6**0.5 + 0.4**0.5)  # the softmax of logits that were divided by 2
    ours = answerer("Hooper", half)
    assert check_answers([ours, answerer("theirs", 0.6)], ["x"], ["a", "b"], 2.0)["theirs"] < 1e-6
    with pytest.raises(SetupError, match="theirs answers otherwise"):
        check_answers([ours, answerer("theirs", 0.6)], ["x"], ["a", "b"])


def state_of(number: int) -> str:
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]


def test_the_others_stand_still_while_one_is_asked() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as one, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        here = Contestant("here", service(Address(HOST, 1), one.pid), "/", lambda text: {})
        there = Contestant("there", service(Address(HOST, 1), other.pid), "/", lambda text: {})
        with others_stopped(here, [here, there]):
            os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)  # returns once it is stopped
            assert (state_of(one.pid) in "RS", state_of(other.pid)) == (True, "T")
        os.waitid(os.P_PID, other.pid, os.WCONTINUED | os.WNOWAIT)
        assert state_of(other.pid) in "RS"


def test_a_failure_counts() -> None:
    with answering(lambda number: 400 if number % 2 else 200) as (_, here):
        (one,) = compare([Contestant("ours", service(here), "/", lambda text: {})], "short", ["x"], 1, 0.05, 1)
    assert one.failed > 0


def report(*standings: PeerResult) -> dict[str, Any]:
    machine = {"processor": "a processor"}
    return {"model": "m/1", "taken": "today", "machine": machine, "standings": [asdict(standing) for standing in standings]}


def standing(title: str, rate: float, p50: float, connections: int = 32) -> PeerResult:
    return PeerResult("short", connections, title, rate, [rate], p50, p50, 0)


def test_the_page_shows_every_contestant_as_a_ratio_of_the_first() -> None:
    text = page(report(standing("ours", 400, 50), standing("theirs", 100, 200)))
    assert "| short | 32 | ours | 400 | 1.00 | 50 | 1.00 | 50 | 0 |" in text
    assert "| short | 32 | theirs | 100 | 4.00 | 200 | 0.25 | 200 | 0 |" in text


def test_one_that_never_answers_is_no_division_by_zero() -> None:
    text = page(report(standing("ours", 400, 50), standing("theirs", 0.0, float("nan"))))
    assert "| theirs | 0.0 | no answer |" in text


def test_everybody_has_a_bar_for_each_load(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    both = (("Ours", 123.0), ("Theirs", 45.0))
    keep(report(*(standing(title, rate, 1.0, number) for title, rate in both for number in (1, 32))), tmp_path)
    drawn = (tmp_path / "peers.svg").read_text()
    for word in ("Ours", "Theirs", "1 connections", "32 connections", "requests/s"):
        assert f"{word}</text>" in drawn
    assert drawn.count(">123</text>") == drawn.count(">45</text>") == 2
    assert "peers.svg" in (tmp_path / "peers.md").read_text()
