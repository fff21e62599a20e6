"""Answers as files hold them: json lines with everything, or a table with the best of each answer in columns."""

from __future__ import annotations

import csv
import datetime
import io
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from app.cli.formatting import as_json
from app.core.errors import SetupError
from app.data import Input, arrow
from app.data.cells import plain
from app.data.record import say_once
from app.data.spreadsheet import MAX_CELL_CHARACTERS, check_writer, write_spreadsheet
from app.tasks.spec import TableSpec

Kind = Literal["jsonl", "csv", "tsv", "parquet", "xlsx", "npy"]
KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl", ".ndjson.gz": "jsonl", ".csv": "csv", ".csv.gz": "csv",
    ".tsv": "tsv", ".tsv.gz": "tsv", ".parquet": "parquet", ".xlsx": "xlsx", ".npy": "npy",
}  # fmt: skip
Answers = Sequence[Mapping[str, Any]]
COPIED_BYTES = 1_048_576
"""At a time, of rows that become an array."""


class RowWriter(Protocol):
    """How a kind of file is written."""

    @property
    def joined(self) -> Sequence[str]:
        """Columns that are made of a whole answer, with all of its labels."""
        ...

    def head(self) -> bytes:
        """What stands before the first row."""
        ...

    def rows(self, inputs: Sequence[Input], answers: Answers) -> bytes: ...

    @property
    def convert(self) -> Callable[[Path, Path], None] | None:
        """Makes the file of what was written, where that is not the file itself."""
        ...


@dataclass(frozen=True, slots=True)
class WrittenRows:
    """Answered rows, as the file holds them."""

    rows: bytes
    num_rows: int
    num_failed: int
    share: float = 0.0
    """Of the input, read by then; for those who do not read it themselves."""


def written(writer: RowWriter, inputs: Sequence[Input], answers: Answers, share: float = 0.0) -> WrittenRows:
    return WrittenRows(writer.rows(inputs, answers), len(inputs), sum("error" in answer for answer in answers), share)


def row_writer(
    target: Path,
    table: TableSpec,
    options: Mapping[str, Any],
    task_options: Mapping[str, Any],
    kept_columns: Sequence[str] = (),
) -> RowWriter:
    """
    Args:
        options: of each request; `top_k` says how many labels or answers a table's row has.
        kept_columns: of the input, which stand beside the answers.

    Raises:
        SetupError: no such kind of file is written of these answers, or what it needs is not installed.
    """
    kind = next((kind for suffix, kind in KINDS.items() if target.name.lower().endswith(suffix)), None)
    if kind is None:
        raise SetupError(f"{target}: a name must say what to write, with one of {', '.join(KINDS)}")
    if kind == "jsonl":
        return JsonLines()
    if kind == "npy":
        if not table.vector or kept_columns:
            told = "no columns of the input" if table.vector else "and these answers are none"
            raise SetupError(f"{target}: a .npy file holds vectors alone, {told}; write .parquet or .jsonl")
        return Vectors(table.vector, table.vector_size(task_options, options))
    answers = AnswerTable(table, options.get("top_k") or 1, table.joined(task_options), tuple(kept_columns))
    if kind == "parquet":
        arrow.check()
        return Converted(answers, _write_parquet)
    if kind == "xlsx":
        check_writer()
        return Converted(answers, _write_xlsx)
    return Delimited(answers, "," if kind == "csv" else "\t")


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """The columns of a task's answers, and the cells of each."""

    spec: TableSpec
    limit: int
    joined: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)
    """Columns that are made of a whole answer, which the task's table says the model has."""
    kept_columns: tuple[str, ...] = ()
    """Of the input."""

    @property
    def kept_names(self) -> dict[str, str]:
        """What each column of the input is called here: by its own name, or `input_…` where an answer has that name."""
        taken = {*self._answer_types, *self.kept_columns}
        names: dict[str, str] = {}
        for column in self.kept_columns:
            name = column
            while name in self._answer_types or (name != column and name in taken):
                name = f"input_{name}"
            names[column] = name
            taken.add(name)
        return names

    @property
    def types(self) -> dict[str, type]:
        answer = self._answer_types
        position = {name: answer.pop(name) for name in ("line", "id")}
        return {**position, **dict.fromkeys(self.kept_names.values(), str), **answer}

    @property
    def _answer_types(self) -> dict[str, type]:
        joined = dict.fromkeys(self.joined, str)
        return {"line": int, "id": str, **joined, **self.spec.columns(self.limit), "error": str}

    def cells(self, item: Input, answer: Mapping[str, Any]) -> list[Any]:
        """None where there is nothing to tell: an error has no answer, and an answer no error."""
        own = _text(item.id)
        kept = [_cell(item.kept.get(column)) for column in self.kept_columns]
        error = answer["error"]["detail"] if "error" in answer else None
        joined = [None if "error" in answer else join(answer) for join in self.joined.values()]
        cells = [item.line, own, *kept, *joined, *self.spec.cells(answer, self.limit), error]
        # a lone surrogate, of an id or a label, is written as its escape
        return [cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell for cell in cells]


def _cell(value: Any) -> Any:
    value = plain(value)
    return value if value is None or isinstance(value, bool | int | float) else _text(value)


def _flat(cell: Any) -> Any:
    """A cell of a file that has no lists: a list is JSON."""
    return json.dumps(cell, separators=(",", ":")) if isinstance(cell, list) else cell


def _text(value: Any) -> str | None:
    """A text as it is; of lists and the like their JSON."""
    value = plain(value)
    is_scalar = isinstance(value, str | datetime.date | datetime.time)
    return None if value is None else str(value) if is_scalar else json.dumps(value, ensure_ascii=False, default=str)


class JsonLines:
    """What `hooper predict` prints, and the service answers."""

    convert = None
    joined = ()

    def head(self) -> bytes:
        return b""

    def rows(self, inputs: Sequence[Input], answers: Answers) -> bytes:
        lines = (line for pair in zip(inputs, answers, strict=True) for line in as_json(False, *pair))
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Delimited:
    """csv or tsv with a header."""

    table: AnswerTable
    delimiter: str

    @property
    def joined(self) -> Sequence[str]:
        return list(self.table.joined)

    @property
    def convert(self) -> None:
        return None

    def head(self) -> bytes:
        return self._lines([list(self.table.types)])

    def rows(self, inputs: Sequence[Input], answers: Answers) -> bytes:
        return self._lines(self.table.cells(*pair) for pair in zip(inputs, answers, strict=True))

    def _lines(self, rows: Any) -> bytes:
        buffer = io.StringIO()
        csv.writer(buffer, delimiter=self.delimiter, lineterminator="\n").writerows(
            [str(cell).lower() if isinstance(cell, bool) else _flat(cell) for cell in row] for row in rows
        )
        return buffer.getvalue().encode()


@dataclass(frozen=True, slots=True)
class Vectors:
    """numpy's array of float32, (rows, numbers): its rows lie one after the other, so that they need only a head to become one.
    A row that cannot be answered is NaN."""

    name: str
    """Of the vector in an answer."""
    size: int
    joined = ()

    def head(self) -> bytes:
        return b""

    def rows(self, inputs: Sequence[Input], answers: Answers) -> bytes:
        missing = [float("nan")] * self.size
        return np.array([answer.get(self.name, missing) for answer in answers], "<f4").tobytes()

    @property
    def convert(self) -> Callable[[Path, Path], None]:
        return self._write

    def _write(self, partial: Path, target: Path) -> None:
        num_rows = partial.stat().st_size // (4 * self.size)
        with partial.open("rb") as rows, target.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (num_rows, self.size)}
            np.lib.format.write_array_header_1_0(file, header)
            shutil.copyfileobj(rows, file, COPIED_BYTES)


@dataclass(frozen=True, slots=True)
class Converted:
    """A parquet or xlsx file cannot be resumed: cells are kept as json lines until all of them are there."""

    table: AnswerTable
    write: Callable[[Path, AnswerTable, Path], None]

    @property
    def joined(self) -> Sequence[str]:
        return list(self.table.joined)

    def head(self) -> bytes:
        return b""

    def rows(self, inputs: Sequence[Input], answers: Answers) -> bytes:
        rows = (self.table.cells(*pair) for pair in zip(inputs, answers, strict=True))
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()

    @property
    def convert(self) -> Callable[[Path, Path], None]:
        return lambda partial, target: self.write(target, self.table, partial)


def _write_parquet(target: Path, table: AnswerTable, partial: Path) -> None:
    names = list(table.types)
    own = {names.index(name): _common_type(partial, names.index(name)) for name in table.kept_names.values()}
    types = {name: own.get(index, kind) for index, (name, kind) in enumerate(table.types.items())}
    rows = ([_as_kind(own.get(index), cell) for index, cell in enumerate(row)] for row in _kept_rows(partial))
    arrow.write(target, types, rows)


def _write_xlsx(target: Path, table: AnswerTable, partial: Path) -> None:
    num_cut = write_spreadsheet(target, list(table.types), ([*map(_flat, row)] for row in _kept_rows(partial)))
    if num_cut:
        say_once(f"{num_cut:,} texts were cut: a cell of a spreadsheet holds {MAX_CELL_CHARACTERS:,} characters")


def _common_type(partial: Path, index: int) -> type:
    """Of a column that was kept: a number or a boolean where all of its cells are such, else a text."""
    kinds = {type(row[index]) for row in _kept_rows(partial)} - {type(None)}
    return int if kinds == {int} else float if kinds and kinds <= {int, float} else bool if kinds == {bool} else str


def _as_kind(kind: type | None, cell: Any) -> Any:
    return cell if kind is None or cell is None else kind(cell)


def _kept_rows(path: Path) -> Iterator[Sequence[Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
