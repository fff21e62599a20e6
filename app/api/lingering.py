"""Closing in stages: where a client may still be sending, its answer must not be lost to a reset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class GuardedTransport(asyncio.Transport):
    """A transport whose `close` is decided by somebody else; everything else is the transport's own.

    uvicorn closes a connection as soon as it has written the last answer. If the client is still sending then, the kernel
    answers what it sends with a reset, and that destroys the answer before many clients have read it (RFC 9112, 9.6).
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_ending: Callable[[], bool]) -> None:
        """
        Args:
            transport: the connection itself.
            close: called in place of the transport's own.
            is_ending: whether nothing will be written any more, although the transport is open.
        """
        super().__init__()
        self._transport, self._close, self._is_ending = transport, close, is_ending

    def close(self) -> None:
        self._close()

    def is_closing(self) -> bool:
        return self._is_ending() or self._transport.is_closing()

    def write(self, data: Any) -> None:
        self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
