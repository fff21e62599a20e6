"""What commands print: JSON for programs, tables for people without text that steers the terminal, and progress."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

EVERY_S = 0.1
WIDTH = 24
"""Characters of a bar."""


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Aligned columns, the last one as long as it is; the header only where a person reads."""
    lines = [list(map(plain, row)) for row in ([header] if header and on_terminal() else []) + list(rows)]
    if not lines:
        return
    widths = [max(width(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    for line in lines:
        print("  ".join([*(pad(cell, size) for cell, size in zip(line, widths, strict=False)), line[-1]]).rstrip())


def figures(evaluation: Mapping[str, Any], limit: int = 3) -> str:
    """The first figures of a model and on how many rows they were measured; all of them are in its card."""
    names = [name for name in evaluation if name != "rows"][:limit]
    metrics = ", ".join(f"{name} {evaluation[name]}" for name in [*names, "rows"] if name in evaluation)
    return metrics or "not measured"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def columns() -> int:
    """Characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def plain(text: str) -> str:
    """In one line, without control characters: a text must not steer the terminal that shows it."""
    return "".join(character if character.isprintable() else " " for character in text)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(_width(character) for character in text)


def pad(text: str, size: int) -> str:
    return text + " " * (size - width(text))


def clip(text: str, size: int) -> str:
    """The text in one line of at most `size` columns, with an ellipsis where it was longer."""
    text = plain(" ".join(text[: 4 * size].split()))
    if width(text) <= size:
        return text
    num_columns, characters = 0, []
    for character in text:
        num_columns += _width(character)
        if num_columns > size - 1:
            break
        characters.append(character)
    return "".join(characters) + "…"


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


class Progress:
    """A line on standard error with how much was answered, where a person sees it and it disturbs no output.

    Without `share` it is shown where standard output is none of a person's: there the answers themselves show how far it is.
    """

    def __init__(self, num_before: int = 0, share: Callable[[int], float] | None = None) -> None:
        """
        Args:
            share: which part of everything so many rows are, between 0 and 1; then a bar is shown, with the time that is left.
        """
        self._is_shown = sys.stderr.isatty() and (share is not None or not sys.stdout.isatty())
        self._num_before, self._share = num_before, share
        self._began: float | None = None
        self._last = 0.0

    def update(self, num_done: int, num_failed: int) -> None:
        now = time.monotonic()
        if self._began is None:
            self._began, self._num_before = now, num_done  # what the first group waited for is not the pace of the others
        if self._is_shown and now - self._last >= EVERY_S:
            rate = (num_done - self._num_before) / max(now - self._began, 1e-9)
            share = None if self._share is None else self._share(num_done)
            print(f"\r{progress_line(share, num_done, num_failed, rate)}\x1b[K", end="", file=sys.stderr, flush=True)
            self._last = now

    def clear(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def progress_line(share: float | None, num_done: int, num_failed: int, rate: float) -> str:
    """One line: `[#####.....] 50%  1,000 rows, 3 errors, 100 a second, 0:10 left`."""
    failed = f", {num_failed:,} errors" if num_failed else ""
    pace = f", {rate:,.0f} a second" if rate > 0 else ""
    if share is None:
        return f"{num_done:,} rows{failed}{pace}"
    share = min(max(share, 0.0), 1.0)
    line = f"[{'#' * int(share * WIDTH):.<{WIDTH}}] {share:4.0%}  {num_done:,} rows{failed}"
    if rate <= 0 or share <= 0:
        return line
    left = round(num_done * (1 - share) / share / rate)
    return f"{line}{pace}, {left // 3600}:{left // 60 % 60:02}:{left % 60:02} left"


def share_of(stream: BinaryIO) -> Callable[[int], float]:
    """How far a file has been read, whatever is done with it: reading is a few groups ahead of answering."""
    descriptor = stream.fileno()
    size = max(os.fstat(descriptor).st_size, 1)
    return lambda _: os.lseek(descriptor, 0, os.SEEK_CUR) / size
