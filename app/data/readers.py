"""Rows of data files, one at a time: what cannot be read is an error in its row's place and costs no other."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from app.core.errors import HooperError, InvalidInput, InvalidSettings, TooLarge
from app.data import parquet

Format = Literal["auto", "lines", "jsonl", "csv", "tsv", "parquet", "json"]
FORMATS: Mapping[str, Format] = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
    ".txt": "lines",
}  # fmt: skip
STANDARD_INPUT = "-"
MAX_ROW_BYTES = 16_000_000
"""Of a line, and of a row of several lines: more is a quote that was never closed."""
OTHER_DELIMITERS = (";", "\t", "|", ",")
"""What spreadsheets of other countries, and other programs, write between columns."""
Lines = Iterator[tuple[int, bytes | None]]
"""Numbered lines with their ends; None for one that is too long."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was read: where it stands, and its columns or why it could not be read."""

    where: str
    columns: Mapping[str, Any]
    error: HooperError | None = None
    line: int = 0
    """Its first line in the file, or its number where a file has no lines."""
    num_characters: int = 0

    @property
    def broken(self) -> str:
        return "" if self.error is None else self.error.detail


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read."""

    format: Format = "auto"
    max_bytes: int = MAX_ROW_BYTES
    text_name: str = ""
    """The column that a plain line of text, or a JSON string, stands for; empty: there is none."""
    encoding: str = ""
    """Of text files; empty: detected."""
    delimiter: str = ""
    """Between the columns of a csv file; empty: detected."""
    sheet: str = ""
    """Of a spreadsheet, by name or by number from 1; empty: the first that has rows."""
    choose: Callable[[Sequence[str]], Collection[str]] = list
    """Refuses a header before any row is read, and says which of its columns are wanted: a parquet file has others unread."""


def records(path: Path, options: ReadOptions = ReadOptions()) -> Iterator[Record]:
    """All rows of a file, known by its name, or of a folder of classes; lines of text where their column has a name.

    Raises:
        InvalidSettings: it cannot be read, or is of no known format.
    """
    if path.is_dir():
        yield from _class_folder(path)
        return
    kind = format_of(str(path))
    if kind == "auto" or (kind == "lines" and not options.text_name):
        suffixes = [suffix for suffix in FORMATS if suffix != ".txt"]
        raise InvalidSettings(f"{path} has no known format; known are {', '.join(suffixes)} (also with .gz) and class folders")
    options = replace(options, format=kind, choose=lambda names: _checked(path, kind, names))
    try:
        with open_source(str(path)) as stream:
            yield from read_stream(stream, str(path), options)
    except InvalidInput as error:  # a file that ends too early is no use here
        raise InvalidSettings(error.detail) from error


def read_stream(stream: BinaryIO, source: str, options: ReadOptions) -> Iterator[Record]:
    """The rows of an open file; whoever opened it closes it.

    Raises:
        InvalidSettings: it is not what its name says, or its header is refused.
        InvalidInput: the file is broken further on, or ends in the middle of what was compressed.
    """
    kind = options.format if options.format != "auto" else format_of(source)
    try:
        if kind == "parquet":
            yield from _parquet(stream, source, options)
        elif kind == "json":
            yield from _json(_unpacked(stream, source).read(), source)
        else:
            yield from _READERS[kind](source, options, _lines(_unpacked(stream, source), options.max_bytes))
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{source} cannot be read further: {error}") from error


def open_source(source: str) -> BinaryIO:
    """
    Raises:
        InvalidSettings: it is no file, or cannot be opened.
    """
    try:
        # a stream of our own: at exit the interpreter would wait for the lock of sys.stdin's
        raw = open(0, "rb", closefd=False) if source == STANDARD_INPUT else Path(source).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidSettings(f"{source} cannot be read: {error.strerror}") from error
    if source != STANDARD_INPUT and not Path(source).is_file() and not Path(source).is_fifo():
        raw.close()
        raise InvalidSettings(f"{source} is no file")
    return raw


def format_of(source: str) -> Format:
    """By the file's name; `auto` where its first line decides."""
    return FORMATS.get(Path(source.lower().removesuffix(".gz")).suffix, "auto")


def decoded(number: int, line: bytes | None, max_bytes: int) -> str | HooperError:
    """The line's text, or why it has none."""
    if line is None:
        return TooLarge(f"the line has more than {max_bytes} bytes")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        return InvalidInput("the line is not UTF-8")


def _unpacked(stream: BinaryIO, source: str) -> Any:
    """The stream, or what is compressed in it: gzip is known by its first bytes, or by the file's name."""
    is_packed = cast(io.BufferedReader, stream).peek(2)[:2] == b"\x1f\x8b" or source.lower().endswith(".gz")
    return io.BufferedReader(gzip.GzipFile(fileobj=stream)) if is_packed else stream


def _lines(stream: Any, max_bytes: int) -> Lines:
    number = 0
    while line := stream.readline(max_bytes + 1):
        number += 1
        rest = line
        while len(rest) > max_bytes and not rest.endswith(b"\n"):
            rest = stream.readline(max_bytes + 1)
        yield number, line if len(line) <= max_bytes else None


# --- lines of text, and json


def _by_first_line(source: str, options: ReadOptions, lines: Lines) -> Iterator[Record]:
    """Json lines where the first line that is not blank is a JSON object, else lines of text."""
    first: list[tuple[int, bytes | None]] = []
    reader = _texts
    for number, line in lines:
        first.append((number, line))
        if line is None or line.strip():
            is_object = line is not None and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") and _is_json(line)
            reader = _json_lines if is_object else _texts
            break

    def all_lines() -> Lines:
        yield from first
        yield from lines

    yield from reader(source, options, all_lines())


def _texts(source: str, options: ReadOptions, lines: Lines) -> Iterator[Record]:
    for number, text in _readable(lines, options):
        where = f"{source}:{number}"
        if isinstance(text, HooperError):
            yield Record(where, {}, text, number)
        else:
            yield Record(where, {options.text_name: text.rstrip("\r\n")}, None, number, len(text))


def _json_lines(source: str, options: ReadOptions, lines: Lines) -> Iterator[Record]:
    for number, text in _readable(lines, options):
        where = f"{source}:{number}"
        value = text if isinstance(text, HooperError) else _json_object(text, options)
        if isinstance(value, HooperError):
            yield Record(where, {}, value, number)
        else:
            yield Record(where, value, None, number, len(cast(str, text)))


def _readable(lines: Lines, options: ReadOptions) -> Iterator[tuple[int, str | HooperError]]:
    """Lines that are not blank."""
    for number, line in lines:
        text = decoded(number, line, options.max_bytes)
        if isinstance(text, HooperError) or text.strip():
            yield number, text


def _json_object(text: str, options: ReadOptions) -> dict[str, Any] | HooperError:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return InvalidInput(f"the line is not valid JSON: {getattr(error, 'msg', 'nested too deeply')}")
    if isinstance(value, str) and options.text_name:
        return {options.text_name: value}
    if isinstance(value, dict):
        return value
    return InvalidInput(
        f"the line is {'neither a JSON object nor a JSON string' if options.text_name else 'not a JSON object'}"
    )


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _json(content: bytes, source: str) -> Iterator[Record]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"{source} is not valid JSON: {error}") from error
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InvalidSettings(f'{source} must be a list of objects, or an object with such a list under "data"')
    for number, row in enumerate(rows, start=1):
        where = f"{source}#{number}"
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _squad(where, row)
        else:
            yield _object(where, row, number)


def _squad(where: str, article: Mapping[str, Any]) -> Iterator[Record]:
    """One record per question of an article in SQuAD's own nesting, v1.1 or v2.0."""
    paragraphs = article["paragraphs"]
    for number, paragraph in enumerate(paragraphs if isinstance(paragraphs, list) else [None], start=1):
        place = f"{where}.{number}"
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            yield Record(place, {}, InvalidInput("not a SQuAD paragraph with qas"), number)
            continue
        shared = {"context": paragraph.get("context"), "title": article.get("title")}
        for index, question in enumerate(questions, start=1):
            yield _object(f"{place}.{index}", {**question, **shared} if isinstance(question, dict) else question, index)


def _object(where: str, row: Any, number: int) -> Record:
    if isinstance(row, dict):
        return Record(where, row, None, number)
    return Record(where, {}, InvalidInput("not a JSON object"), number)


# --- csv and tsv


def _delimited(delimiter: str, source: str, options: ReadOptions, lines: Lines) -> Iterator[Record]:
    rows = _csv_rows(lines, delimiter, options.max_bytes)
    _, header = next(rows, (1, []))
    if isinstance(header, HooperError):
        if "UTF-8" in header.detail:
            raise InvalidSettings(f"{source}:1: the header is not UTF-8; save the file as UTF-8, as spreadsheets offer to")
        raise InvalidSettings(f"{source}: the header cannot be read: {header.detail}")
    options.choose(header)
    for number, cells in rows:
        where = f"{source}:{number}"
        columns = cells if isinstance(cells, HooperError) else cells_by_name(header, cells)
        if isinstance(columns, HooperError):
            yield Record(where, {}, columns, number)
        else:
            yield Record(where, columns, None, number, sum(map(len, columns.values())))


def cells_by_name(header: Sequence[str], cells: Sequence[str]) -> dict[str, str] | InvalidInput:
    """The cells under their names, or why they do not fit. Spreadsheets write commas for columns that hold nothing: what stands
    under no name is left out, and cells that are missing or too many are no fault as long as nothing is lost by it."""
    num_named = len(header)
    while num_named and not header[num_named - 1].strip():
        num_named -= 1
    if len(cells) < num_named or any(cell.strip() for cell in cells[max(num_named, len(header)) :]):
        return InvalidInput(f"the row has {len(cells)} columns where the header has {len(header)}")
    return {name: cell for name, cell in zip(header, cells, strict=False) if name.strip()}


def _csv_rows(lines: Lines, delimiter: str, max_bytes: int) -> Iterator[tuple[int, list[str] | HooperError]]:
    """The line on which each row begins, with its cells or why it cannot be read. A broken row ends with its first line: a
    quote that is never closed would otherwise take the rest of the file with it."""
    feed = _CsvFeed(lines, max_bytes)
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


class _CsvFeed:
    """Decoded lines for `csv.reader`. What a row took can be given back."""

    def __init__(self, lines: Lines, max_bytes: int) -> None:
        self._lines, self._max_bytes = lines, max_bytes
        self._waiting: deque[tuple[int, str | HooperError]] = deque()
        self._taken: list[tuple[int, str | HooperError]] = []
        self._num_characters = self._num_extra = 0

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
        self._waiting.extendleft(reversed(self._taken[1:]))

    def _next(self) -> tuple[int, str | HooperError]:
        if self._waiting:
            return self._waiting.popleft()
        number, line = next(self._lines, (0, b""))
        text = decoded(number, line, self._max_bytes)
        if not number or isinstance(text, HooperError) or "\r" not in text.rstrip("\r\n"):
            return number + self._num_extra if number else 0, text
        pieces = re.split(r"(?<=\r)(?!\n)", text)  # old Mac files end their lines so
        self._waiting.extend((number + self._num_extra + index, piece) for index, piece in enumerate(pieces) if piece)
        self._num_extra += len(self._waiting) - 1
        return self._waiting.popleft()


def _checked(path: Path, kind: Format, header: Sequence[str]) -> Sequence[str]:
    """The header of a file that is trained on, where a wrong column costs an hour."""
    delimiter = "\t" if kind == "tsv" else ","
    other = next((sign for sign in OTHER_DELIMITERS if len(header) == 1 and sign != delimiter and sign in header[0]), "")
    if other:
        raise InvalidSettings(
            f"{path}:1: the header {header[0]!r} is one column; write {delimiter!r} between columns in place of {other!r}, or"
            " name the file .tsv where they stand apart by tabs"
        )
    twice = [name for name, count in Counter(header).items() if count > 1 and name.strip()]
    if twice:
        raise InvalidSettings(f"{path}:1: the header names {twice[0]!r} twice")
    return header


# --- parquet, and folders of classes


def _parquet(stream: BinaryIO, source: str, options: ReadOptions) -> Iterator[Record]:
    names = parquet.columns(stream, source)
    needed_columns = options.choose(names)
    columns = [name for name in names if name in needed_columns]
    for number, row in enumerate(parquet.rows(stream, source, columns), start=1):
        num_characters = sum(len(cell) for cell in row.values() if isinstance(cell, str))
        too_large = num_characters > options.max_bytes
        error = TooLarge(f"the row has more than {options.max_bytes} characters") if too_large else None
        yield Record(f"{source}#{number}", row, error, number, num_characters)


def _class_folder(path: Path) -> Iterator[Record]:
    """One folder per class with one text per file: the aclImdb layout, `unsup` left out."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and folder.name != "unsup")
    if len(folders) < 2:
        raise InvalidSettings(f"{path} needs one folder per class, at least two; it has {len(folders)}")
    for folder in folders:
        for file in sorted(folder.glob("*.txt")):
            try:
                yield Record(str(file), {"text": file.read_text(encoding="utf-8"), "label": folder.name})
            except UnicodeDecodeError:
                yield Record(str(file), {}, InvalidInput("not UTF-8"))


Reader = Callable[[str, ReadOptions, Lines], Iterator[Record]]
_READERS: Mapping[Format, Reader] = {
    "lines": _texts,
    "jsonl": _json_lines,
    "csv": lambda source, options, lines: _delimited(",", source, options, lines),
    "tsv": lambda source, options, lines: _delimited("\t", source, options, lines),
    "auto": _by_first_line,
}
