"""Callers who count how many answers each request got, and whether they were its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from scripts.bench.service import OK

TIMED_OUT = 504
TIMEOUT_S = 120.0
"""Seconds after which a request counts as never answered."""
SETTLE_S = 0.2
"""Seconds in which a second answer must come to be seen."""
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class CountedRequest:
    """A request for a label. `is_guilty`: its row makes the engine fail, so that it may."""

    number: int
    text: str
    is_guilty: bool = False
    timeout_ms: int | None = None
    leaves_after_s: float | None = None
    prefix: str = "request"

    @property
    def id(self) -> str:
        return f"{self.prefix}-{self.number}"

    def message(self) -> bytes:
        body = json.dumps({"inputs": self.text}).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nX-Request-Id: {self.id}\r\n"
        deadline = "" if self.timeout_ms is None else f"X-Request-Timeout-Ms: {self.timeout_ms}\r\n"
        return f"{head}{deadline}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class CountedAnswer:
    """An answer; `closes`: the service ends the connection with it."""

    status: int
    request_id: str
    body: Any
    closes: bool


@dataclass(eq=False, slots=True)
class AnswerCounts:
    """What all callers saw."""

    sent: int = 0
    left: int = 0
    answered: int = 0
    second_answers: int = 0
    wrong_answers: int = 0
    """Another request's, or other scores than the text has without a fault."""
    innocents_failed: int = 0
    longest_s: float = 0.0
    unanswered: list[str] = field(default_factory=list)
    """Ids of the requests whose connection ended, or that waited too long."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    """Versions of the model that gave the good answers."""

    @property
    def without_exactly_one_answer(self) -> int:
        return len(self.unanswered) + self.second_answers + self.wrong_answers

    def add(self, request: CountedRequest, answer: CountedAnswer, expected: float | None, seconds: float) -> None:
        self.answered += 1
        self.longest_s = max(self.longest_s, seconds)
        self.statuses[answer.status] += 1
        if answer.request_id != request.id:
            self.wrong_answers += 1
        elif answer.status == OK:
            self.versions[answer.body["model"]["version"]] += 1
            self.wrong_answers += expected is not None and abs(_best_score(answer) - expected) > TOLERANCE
        else:
            self.errors[answer.body["type"]] += 1
            self.innocents_failed += not request.is_guilty and answer.status != TIMED_OUT


def _best_score(answer: CountedAnswer) -> float:
    score: float = answer.body["results"][0]["labels"][0]["score"]
    return score


async def drive(  # noqa: C901 - one loop, with each way in which a request may end
    port: int,
    requests: Iterable[CountedRequest],
    connections: int,
    expected: dict[str, float],
    counts: AnswerCounts | None = None,
    until_closed: bool = False,
) -> AnswerCounts:
    """Send every request over one of the connections, each of which waits for its answer before the next.

    Args:
        port: the service's, on this machine.
        requests: what to ask.
        connections: how many at once.
        expected: from a text to its best label's score; empty where it is not known yet: then it is filled.
        counts: of before, to go on from.
        until_closed: end, however many requests there are, when the service no longer listens.
    """
    counts, coming, is_known = counts or AnswerCounts(), iter(requests), bool(expected)

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Over one connection, until it ends (True: ask for another) or there are no more requests."""
        for request in coming:
            counts.sent += 1
            began = time.perf_counter()
            writer.write(request.message())
            if request.leaves_after_s is not None:
                await asyncio.sleep(request.leaves_after_s)
                counts.left += 1
                return True
            answer = await _read_answer(reader)
            if answer is None:
                counts.unanswered.append(request.id)
                return True
            counts.add(request, answer, expected.get(request.text) if is_known else None, time.perf_counter() - began)
            if not is_known and answer.status == OK:
                expected[request.text] = _best_score(answer)
            if answer.closes:
                return True
        counts.second_answers += await _says_more(reader)
        return False

    async def call() -> None:
        goes_on = True
        while goes_on:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                if until_closed:
                    return
                raise
            goes_on = await converse(reader, writer)
            writer.transport.abort()

    await asyncio.gather(*(call() for _ in range(connections)))
    return counts


async def _read_answer(reader: asyncio.StreamReader) -> CountedAnswer | None:
    """The next answer; None where none comes."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = (line.partition(":") for line in lines[1:])
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            body = await reader.readexactly(int(headers["content-length"]))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None
    closes = headers.get("connection", "").lower() == "close"
    return CountedAnswer(int(lines[0].split()[1]), headers.get("x-request-id", ""), json.loads(body), closes)


async def _says_more(reader: asyncio.StreamReader) -> bool:
    """Whether anything comes after the last answer."""
    try:
        async with asyncio.timeout(SETTLE_S):
            return bool(await reader.read(1))
    except (TimeoutError, ConnectionError):
        return False
