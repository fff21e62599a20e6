"""Callers who count: how many answers each request got, and whether they were its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

OK, TOO_LATE = 200, 504
PATIENCE_S = 120.0
"""Seconds after which a request counts as never answered."""
SETTLE_S = 0.2
"""Seconds in which a second answer must come to be seen."""
TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Request:
    """One request for a label."""

    number: int
    text: str
    is_guilty: bool = False
    """Its row makes the engine fail."""
    timeout_ms: int | None = None
    leaves_after_s: float | None = None
    prefix: str = "request"

    @property
    def name(self) -> str:
        return f"{self.prefix}-{self.number}"

    def message(self) -> bytes:
        body = json.dumps({"inputs": self.text}).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nX-Request-Id: {self.name}\r\n"
        deadline = "" if self.timeout_ms is None else f"X-Request-Timeout-Ms: {self.timeout_ms}\r\n"
        return f"{head}{deadline}Content-Length: {len(body)}\r\n\r\n".encode() + body


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    request_id: str
    body: Any
    closes: bool
    """The service ends the connection with it."""


@dataclass(eq=False, slots=True)
class Tally:
    """What all callers saw."""

    sent: int = 0
    left: int = 0
    answered: int = 0
    unanswered: int = 0
    second_answers: int = 0
    wrong_answers: int = 0
    """Another request's, or other scores than the text has without a fault."""
    innocents_failed: int = 0
    longest_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    versions: Counter[int] = field(default_factory=Counter)
    """Versions of the model that gave the good answers."""

    @property
    def without_exactly_one_answer(self) -> int:
        return self.unanswered + self.second_answers + self.wrong_answers

    def count(self, request: Request, answer: Answer, expected: float | None) -> None:
        self.answered += 1
        self.statuses[answer.status] += 1
        if answer.request_id != request.name:
            self.wrong_answers += 1
        elif answer.status == OK:
            self.versions[answer.body["model"]["version"]] += 1
            best = answer.body["results"][0]["labels"][0]["score"]
            self.wrong_answers += expected is not None and abs(best - expected) > TOLERANCE
        else:
            self.errors[answer.body["type"]] += 1
            self.innocents_failed += not request.is_guilty and answer.status != TOO_LATE


async def drive(
    port: int, requests: Iterable[Request], connections: int, expected: dict[str, float], before: Tally | None = None
) -> Tally:
    """Send every request over one of the connections, each of which waits for its answer before the next.

    Args:
        port: the service's, on this machine.
        requests: what to ask.
        connections: how many at once.
        expected: from a text to its best label's score; empty where it is not known yet: then it is filled.
        before: what was counted before, to go on from.
    """
    tally, coming, is_known = before or Tally(), iter(requests), bool(expected)

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in coming:
            tally.sent += 1
            began = time.perf_counter()
            writer.write(request.message())
            if request.leaves_after_s is not None:
                await asyncio.sleep(request.leaves_after_s)
                tally.left += 1
                writer.transport.abort()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            answer = await _answer(reader)
            if answer is None:
                tally.unanswered += 1
                writer.transport.abort()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                continue
            tally.longest_s = max(tally.longest_s, time.perf_counter() - began)
            tally.count(request, answer, expected.get(request.text) if is_known else None)
            if not is_known and answer.status == OK:
                expected[request.text] = answer.body["results"][0]["labels"][0]["score"]
        tally.second_answers += await _says_more(reader)
        writer.close()

    await asyncio.gather(*(call() for _ in range(connections)))
    return tally


async def drive_until_closed(
    port: int, requests: Iterable[Request], connections: int, expected: dict[str, float]
) -> tuple[Tally, list[str]]:
    """As `drive`, with requests without an end, until the service no longer listens.

    Returns:
        What was counted, and the names of the requests whose connection was closed without an answer.
    """
    tally, coming = Tally(), iter(requests)
    closed: list[str] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for request in coming:
            tally.sent += 1
            began = time.perf_counter()
            writer.write(request.message())
            answer = await _answer(reader)
            if answer is None:
                closed.append(request.name)
                return
            tally.longest_s = max(tally.longest_s, time.perf_counter() - began)
            tally.count(request, answer, expected.get(request.text))
            if answer.closes:
                return

    async def call() -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return
            await converse(reader, writer)
            writer.transport.abort()

    await asyncio.gather(*(call() for _ in range(connections)))
    return tally, closed


async def _answer(reader: asyncio.StreamReader) -> Answer | None:
    """The next answer; None where none comes."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = dict(_headers(lines[1:]))
            body = await reader.readexactly(int(headers["content-length"]))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None
    closes = headers.get("connection", "").lower() == "close"
    return Answer(int(lines[0].split()[1]), headers.get("x-request-id", ""), json.loads(body), closes)


def _headers(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        name, _, value = line.partition(":")
        yield name.strip().lower(), value.strip()


async def _says_more(reader: asyncio.StreamReader) -> bool:
    """Whether anything comes after the last answer."""
    try:
        async with asyncio.timeout(SETTLE_S):
            return bool(await reader.read(1))
    except TimeoutError:
        return False
    except ConnectionError:
        return False
