"""One HTTP connection that sends prepared requests: as little work as possible beside the service that is measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httptools

FAILED = 0
"""Status of a request whose connection broke."""


def prepared(host: str, path: str, body: Any) -> bytes:
    """The bytes of a POST request with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


Answered = Callable[[int], None]
"""Called with the status, or `FAILED`, once the whole answer is there."""


def whole_answer(data: bytes) -> int | None:
    """The status of an answer that is all there, which most are; None where a parser must tell."""
    head, end, body = data.partition(b"\r\n\r\n")
    _, name, rest = head.partition(b"\r\ncontent-length: ")
    length = rest.partition(b"\r\n")[0]
    if end and name and length.isdigit() and int(length) == len(body) and data.startswith(b"HTTP/1.1 "):
        return int(data[9:12])
    return None


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way. Invariant: each request is answered once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answered: Answered | None = None
        self._first_bytes = b""

    @classmethod
    async def to(cls, host: str, port: int) -> Connection:
        """
        Raises:
            OSError: nobody listens there.
        """
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def ask(self, request: bytes) -> int:
        """Send a request and wait for its whole answer.

        Returns:
            The status, or `FAILED`.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.send(request, lambda status: None if answer.done() else answer.set_result(status))
        return await answer

    def send(self, request: bytes, answered: Answered) -> None:
        """Send a request and go on; for whoever has thousands a second to send, and no task for each."""
        if self._transport is None or self._transport.is_closing():
            answered(FAILED)
            return
        self._parser = None
        self._answered, self._first_bytes = answered, b""
        self._transport.write(request)

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
            status = whole_answer(data)
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
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status)
