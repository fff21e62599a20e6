"""What is asked: lines of text, json lines, csv, tsv, also gzipped, and parquet, read one at a time."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from app.cli import parquet
from app.cli.rows import Lines, decoded, read_rows
from app.cli.shape import COLUMNS, OPTIONAL, Format
from app.cli.shape import Asked as Asked
from app.cli.shape import Shape as Shape
from app.core.errors import HooperError, InvalidInput, SetupError, TooLarge
from app.core.table import cells_by_name

STANDARD_INPUT = "-"
BY_SUFFIX: Mapping[str, Format] = {
    ".txt": "lines", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet",
}  # fmt: skip
NOT_LINES = (".json",)


def read(source: str, shape: Shape) -> Iterator[Asked]:
    """The inputs of a file or of standard input, `-`. A line that cannot be read becomes an error in its place; blank ones
    are passed over.

    Raises:
        SetupError: the file cannot be opened, or its columns are not those of the task.
        InvalidInput: the file ends in the middle of what was compressed.
    """
    with open_source(source) as stream:
        yield from read_stream(stream, source, shape)


def read_stream(stream: BinaryIO, source: str, shape: Shape) -> Iterator[Asked]:
    """The same of an open file; whoever opened it closes it."""
    kind = format_of(source, shape)
    try:
        if kind == "parquet":
            yield from _table(stream, source, shape)
        else:
            yield from _READERS[kind](source, shape, _lines(stream, shape.max_bytes))
    except (OSError, EOFError) as error:
        raise InvalidInput(f"{source} cannot be read further: {error}") from error


def check(sources: Sequence[str]) -> None:
    """
    Raises:
        SetupError: one of the files cannot be opened.
    """
    for source in sources:
        if source != STANDARD_INPUT:
            open_source(source).close()


def open_source(source: str) -> BinaryIO:
    """
    Raises:
        SetupError: it is no file, or cannot be opened.
    """
    try:
        # a stream of our own: at exit the interpreter would wait for the lock of sys.stdin's
        raw = open(0, "rb", closefd=False) if source == STANDARD_INPUT else Path(source).open("rb")  # noqa: SIM115
    except OSError as error:
        raise SetupError(f"{source} cannot be read: {error.strerror}") from error
    if source != STANDARD_INPUT and not Path(source).is_file() and not Path(source).is_fifo():
        raw.close()
        raise SetupError(f"{source} is no file")
    return raw


Reader = Callable[[str, Shape, Lines], Iterator[Asked]]


def format_of(source: str, shape: Shape) -> Format:
    """How the source is read; `auto` where its first line decides.

    Raises:
        SetupError: it is known by its name to be nothing that is read here.
    """
    if shape.format != "auto" or source == STANDARD_INPUT:
        return shape.format
    suffix = Path(source.removesuffix(".gz")).suffix.lower()
    if suffix in NOT_LINES:
        raise SetupError(f"{source} cannot be read line by line; write it as json lines, csv or tsv, or say --format")
    return BY_SUFFIX.get(suffix, "auto")


def _lines(stream: BinaryIO, max_bytes: int) -> Lines:
    """Lines with their ends, none longer than `max_bytes` in memory; gzip is known by its first bytes."""
    buffered = cast(io.BufferedReader, stream)
    packed = buffered.peek(2)[:2] == b"\x1f\x8b"
    readable: Any = io.BufferedReader(gzip.GzipFile(fileobj=stream)) if packed else stream
    number = 0
    while line := readable.readline(max_bytes + 1):
        number += 1
        rest = line
        while len(rest) > max_bytes and not rest.endswith(b"\n"):
            rest = readable.readline(max_bytes + 1)
        yield number, line if len(line) <= max_bytes else None


def _by_first_line(source: str, shape: Shape, lines: Lines) -> Iterator[Asked]:
    """Json lines where the first line that is not blank is a JSON object, else lines of text."""
    kept = []
    reader: Reader = _texts
    for number, line in lines:
        kept.append((number, line))
        if line is None or line.strip():
            is_object = line is not None and line.lstrip(b"\xef\xbb\xbf \t").startswith(b"{") and _is_json(line)
            reader = _json_lines if is_object else _texts
            break
    yield from reader(source, shape, _chained(kept, lines))


def _chained(first: Sequence[tuple[int, bytes | None]], rest: Lines) -> Lines:
    yield from first
    yield from rest


def _texts(source: str, shape: Shape, lines: Lines) -> Iterator[Asked]:
    for number, line in lines:
        text = decoded(number, line, shape.max_bytes)
        if isinstance(text, HooperError):
            yield Asked(source, number, text)
        elif text.strip():
            fields = {**shape.given, shape.text_field: text.rstrip("\r\n")}
            yield Asked(source, number, fields, num_characters=len(text))


def _json_lines(source: str, shape: Shape, lines: Lines) -> Iterator[Asked]:
    for number, line in lines:
        text = decoded(number, line, shape.max_bytes)
        if isinstance(text, HooperError):
            yield Asked(source, number, text)
        elif text.strip():
            yield _from_json(source, number, text, shape)


def _from_json(source: str, number: int, text: str, shape: Shape) -> Asked:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        why = getattr(error, "msg", "nested too deeply")
        return Asked(source, number, InvalidInput(f"the line is not valid JSON: {why}"))
    if isinstance(value, str):
        value = {shape.text_field: value}
    if not isinstance(value, dict):
        return Asked(source, number, InvalidInput("the line is neither a JSON object nor a JSON string"))
    missing = shape.missing(list(value))
    if missing:
        return Asked(source, number, InvalidInput(f"the line has no {missing[0]!r}"), value.get("id"))
    return Asked(source, number, shape.fields(value), value.get("id"), len(text))


def _delimited(delimiter: str, source: str, shape: Shape, lines: Lines) -> Iterator[Asked]:
    rows = read_rows(lines, delimiter, shape.max_bytes)
    _, header = next(rows, (1, []))
    if isinstance(header, HooperError):
        raise SetupError(f"{source}: the header cannot be read: {header.detail}")
    _check_columns(source, shape, header)
    for number, cells in rows:
        if isinstance(cells, HooperError):
            yield Asked(source, number, cells)
            continue
        columns = cells_by_name(header, cells)
        if isinstance(columns, str):
            yield Asked(source, number, InvalidInput(f"the row has {columns}"))
        else:
            yield _from_columns(source, number, columns, shape)


def _table(stream: BinaryIO, source: str, shape: Shape) -> Iterator[Asked]:
    columns = parquet.columns(stream, source)
    _check_columns(source, shape, columns)
    wanted = {name for names in COLUMNS[shape.task].values() for name in names} | {shape.text_column, "id"}
    rows = parquet.rows(stream, source, [name for name in columns if name in wanted])
    for number, row in enumerate(rows, start=1):
        size = sum(len(one) for one in row.values() if isinstance(one, str))
        if size > shape.max_bytes:
            yield Asked(source, number, TooLarge(f"the row has more than {shape.max_bytes} characters"), row.get("id"))
        else:
            yield _from_columns(source, number, row, shape)


def _check_columns(source: str, shape: Shape, columns: Sequence[str]) -> None:
    missing = shape.missing(columns)
    if missing:
        present = ", ".join(map(repr, columns)) or "no column"
        raise SetupError(f"which column of {source} holds the {missing[0]}? It has {present}; say --text-column NAME")


def _from_columns(source: str, number: int, columns: Mapping[str, Any], shape: Shape) -> Asked:
    fields = {name: text for name, text in shape.fields(columns).items() if text or name != OPTIONAL}
    num_characters = sum(len(one) for one in columns.values() if isinstance(one, str))
    return Asked(source, number, fields, columns.get("id"), num_characters)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


_READERS: Mapping[Format, Reader] = {
    "lines": _texts,
    "jsonl": _json_lines,
    "csv": partial(_delimited, ","),
    "tsv": partial(_delimited, "\t"),
    "auto": _by_first_line,
}
