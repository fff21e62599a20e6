"""Rows of csv and tsv from a stream of lines, one at a time; a broken row costs its own line and no other."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from app.core.errors import HooperError, InvalidInput, TooLarge

Lines = Iterator[tuple[int, bytes | None]]
"""Numbered lines; None for one that is too long."""


class _Feed:
    """Decoded lines for `csv.reader`. What a row took can be given back."""

    def __init__(self, lines: Lines, max_bytes: int) -> None:
        self._lines, self._max_bytes = lines, max_bytes
        self._given_back: deque[tuple[int, str | HooperError]] = deque()
        self._taken: list[tuple[int, str | HooperError]] = []
        self._num_characters = 0

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            csv.Error: a line has no text, or the row is too long.
        """
        while True:
            number, text = self._next()
            if not number:
                return
            self._taken.append((number, text))
            if isinstance(text, HooperError):
                raise csv.Error(text.detail)
            self._num_characters += len(text)
            if self._num_characters > self._max_bytes:
                raise csv.Error("a quote is not closed")
            yield text

    @property
    def first(self) -> tuple[int, str | HooperError]:
        """The number and text of the row's first line."""
        return self._taken[0]

    def begin_row(self) -> None:
        self._taken, self._num_characters = [], 0

    def give_back(self) -> None:
        """All lines of the row but its first."""
        self._given_back.extendleft(reversed(self._taken[1:]))

    def _next(self) -> tuple[int, str | HooperError]:
        if self._given_back:
            return self._given_back.popleft()
        number, line = next(self._lines, (0, b""))
        return number, decoded(number, line, self._max_bytes)


def read_rows(lines: Lines, delimiter: str, max_bytes: int) -> Iterator[tuple[int, list[str] | HooperError]]:
    """The line on which each row begins, with its cells or why it cannot be read. A broken row ends with its first line: a
    quote that is never closed would otherwise take the rest of the file with it."""
    feed = _Feed(lines, max_bytes)
    csv.field_size_limit(max_bytes + 1)  # the default, 128 KiB, would refuse long documents
    while True:
        feed.begin_row()
        try:
            cells = next(csv.reader(iter(feed), delimiter=delimiter, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            number, first = feed.first
            feed.give_back()
            yield number, first if isinstance(first, HooperError) else InvalidInput(f"the row cannot be read: {error}")
        else:
            if cells:
                yield feed.first[0], cells


def decoded(number: int, line: bytes | None, max_bytes: int) -> str | HooperError:
    """The line's text, or why it has none."""
    if line is None:
        return TooLarge(f"the line has more than {max_bytes} bytes")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        return InvalidInput("the line is not UTF-8")
