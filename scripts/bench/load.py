"""Load on a service over prepared requests: callers who wait for each answer (closed loop), and callers who do not (open loop).

It runs on the cores of what it measures, so it is cheap: bytes are made beforehand, connections are kept, and there is no task
for each request.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, TypeVar

import httptools

from app.core.errors import SetupError
from scripts.bench.service import OK, Address

PATH = "/v1/classify"
"""Where the benchmark sends its texts."""
FAILED = 0
"""Status of a request whose connection broke."""
MAX_CONNECTIONS = 512
FRESH_S = 4.0
"""Seconds that an idle connection is used after: the service closes it after five, and its request would be lost in between."""
Answer = TypeVar("Answer")
OnStatus = Callable[[int], None]
"""Called with the status, or `FAILED`, once the whole answer is there."""


def model_state(address: Address, name: str) -> dict[str, Any]:
    """What the service says of a model that classifies texts.

    Raises:
        SetupError: it has none of this name, or it does not classify.
    """
    try:
        state: dict[str, Any] = address.get(f"/v1/models/{name.partition('/')[0]}")
        status, answer = address.ask(PATH, "POST", {"model": name, "inputs": "a"})
    except OSError as error:
        raise SetupError(f"{address.url} does not tell of a model {name}: {error}") from error
    if status != OK:
        detail = json.loads(answer).get("detail", "")
        raise SetupError(f"{name} does not classify texts, which is what the benchmark sends: {detail}")
    return state


def prepared_request(host: str, path: str, body: Any, key: str = "") -> bytes:
    """The bytes of a POST request with a JSON body, and a key where there is one."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return "\r\n".join([*lines, "", ""]).encode() + content


def text_requests(path: str, texts: Sequence[str], items: int = 1, **fields: Any) -> list[bytes]:
    """Requests with so many texts each as their `inputs`; with one, as a plain text."""
    groups = [texts[start : start + items] for start in range(0, len(texts) - items + 1, items)]
    return [prepared_request("localhost", path, fields | {"inputs": group if items > 1 else group[0]}) for group in groups]


def whole_answer_status(data: bytes) -> int | None:
    """The status of an answer that is all there, which most are; None where a parser must tell."""
    head, end, body = data.partition(b"\r\n\r\n")
    _, name, rest = head.partition(b"\r\ncontent-length: ")
    length = rest.partition(b"\r\n")[0]
    if end and name and length.isdigit() and int(length) == len(body) and data.startswith(b"HTTP/1.1 "):
        return int(data[9:12])
    return None


class LoadConnection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way. Invariant: each request is answered once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._on_status: OnStatus | None = None
        self._first_bytes = b""

    @classmethod
    async def open(cls, address: Address) -> LoadConnection:
        """
        Raises:
            OSError: nobody listens there.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, address.host, address.port)
        return connection

    async def ask(self, request: bytes) -> int:
        """Send a request and wait for its whole answer: the status, or `FAILED`."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.send(request, lambda status: None if answer.done() else answer.set_result(status))
        return await answer

    def send(self, request: bytes, on_status: OnStatus) -> None:
        """Send a request and go on; for whoever has thousands a second to send, and no task for each."""
        if self._transport is None or self.is_closed:
            on_status(FAILED)
            return
        self._parser = None
        self._on_status, self._first_bytes = on_status, b""
        self._transport.write(request)

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    @property
    def retry_after_s(self) -> float | None:
        """What the last answer's Retry-After says, where it has one."""
        _, name, rest = self._first_bytes.partition(b"\r\n\r\n")[0].lower().partition(b"\r\nretry-after:")
        value = rest.partition(b"\r\n")[0].strip()
        return float(value) if name and value.isdigit() else None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # called by asyncio and httptools

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._first_bytes:
            self._first_bytes = data
            status = whole_answer_status(data)
            if status is not None:
                self._complete(status)
                return
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._complete(self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self._complete(FAILED)

    def _complete(self, status: int) -> None:
        on_status, self._on_status = self._on_status, None
        if on_status is not None:
            on_status(status)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request as its caller saw it: when it was to be sent, since the load began, and what the answer asked to wait."""

    latency_s: float
    status: int
    retry_after_s: float | None = None
    at_s: float = 0.0

    @property
    def ended_s(self) -> float:
        return self.at_s + self.latency_s


@dataclass(frozen=True, slots=True)
class LoadResult:
    """All samples of a load. Rates and percentiles are of good answers alone."""

    samples: Sequence[Sample]
    seconds: float

    @property
    def requests_per_s(self) -> float:
        return self.goodput(float("inf"))

    @property
    def statuses(self) -> dict[int, int]:
        return dict(Counter(sample.status for sample in self.samples))

    @property
    def num_failed(self) -> int:
        return sum(sample.status != OK for sample in self.samples)

    def goodput(self, objective_s: float) -> float:
        """Good answers a second that came within the objective."""
        return sum(sample.status == OK and sample.latency_s <= objective_s for sample in self.samples) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Latency below which this share of them lies, in milliseconds; NaN where there is none."""
        return percentile_ms([sample.latency_s for sample in self.samples if sample.status == OK], share)


def percentile_ms(seconds: Sequence[float], share: float) -> float:
    """Below which this share of them lies, in milliseconds; NaN where there is none."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def closed_loop(
    address: Address, requests: Sequence[bytes], connections: int, seconds: float, warm_up_s: float
) -> LoadResult:
    """Each connection sends its next request when the last one is answered; what ends in the warm-up is left out."""
    coming = cycle(requests)
    opened = [await LoadConnection.open(address) for _ in range(connections)]

    async def ask(number: int) -> Sample:
        if opened[number].is_closed:
            opened[number] = await LoadConnection.open(address)
        sent = time.perf_counter()
        status = await opened[number].ask(next(coming))
        return Sample(time.perf_counter() - sent, status)

    samples = await asked_in_turn([partial(ask, number) for number in range(connections)], seconds, warm_up_s)
    for connection in opened:
        connection.close()
    return LoadResult(samples, seconds)


async def asked_in_turn(callers: Sequence[Callable[[], Awaitable[Answer]]], seconds: float, warm_up_s: float) -> list[Answer]:
    """What callers get, each of whom asks again when the last answer is there; what ends in the warm-up is left out."""
    counted_from = time.perf_counter() + warm_up_s
    until = counted_from + seconds
    answers: list[Answer] = []

    async def call(ask: Callable[[], Awaitable[Answer]]) -> None:
        while time.perf_counter() < until:
            answer = await ask()
            if counted_from <= time.perf_counter() <= until:
                answers.append(answer)

    await asyncio.gather(*map(call, callers))
    return answers


def measure_closed_loop(address: Address, requests: Sequence[bytes], connections: int, seconds: float) -> LoadResult:
    """A closed loop of its own, after a fifth of the time to warm up."""
    return asyncio.run(closed_loop(address, requests, connections, seconds, seconds / 5))


async def open_loop(
    address: Address,
    requests: Sequence[bytes],
    rate: float,
    seconds: float,
    seed: int = 7,
    max_connections: int = MAX_CONNECTIONS,
    tick_s: float = 0.0,
) -> LoadResult:
    """Requests arrive at random at a mean rate a second; returns when all of them are answered.

    Latency counts from the times at which they were to leave: a service that stalls is charged for all who would have called
    meanwhile (no coordinated omission, see Tene, "How NOT to measure latency"). Those that find no connection free wait for
    one, and that counts as latency. So does `tick_s`: what is due within it leaves together, which costs the generator half as
    much where there are thousands.
    """
    loop = _OpenLoop(address, requests, arrival_times(rate, seconds, seed), max_connections, tick_s)
    return LoadResult(await loop.run(), seconds)


def arrival_times(rate: float, seconds: float, seed: int) -> list[float]:
    """Times within so many seconds, as those of independent callers are (a Poisson process)."""
    rng = random.Random(seed)
    times = []
    at = rng.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += rng.expovariate(rate)
    return times


class _OpenLoop:
    """Invariant: each arrival becomes one sample."""

    def __init__(
        self, address: Address, requests: Sequence[bytes], times: Sequence[float], max_connections: int, tick_s: float
    ) -> None:
        self._address, self._coming, self._times, self._tick_s = address, cycle(requests), times, tick_s
        self._max_connections, self._num_open, self._num_arrived = max_connections, 0, 0
        self._idle: list[tuple[float, LoadConnection]] = []
        self._late: deque[float] = deque()
        self._samples: list[Sample] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._began = 0.0
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> Sequence[Sample]:
        self._began = time.perf_counter()
        self._arrive()
        await self._over
        for _, connection in self._idle:
            connection.close()
        return self._samples

    def _arrive(self) -> None:
        """Send all that is due, and come back when the next is."""
        while self._num_arrived < len(self._times):
            intended = self._began + self._times[self._num_arrived]
            delay = intended - time.perf_counter()
            if delay > 0:
                asyncio.get_running_loop().call_later(max(delay, self._tick_s), self._arrive)
                return
            self._num_arrived += 1
            self._place(intended)
        self._end_if_over()

    def _place(self, intended: float) -> None:
        connection = self._pop_fresh()
        if connection is not None:
            self._send(connection, intended)
        elif self._num_open < self._max_connections:
            self._num_open += 1
            task = asyncio.create_task(self._open(intended))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._late.append(intended)

    def _pop_fresh(self) -> LoadConnection | None:
        """The idle connection that was used last; all are closed where that is long ago, since the others' is longer."""
        if not self._idle:
            return None
        since, connection = self._idle.pop()
        if time.perf_counter() - since < FRESH_S:
            return connection
        for _, stale in [*self._idle, (since, connection)]:
            stale.close()
            self._num_open -= 1
        self._idle.clear()
        return None

    async def _open(self, intended: float) -> None:
        try:
            connection = await LoadConnection.open(self._address)
        except OSError:
            self._ended(None, intended, FAILED)
        else:
            self._send(connection, intended)

    def _send(self, connection: LoadConnection, intended: float) -> None:
        connection.send(next(self._coming), lambda status: self._ended(connection, intended, status))

    def _ended(self, connection: LoadConnection | None, intended: float, status: int) -> None:
        now = time.perf_counter()
        wait_s = connection.retry_after_s if connection is not None and status not in (FAILED, OK) else None
        self._samples.append(Sample(now - intended, status, wait_s, intended - self._began))
        if connection is None or status == FAILED:
            self._num_open -= 1
            if self._late:
                self._place(self._late.popleft())
        elif self._late:
            self._send(connection, self._late.popleft())
        else:
            self._idle.append((now, connection))
        self._end_if_over()

    def _end_if_over(self) -> None:
        if len(self._samples) == len(self._times) and not self._over.done():
            self._over.set_result(None)
