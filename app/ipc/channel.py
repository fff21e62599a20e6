"""One connection between a front end and the engine process: frames in both directions, and word of its end.

A frame is JSON and raw numbers behind their lengths. Nothing that is read can become code.
"""

from __future__ import annotations

import asyncio
import json
import logging
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from app.core.errors import HooperError

logger = logging.getLogger(__name__)

LENGTHS = struct.Struct("<II")
"""Bytes of the JSON, then of the numbers."""


_ENCODER = json.JSONEncoder(separators=(",", ":"))  # one for all: json.dumps would make one for each frame


class BrokenFrame(HooperError):
    """The other side sent what is no frame: the connection is of no use any more."""

    type = "broken_frame"


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: str
    number: int = 0
    """Of the call that it asks or answers; 0: it is neither."""
    body: Any = None
    blob: bytes | bytearray = field(default=b"", repr=False)


def encode_frame(frame: Frame) -> bytes:
    head = _ENCODER.encode([frame.kind, frame.number, frame.body]).encode("ascii")
    return b"".join((LENGTHS.pack(len(head), len(frame.blob)), head, frame.blob))


class FrameReader:
    """Bytes as they come, of any portions, to frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete now.

        Raises:
            BrokenFrame: this is no frame.
        """
        self._buffer += data
        start = 0
        try:
            while (frame_and_end := self._next(start)) is not None:
                frame, start = frame_and_end
                yield frame
        finally:
            del self._buffer[:start]

    def _next(self, start: int) -> tuple[Frame, int] | None:
        body = start + LENGTHS.size
        if len(self._buffer) < body:
            return None
        num_head, num_blob = LENGTHS.unpack_from(self._buffer, start)
        end = body + num_head + num_blob
        if len(self._buffer) < end:
            return None
        try:
            kind, number, value = json.loads(self._buffer[body : body + num_head].decode())
        except (ValueError, TypeError) as error:
            raise BrokenFrame(f"the other side sent no frame ({type(error).__name__})") from None
        return Frame(kind, number, value, self._buffer[body + num_head : end]), end


class Channel(asyncio.Protocol):
    """Invariant: `on_lost` is called once, after the last frame.

    What is sent is never waited for: it is bounded by what may wait for the engine, and by the connections of a front end.
    """

    def __init__(
        self,
        on_frame: Callable[[Channel, Frame], None],
        on_lost: Callable[[Channel], None],
        on_made: Callable[[Channel], None] = lambda _: None,
    ) -> None:
        self._on_frame, self._on_lost, self._on_made = on_frame, on_lost, on_made
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None

    def send(self, frame: Frame) -> None:
        """Send it, or nothing where the other side is gone: `on_lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode_frame(frame))

    def close(self) -> None:
        """After what was sent."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._on_frame(self, frame)
        except BrokenFrame as error:
            logger.error("%s; it is closed", error.detail)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_lost(self)
