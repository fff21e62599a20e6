"""Answers as files hold them: json lines with everything, or a table with the best of each answer in columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from app.cli.formatting import as_json
from app.core.errors import SetupError
from app.data import Input, arrow
from app.tasks.spec import TableSpec

Kind = Literal["jsonl", "csv", "tsv", "parquet"]
KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl", ".ndjson.gz": "jsonl", ".csv": "csv", ".csv.gz": "csv",
    ".tsv": "tsv", ".tsv.gz": "tsv", ".parquet": "parquet",
}  # fmt: skip
Answers = Sequence[Mapping[str, Any]]


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


def row_writer(target: Path, table: TableSpec, limit: int, task_options: Mapping[str, Any]) -> RowWriter:
    """
    Args:
        target: its name says what kind of file it is.
        table: the columns of the task's answers.
        limit: labels or answers in a table's row.
        task_options: of the model's manifest.

    Raises:
        SetupError: no such kind of file is written, or what it needs is not installed.
    """
    kind = next((kind for suffix, kind in KINDS.items() if target.name.lower().endswith(suffix)), None)
    if kind is None:
        raise SetupError(f"{target}: a name must say what to write, with one of {', '.join(KINDS)}")
    if kind == "jsonl":
        return JsonLines()
    if kind == "parquet":
        arrow.check()
        return Parquet(AnswerTable(table, limit, table.joined(task_options)))
    return Delimited(AnswerTable(table, limit, table.joined(task_options)), "," if kind == "csv" else "\t")


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """The columns of a task's answers, and the cells of each."""

    spec: TableSpec
    limit: int
    joined: Mapping[str, Callable[[Mapping[str, Any]], str]] = field(default_factory=dict)
    """Columns that are made of a whole answer, which the task's table says the model has."""

    @property
    def types(self) -> dict[str, type]:
        joined = dict.fromkeys(self.joined, str)
        return {"line": int, "id": str, **joined, **self.spec.columns(self.limit), "error": str}

    def cells(self, item: Input, answer: Mapping[str, Any]) -> list[Any]:
        """None where there is nothing to tell: an error has no answer, and an answer no error."""
        own = item.id if item.id is None or isinstance(item.id, str) else json.dumps(item.id, ensure_ascii=False)
        error = answer["error"]["detail"] if "error" in answer else None
        joined = [None if "error" in answer else join(answer) for join in self.joined.values()]
        cells = [item.line, own, *joined, *self.spec.cells(answer, self.limit), error]
        # a lone surrogate, of an id or a label, is written as its escape
        return [cell.encode("utf-8", "backslashreplace").decode() if isinstance(cell, str) else cell for cell in cells]


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
            [str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows
        )
        return buffer.getvalue().encode()


@dataclass(frozen=True, slots=True)
class Parquet:
    """A parquet file cannot be resumed: cells are kept as json lines until all of them are there."""

    table: AnswerTable

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
        return lambda partial, target: arrow.write(target, self.table.types, _kept_rows(partial))


def _kept_rows(path: Path) -> Iterator[Sequence[Any]]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)
