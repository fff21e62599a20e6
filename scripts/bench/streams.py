"""Load of callers who read texts as they are written, each of whom asks for the next when the last one has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise

from scripts.bench.events import EVENT_STREAM, EventReader, SentEvent
from scripts.bench.load import FAILED, asked_in_turn
from scripts.bench.service import OK, Address

READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One text as its caller saw it."""

    status: int
    """Of its end: that of an `error` event is the problem's."""
    latency_s: float
    pieces_s: Sequence[float] = ()
    """When each piece was there, since the request was sent."""
    num_tokens: int = 0
    """That were written, by the last event."""

    @property
    def between_s(self) -> list[float]:
        """From each piece to the next."""
        return [later - sooner for sooner, later in pairwise(self.pieces_s)]


@dataclass(frozen=True, slots=True)
class StreamResult:
    """All texts that ended within so many seconds."""

    samples: Sequence[StreamSample]
    seconds: float

    @property
    def good(self) -> list[StreamSample]:
        return [sample for sample in self.samples if sample.status == OK]

    @property
    def tokens_per_s(self) -> float:
        return sum(sample.num_tokens for sample in self.good) / self.seconds

    @property
    def num_failed(self) -> int:
        return len(self.samples) - len(self.good)


async def ask_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> StreamSample:
    """Send a request over a connection of its own, and read its answer to the end."""
    sent = time.perf_counter()
    pieces: list[float] = []
    last = SentEvent("", None)
    status = FAILED
    writer.write(request)
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split()[1])
        if f"content-type: {EVENT_STREAM}" not in head:
            return StreamSample(status, time.perf_counter() - sent)
        async for event in read_events(reader):
            last = event
            if event.name == "token":
                pieces.append(time.perf_counter() - sent)
    except (asyncio.IncompleteReadError, ConnectionError):
        last = SentEvent("", None)
    if last.name == "done":
        return StreamSample(OK, time.perf_counter() - sent, pieces, last.data["results"][0]["num_new_tokens"])
    return StreamSample(last.data["status"] if last.name == "error" else FAILED, time.perf_counter() - sent, pieces)


async def read_events(reader: asyncio.StreamReader) -> AsyncIterator[SentEvent]:
    """Of a body in chunks, as they arrive.

    Raises:
        IncompleteReadError: the connection ended before it did.
    """
    events = EventReader()
    while size := int(await reader.readuntil(b"\r\n"), 16):
        for event in events.push((await reader.readexactly(size + 2))[:-2]):
            yield event
    await reader.readuntil(b"\r\n")


async def closed_streams(
    address: Address, requests: Sequence[bytes], callers: int, seconds: float, warm_up_s: float
) -> StreamResult:
    """Each caller asks for its next text when the last one has ended; what ends in the warm-up is left out."""
    coming = cycle(requests)

    async def ask() -> StreamSample:
        reader, writer = await asyncio.open_connection(address.host, address.port, limit=READ_BYTES)
        sample = await ask_stream(reader, writer, next(coming))
        writer.close()
        return sample

    return StreamResult(await asked_in_turn([ask] * callers, seconds, warm_up_s), seconds)


def measure_streams(address: Address, requests: Sequence[bytes], callers: int, seconds: float) -> StreamResult:
    """`closed_streams` of its own, after a fifth of the time to warm up."""
    return asyncio.run(closed_streams(address, requests, callers, seconds, seconds / 5))
