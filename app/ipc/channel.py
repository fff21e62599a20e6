"""One connection of the link: frames in both directions, and word of its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from app.ipc.frames import BrokenFrame, Frame, Frames, encoded

logger = logging.getLogger(__name__)


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
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, frame: Frame) -> None:
        """Send it, or nothing where the other side is gone: `on_lost` tells."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encoded(frame))

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
