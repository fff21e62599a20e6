"""An event loop that fails where it would wait for ever: a caller who is never answered is an error, not a test that hangs.

For tests in which everything that happens, happens on the loop: no threads, no sockets, no other process.
"""

from __future__ import annotations

import asyncio
import selectors

LONG_S = 60.0
"""No test waits so long for a timer."""


class StrictSelector(selectors.DefaultSelector):
    """Asked by a loop that has nothing to do until its next timer, or at all."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > LONG_S:
            raise AssertionError("somebody waits, and nothing can happen any more")
        return super().select(timeout)


def strict_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(StrictSelector())
