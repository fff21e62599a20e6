"""Frames: JSON and raw numbers behind their lengths. Nothing that is read can become code."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.core.errors import HooperError

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
    """Of the question that it asks or answers; 0: it is neither."""
    body: Any = None
    blob: bytes | bytearray = field(default=b"", repr=False)


def encoded(frame: Frame) -> bytes:
    head = _ENCODER.encode([frame.kind, frame.number, frame.body]).encode("ascii")
    return b"".join((LENGTHS.pack(len(head), len(frame.blob)), head, frame.blob))


class Frames:
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
            raise BrokenFrame(f"the other side of the link sent no frame ({type(error).__name__})") from None
        return Frame(kind, number, value, self._buffer[body + num_head : end]), end
