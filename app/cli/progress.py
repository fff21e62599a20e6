"""A progress line on standard error, where a person sees it and it disturbs no output."""

from __future__ import annotations

import sys
import time

EVERY_S = 0.1


class Progress:
    """Shown where standard error is a terminal and standard output is not: there the answers themselves show how far it is."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
        self._began = self._last = time.monotonic()

    def tell(self, num_done: int, num_failed: int) -> None:
        now = time.monotonic()
        if self._is_shown and now - self._last >= EVERY_S:
            failed = f", {num_failed:,} could not be" if num_failed else ""
            rate = num_done / max(now - self._began, 1e-9)
            print(f"\r{num_done:,} answered{failed}, {rate:,.0f} a second\x1b[K", end="", file=sys.stderr, flush=True)
            self._last = now

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
