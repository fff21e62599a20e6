"""One HTTP connection that sends prepared requests: as little work as possible beside the service that is measured."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httptools

FAILED = 0
"""Status of a request whose connection broke."""


def prepared(host: str, path: str, body: Any) -> bytes:
    """The bytes of a POST request with a JSON body."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request under way. Invariant: each request's future is completed once."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer: asyncio.Future[int] | None = None

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
        if self._transport is None or self._transport.is_closing():
            return FAILED
        self._parser = httptools.HttpResponseParser(self)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # called by asyncio and httptools

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._complete(self._parser.get_status_code())

    def connection_lost(self, error: Exception | None) -> None:
        self._complete(FAILED)

    def _complete(self, status: int) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(status)
