"""Server-sent events as they arrive."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class SentEvent:
    """Its name, and its data read from JSON."""

    name: str
    data: Any


class EventReader:
    """The events of a stream, whose bytes may come in pieces of any size; comments are left out."""

    def __init__(self) -> None:
        self._rest = b""

    def push(self, data: bytes) -> list[SentEvent]:
        """Those that are complete now."""
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        return [event for block in blocks if (event := _event(block.decode())) is not None]


def _event(block: str) -> SentEvent | None:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
    return SentEvent(fields.get("event", ""), json.loads(fields["data"])) if "data" in fields else None
