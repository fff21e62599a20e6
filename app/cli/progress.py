"""A progress line on standard error, where a person sees it and it disturbs no output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import BinaryIO

EVERY_S = 0.1
WIDTH = 24
"""Characters of a bar."""


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


class Bar:
    """A bar with the time that is left, on a terminal only; for commands whose answers go to a file."""

    def __init__(self, num_before: int, share: Callable[[int], float]) -> None:
        """
        Args:
            num_before: rows that an earlier run has answered.
            share: which part of everything so many rows are, between 0 and 1.
        """
        self._is_shown = sys.stderr.isatty()
        self._num_before, self._share = num_before, share
        self._began: float | None = None
        self._last = 0.0

    def tell(self, num_done: int, num_failed: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began, self._num_before = now, num_done  # what the first group waited for is not the pace of the others
        if self._is_shown and now - self._last >= EVERY_S:
            rate = (num_done - self._num_before) / max(now - self._began, 1e-9)
            print(f"\r{bar(self._share(num_done), num_done, num_failed, rate)}\x1b[K", end="", file=sys.stderr, flush=True)
            self._last = now

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def bar(share: float, num_done: int, num_failed: int, rate: float) -> str:
    """One line: `[#####.....] 50%  1,000 rows, 3 errors, 100 a second, 0:10 left`."""
    share = min(max(share, 0.0), 1.0)
    filled = "#" * int(share * WIDTH)
    failed = f", {num_failed:,} errors" if num_failed else ""
    told = f"[{filled:.<{WIDTH}}] {share:4.0%}  {num_done:,} rows{failed}"
    if rate <= 0 or share <= 0:
        return told
    left = round(num_done * (1 - share) / share / rate)
    return f"{told}, {rate:,.0f} a second, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def share_of(stream: BinaryIO) -> Callable[[int], float]:
    """How far a file has been read, whatever is done with it: reading is a few groups ahead of answering."""
    descriptor = stream.fileno()
    size = max(os.fstat(descriptor).st_size, 1)
    return lambda _: os.lseek(descriptor, 0, os.SEEK_CUR) / size
