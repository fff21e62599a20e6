"""Callers who count how many answers each request got, and whether they were its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.manifest import Manifest
from app.tasks.registry import installed_tasks
from scripts.bench.events import EVENT_STREAM, SentEvent
from scripts.bench.service import OK, Address
from scripts.bench.streams import read_events

TIMED_OUT = 504
TIMEOUT_S = 120.0
"""Seconds after which a request counts as never answered."""
SETTLE_S = 0.2
"""Seconds in which a second answer must come to be seen."""
TOLERANCE = 0.01
WRITTEN = {"max_new_tokens": 16, "num_beams": 1}
"""What texts are written with: pieces of a beam search cannot be told."""
Said = float | str
"""What is compared of an answer."""


@dataclass(frozen=True, slots=True)
class CountedRequest:
    """A request for what a model says to a text. `is_guilty`: its row makes the engine fail, so that it may."""

    number: int
    text: str
    is_guilty: bool = False
    timeout_ms: int | None = None
    leaves_after_s: float | None = None
    prefix: str = "request"
    path: str = "/v1/classify"
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the body, beside the text."""

    @property
    def id(self) -> str:
        return f"{self.prefix}-{self.number}"

    def message(self) -> bytes:
        body = json.dumps({"inputs": self.text, **self.fields}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nX-Request-Id: {self.id}\r\n"
        deadline = "" if self.timeout_ms is None else f"X-Request-Timeout-Ms: {self.timeout_ms}\r\n"
        return f"{head}{deadline}Content-Length: {len(body)}\r\n\r\n".encode() + body


USED_ROWS = "hooper_cache_rows_used"
"""Metric of the rows of caches in which texts are being written."""


def native_path(task: str) -> str:
    """The first route of a task."""
    return f"/{installed_tasks()[task].routes[0].route.path}"


def served_models(address: Address) -> dict[str, str]:
    """Names of models to their tasks."""
    return {model["name"]: model["task"] for model in address.get("/v1/models")["models"]}


def writing_models(address: Address) -> list[str]:
    """Names of those that have a cache."""
    return [labels.split('"')[1] for labels in address.metric("hooper_cache_rows")]


def used_rows(address: Address, seconds: float) -> int:
    """Rows of caches in use, once what nobody waits for any more has had so much time to leave them."""
    until = time.monotonic() + seconds
    while (used := address.metric_sum(USED_ROWS)) and time.monotonic() < until:
        time.sleep(SETTLE_S)
    return int(used)


def request_for(manifest: Manifest, number: int, text: str, prefix: str = "request") -> CountedRequest:
    """On the first route of a model's task; every other one for a model that writes reads along."""
    written = {**WRITTEN, "stream": number % 2 == 1} if manifest.decoder is not None else {}
    fields = {"model": manifest.name, **written}
    return CountedRequest(number, text, prefix=prefix, path=native_path(manifest.task), fields=fields)


@dataclass(frozen=True, slots=True)
class CountedAnswer:
    """An answer; `closes`: the service ends the connection with it. Of a stream the status and the body are those that its end
    tells, and `is_whole` says whether its pieces are the text of its end."""

    status: int
    request_id: str
    body: Any
    closes: bool
    is_whole: bool = True


@dataclass(eq=False, slots=True)
class AnswerCounts:
    """What all callers saw."""

    sent: int = 0
    left: int = 0
    answered: int = 0
    second_answers: int = 0
    wrong_answers: int = 0
    """Another request's, or another one than the text has without a fault."""
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

    def add(self, request: CountedRequest, answer: CountedAnswer, expected: Said | None, seconds: float) -> None:
        self.answered += 1
        self.longest_s = max(self.longest_s, seconds)
        self.statuses[answer.status] += 1
        if answer.request_id != request.id or not answer.is_whole:
            self.wrong_answers += 1
        elif answer.status == OK:
            self.versions[answer.body["model"]["version"]] += 1
            self.wrong_answers += expected is not None and not _is_alike(_said(answer.body), expected)
        else:
            self.errors[answer.body["type"]] += 1
            self.innocents_failed += not request.is_guilty and answer.status != TIMED_OUT


def _said(body: Any) -> Said:
    """The best label's score, or of a model that writes all that it says."""
    result = body["results"][0]
    return float(result["labels"][0]["score"]) if "labels" in result else json.dumps(result)


def _is_alike(said: Said, expected: Said) -> bool:
    if isinstance(said, float) and isinstance(expected, float):
        return abs(said - expected) <= TOLERANCE
    return said == expected


async def drive(
    port: int,
    requests: Iterable[CountedRequest],
    connections: int,
    expected: dict[str, Said],
    counts: AnswerCounts | None = None,
    until_closed: bool = False,
) -> AnswerCounts:
    """Send every request over one of the connections, each of which waits for its answer before the next.

    Args:
        port: the service's, on this machine.
        connections: how many at once.
        expected: from a text to what is said to it; empty where it is not known yet: then it is filled.
        counts: of before, to go on from.
        until_closed: end, however many requests there are, when the service no longer listens.
    """
    callers = _Callers(iter(requests), expected, bool(expected), counts or AnswerCounts())

    async def call() -> None:
        goes_on = True
        while goes_on:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                if until_closed:
                    return
                raise
            goes_on = await callers.converse(reader, writer)
            writer.transport.abort()

    await asyncio.gather(*(call() for _ in range(connections)))
    return callers.counts


@dataclass(frozen=True, slots=True)
class _Callers:
    """What all connections share."""

    coming: Iterator[CountedRequest]
    expected: dict[str, Said]
    is_known: bool
    """Whether `expected` is asked, and not filled."""
    counts: AnswerCounts

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Over one connection, until it ends (True: ask for another) or there are no more requests."""
        for request in self.coming:
            self.counts.sent += 1
            began = time.perf_counter()
            writer.write(request.message())
            if request.leaves_after_s is not None:
                await asyncio.sleep(request.leaves_after_s)
                self.counts.left += 1
                return True
            answer = await _read_answer(reader)
            if answer is None:
                self.counts.unanswered.append(request.id)
                return True
            expected = self.expected.get(request.text) if self.is_known else None
            self.counts.add(request, answer, expected, time.perf_counter() - began)
            if not self.is_known and answer.status == OK:
                self.expected[request.text] = _said(answer.body)
            if answer.closes:
                return True
        self.counts.second_answers += await _says_more(reader)
        return False


async def _read_answer(reader: asyncio.StreamReader) -> CountedAnswer | None:
    """The next answer; None where none comes."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            fields = (line.partition(":") for line in lines[1:])
            headers = {name.strip().lower(): value.strip() for name, _, value in fields}
            is_stream = headers.get("content-type", "").startswith(EVENT_STREAM)
            events = [event async for event in read_events(reader)] if is_stream else []
            body = b"" if is_stream else await reader.readexactly(int(headers["content-length"]))
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
        return None
    closes = headers.get("connection", "").lower() == "close"
    status, request_id = int(lines[0].split()[1]), headers.get("x-request-id", "")
    if not is_stream:
        return CountedAnswer(status, request_id, json.loads(body), closes)
    return _end_of_stream(events, request_id, closes)


def _end_of_stream(events: Sequence[SentEvent], request_id: str, closes: bool) -> CountedAnswer | None:
    """What the last event says, of which there must be one and no more; None where there is none."""
    *pieces, last = events or [SentEvent("", None)]
    if last.name not in ("done", "error") or any(piece.name != "token" for piece in pieces):
        return None
    if last.name == "error":
        return CountedAnswer(last.data["status"], request_id, last.data, closes)
    text = "".join(piece.data["text"] for piece in pieces)
    return CountedAnswer(OK, request_id, last.data, closes, not pieces or text in last.data["results"][0].values())


async def _says_more(reader: asyncio.StreamReader) -> bool:
    """Whether anything comes after the last answer."""
    try:
        async with asyncio.timeout(SETTLE_S):
            return bool(await reader.read(1))
    except (TimeoutError, ConnectionError):
        return False
