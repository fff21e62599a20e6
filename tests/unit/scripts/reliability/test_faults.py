"""The command that injects faults: a short run of it, and that it would notice what it promises to notice."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.reliability.callers import AnswerCounts, CountedRequest, Said, drive
from scripts.reliability.engines import CONTINUER_FAULTS, FAULTS, WRITER_FAULTS, InjectedFault
from scripts.reliability.faults import FaultSetup, complaints, inject
from tests.support.live_service import ROOT
from tests.support.tiny_continuer import publish_tiny_continuer
from tests.support.tiny_decoder import publish_tiny_decoder
from tests.support.tiny_model import publish_tiny

GOOD = {"model": {"name": "tiny", "version": 1}, "results": [{"labels": [{"label": "good", "score": 0.75}]}]}
Reply = Callable[[str], bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish_tiny(tmp_path / "published")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("faults", "publish"),
    [(FAULTS, publish_tiny), (WRITER_FAULTS, publish_tiny_decoder), (CONTINUER_FAULTS, publish_tiny_continuer)],
    ids=["a classifier", "a writer", "one that continues"],
)
def test_under_every_fault_each_request_gets_exactly_one_answer(
    tmp_path: Path, faults: Sequence[InjectedFault], publish: Callable[[Path], Path]
) -> None:
    folder = publish(tmp_path / "published")
    output = tmp_path / "faults.json"
    command = [sys.executable, "-m", "scripts.reliability.faults", "--model", folder, "--requests", "64", "--connections", "8"]
    command += ["--run-s", "2", "--poison", "not", "w23"]
    ran = subprocess.run([*command, "--output", output], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(output.read_text())
    assert [entry["fault"] for entry in told["faults"]] == [entry.name for entry in faults]
    assert told["requests"] >= 64 * len(faults)
    assert told["without_exactly_one_answer"] == 0


@pytest.mark.slow
def test_what_was_not_as_promised_is_told(folder: Path) -> None:
    fault = next(fault for fault in FAULTS if fault.name == "every fifth run raises")
    strict = replace(fault, statuses=frozenset({200}), spares_innocents=True)
    found = complaints(strict, inject(fault, FaultSetup.of(folder, "cpu", 30, 1, 60.0)))
    assert found == [f"{fault.name}: statuses [503]", f"{fault.name}: 6 innocent requests failed"]


# --- callers who count


def reply(name: str, status: int = 200, body: object = GOOD) -> bytes:
    content = json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\nX-Request-Id: {name}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


async def counts_of(answer: Reply, *requests: CountedRequest, expected: dict[str, Said] | None = None) -> AnswerCounts:
    """What one caller counts of a server that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            await reader.readexactly(int(head.partition("Content-Length: ")[2].partition("\r")[0]))
            said = answer(head.partition("X-Request-Id: ")[2].partition("\r")[0])
            writer.write(said)
            if not said:
                break
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        return await drive(server.sockets[0].getsockname()[1], requests, 1, {"a": 0.75} if expected is None else expected)


REQUESTS = (CountedRequest(1, "a"), CountedRequest(2, "a"))


async def test_one_answer_each_is_as_it_should_be() -> None:
    counts = await counts_of(reply, *REQUESTS)
    assert (counts.sent, counts.answered, counts.without_exactly_one_answer) == (2, 2, 0)


async def test_a_request_without_an_answer_is_noticed() -> None:
    counts = await counts_of(lambda name: b"" if name == "request-1" else reply(name), *REQUESTS)
    assert (counts.sent, counts.answered, counts.unanswered) == (2, 1, ["request-1"])
    assert counts.without_exactly_one_answer == 1


async def test_a_second_answer_is_noticed() -> None:
    counts = await counts_of(lambda name: reply(name) * 2, REQUESTS[0])
    assert counts.second_answers == 1
    assert (await counts_of(lambda name: reply(name) * 2, *REQUESTS)).wrong_answers == 1


async def test_another_requests_answer_is_noticed() -> None:
    assert (await counts_of(lambda _: reply("request-9"), *REQUESTS)).wrong_answers == 2


async def test_another_texts_score_is_noticed() -> None:
    assert (await counts_of(reply, *REQUESTS, expected={"a": 0.9})).wrong_answers == 2


async def test_without_a_fault_scores_are_learnt() -> None:
    expected: dict[str, Said] = {}
    assert (await counts_of(reply, *REQUESTS, expected=expected)).wrong_answers == 0
    assert expected == {"a": 0.75}


async def test_only_innocent_requests_are_counted_as_such_and_deadlines_are_no_fault() -> None:
    guilty, innocent, late = (
        CountedRequest(1, "a", is_guilty=True),
        CountedRequest(2, "a"),
        CountedRequest(3, "a", timeout_ms=1),
    )
    statuses = {"request-1": 503, "request-2": 503, "request-3": 504}
    counts = await counts_of(lambda name: reply(name, statuses[name], {"type": "x"}), guilty, innocent, late)
    assert counts.innocents_failed == 1
    assert counts.errors == {"x": 3}
