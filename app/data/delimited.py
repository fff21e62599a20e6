"""Rows of csv and tsv files: what separates their columns, how rows are numbered, and what their header says."""

from __future__ import annotations

import csv
import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.data.record import ReadOptions, Record
from app.data.text_lines import Lines, text_lines

DELIMITERS = (",", ";", "\t", "|")
"""What spreadsheets of all countries, and other programs, write between columns."""
NO_DELIMITER = "\x1f"
"""In a file of one column every other sign is part of its text."""
NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
SNIFFED_LINES, SNIFFED_CHARACTERS = 200, 200_000
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line by which Excel is told the delimiter; Excel shows no row for it."""


def read_delimited(stream: Any, source: str, options: ReadOptions, usual: str = ",") -> Iterator[Record]:
    """The rows after the header, which a spreadsheet shows in row 1.

    Args:
        stream: can be peeked into.
        usual: the delimiter where several fit equally well.

    Raises:
        InvalidSettings: the header cannot be read, or is refused.
    """
    csv.field_size_limit(options.max_bytes + 1)  # the default, 128 KiB, would refuse long documents
    lines, delimiter = _delimiter(text_lines(stream, source, options), source, options, usual)
    rows = _csv_rows(lines, delimiter, options.max_bytes)
    number, cells = next(rows, (1, []))
    if isinstance(cells, HooperError):
        raise InvalidSettings(f"{source}:{number}: the header cannot be read: {cells.detail}; say --encoding or --delimiter")
    header = header_names(cells, f"{source}:{number}", options)
    options.choose([name for name in header if name])
    for number, cells in rows:
        where = f"{source}:{number}"
        columns = cells if isinstance(cells, HooperError) else cells_by_name(header, cells)
        if isinstance(columns, HooperError):
            yield Record(where, {}, columns, number, is_table_row=True)
        else:
            yield Record(where, columns, None, number, sum(map(len, columns.values())), is_table_row=True)


def checked_delimiter(text: str) -> str:
    """
    Raises:
        InvalidSettings: it is not one character, or one that cannot separate columns.
    """
    delimiter = NAMED_DELIMITERS.get(text.lower(), text)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise InvalidSettings(f"a delimiter is one character, or one of {', '.join(NAMED_DELIMITERS)}, not {text!r}")
    return delimiter


def header_names(cells: Sequence[str], where: str, options: ReadOptions) -> list[str]:
    """The names of columns: without blanks around them, empty where there is none, and numbered where several are the same.

    Raises:
        InvalidSettings: there is no name at all.
    """
    names = [cell.strip() for cell in cells]
    if cells and not any(names):
        raise InvalidSettings(f"{where}: the header names no column")
    counts = Counter(name for name in names if name)
    twice = [name for name, count in counts.items() if count > 1]
    if not twice:
        return names
    numbered: list[str] = []
    for name in names:  # neither is guessed to hold anything; a person may name either
        number = 1
        while counts[name] > 1 and f"{name}_{number}" in {*names, *numbered}:
            number += 1
        numbered.append(f"{name}_{number}" if counts[name] > 1 else name)
    listing = ", ".join(repr(name) for name in twice)
    options.say(f"{where}: the header names {listing} more than once; such columns are read as {twice[0] + '_1'!r} and so on")
    return numbered


def cells_by_name(header: Sequence[str], cells: Sequence[str]) -> dict[str, str] | InvalidInput:
    """The cells under their names, or why they do not fit. Spreadsheets write delimiters for columns that hold nothing: what
    stands under no name is left out, and cells that are missing or too many are no fault as long as nothing is lost by it."""
    num_named = len(header)
    while num_named and not header[num_named - 1]:
        num_named -= 1
    if len(cells) < num_named or any(cell.strip() for cell in cells[max(num_named, len(header)) :]):
        return InvalidInput(f"the row has {len(cells)} columns where the header has {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=False) if name}


def _delimiter(lines: Lines, source: str, options: ReadOptions, usual: str) -> tuple[Lines, str]:
    """All lines of the table, and what stands between its columns."""
    first: list[tuple[int, str | HooperError]] = []
    num_characters = 0
    while len(first) < SNIFFED_LINES and num_characters < SNIFFED_CHARACTERS and (entry := next(lines, None)) is not None:
        first.append(entry)
        num_characters += len(entry[1]) if isinstance(entry[1], str) else 0
    texts = [text for _, text in first if isinstance(text, str)]
    named = _SEP.fullmatch(texts[0]) if texts else None
    if named:
        first, texts = first[1:], texts[1:]
    all_lines = chain(first, lines)
    if options.delimiter:
        return all_lines, checked_delimiter(options.delimiter)
    if named:
        return all_lines, named.group(1)
    usual = checked_delimiter(options.usual.delimiter) if options.usual.delimiter else usual
    delimiter = sniffed(texts, usual, is_whole=num_characters < SNIFFED_CHARACTERS and len(first) < SNIFFED_LINES)
    if delimiter not in (usual, NO_DELIMITER):
        name = next(name for name, sign in NAMED_DELIMITERS.items() if sign == delimiter)
        options.say(f"{source} is read with a {name} between its columns; say --delimiter if that is wrong")
    return all_lines, delimiter


def sniffed(texts: Sequence[str], usual: str, is_whole: bool = True) -> str:
    """The delimiter that cuts the header into columns, and most rows into as many.

    Args:
        texts: the first lines.
        usual: the delimiter where several fit equally well.
        is_whole: whether these are all lines; else the last row may be cut.
    """
    best, best_fit = NO_DELIMITER, (0.0, 0)
    for delimiter in (usual, *(other for other in DELIMITERS if other != usual)):
        try:
            rows = [row for row in csv.reader(texts, delimiter=delimiter) if row]
        except csv.Error:
            continue
        header, others = (rows[0] if rows else []), rows[1 : None if is_whole or len(rows) < 3 else -1]
        if len(header) < 2:
            continue
        num_fitting = sum(isinstance(cells_by_name(header, row), dict) for row in others)
        fit = (num_fitting / len(others) if others else 1.0, len(header))
        if fit > best_fit:
            best, best_fit = delimiter, fit
    return best


def _csv_rows(lines: Lines, delimiter: str, max_bytes: int) -> Iterator[tuple[int, list[str] | HooperError]]:
    """Rows with their numbers, or why one cannot be read. A broken row ends with its first line: a quote that is never closed
    would otherwise take the rest of the file with it."""
    feed = _CsvFeed(lines, max_bytes)
    number = 0
    while True:
        feed.begin_row()
        number += 1  # blank rows count, too
        try:
            cells = next(csv.reader(iter(feed), delimiter=delimiter, strict=True))
        except StopIteration:
            return
        except csv.Error as error:
            first = feed.first
            feed.give_back()
            yield number, first if isinstance(first, HooperError) else InvalidInput(_broken_reason(error))
        else:
            if cells:
                yield number, cells


def _broken_reason(error: csv.Error) -> str:
    text = str(error).replace(repr(NO_DELIMITER), "the end of the cell").replace(NO_DELIMITER, "the end of the cell")
    return f"the row cannot be read: {text}"


class _CsvFeed:
    """Lines for `csv.reader`. What a row took can be given back."""

    def __init__(self, lines: Lines, max_bytes: int) -> None:
        self._lines, self._max_bytes = lines, max_bytes
        self._waiting: deque[str | HooperError] = deque()
        self._taken: list[str | HooperError] = []
        self._num_characters = 0

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            csv.Error: a line has no text, or the row is too long.
        """
        while (text := self._next()) is not None:
            self._taken.append(text)
            if isinstance(text, HooperError):
                raise csv.Error(text.detail)
            self._num_characters += len(text)
            if self._num_characters > self._max_bytes:
                raise csv.Error("a quote is not closed")
            yield text

    @property
    def first(self) -> str | HooperError:
        """The row's first line."""
        return self._taken[0]

    def begin_row(self) -> None:
        self._taken, self._num_characters = [], 0

    def give_back(self) -> None:
        """All lines of the row but its first."""
        self._waiting.extendleft(reversed(self._taken[1:]))

    def _next(self) -> str | HooperError | None:
        if self._waiting:
            return self._waiting.popleft()
        _, text = next(self._lines, (0, None))
        if not isinstance(text, str) or "\r" not in text.rstrip("\r\n"):
            return text
        self._waiting.extend(piece for piece in re.split(r"(?<=\r)(?!\n)", text) if piece)  # old Mac files end their lines so
        return self._waiting.popleft()
