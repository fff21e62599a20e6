"""Answers as files hold them: json lines with everything, or a table with the best of each answer in columns."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from app.cli import parquet
from app.cli.answers import as_json
from app.cli.inputs import Asked
from app.core.errors import SetupError
from app.core.types import TaskName

Kind = Literal["jsonl", "csv", "tsv", "parquet"]
KINDS: Mapping[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl", ".ndjson.gz": "jsonl", ".csv": "csv", ".csv.gz": "csv",
    ".tsv": "tsv", ".tsv.gz": "tsv", ".parquet": "parquet",
}  # fmt: skip
Cells = Sequence[Any]


class Sheet(Protocol):
    """What a kind of file is written with."""

    def head(self) -> bytes:
        """What stands before the first row."""
        ...

    def rows(self, asked: Sequence[Asked], answers: Sequence[Mapping[str, Any]]) -> bytes: ...

    @property
    def convert(self) -> Callable[[Path, Path], None] | None:
        """Makes the file of what was written, where that is not the file itself."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """Answered rows, as the file holds them."""

    rows: bytes
    num_rows: int
    num_failed: int
    share: float = 0.0
    """Of the input, read by then; for those who do not read it themselves."""


def written(sheet: Sheet, asked: Sequence[Asked], answers: Sequence[Mapping[str, Any]], share: float = 0.0) -> Written:
    return Written(sheet.rows(asked, answers), len(asked), sum("error" in one for one in answers), share)


def sheet_for(target: Path, task: TaskName, most: int) -> Sheet:
    """
    Args:
        target: its name says what kind of file it is.
        task: the model's.
        most: labels or answers in a table's row.

    Raises:
        SetupError: no such kind of file is written, or what it needs is not installed.
    """
    kind = next((kind for suffix, kind in KINDS.items() if target.name.lower().endswith(suffix)), None)
    if kind is None:
        raise SetupError(f"{target}: a name must say what to write, with one of {', '.join(KINDS)}")
    if kind == "jsonl":
        return JsonLines()
    if kind == "parquet":
        parquet.check()
        return Parquet(Table(task, most))
    return Delimited(Table(task, most), "," if kind == "csv" else "\t")


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a task's answers, and the cells of each."""

    task: TaskName
    most: int

    @property
    def types(self) -> dict[str, type]:
        many, single = _COLUMNS[self.task]
        numbered = {f"{name}_{number}": kind for number in range(2, self.most + 1) for name, kind in many.items()}
        return {"line": int, "id": str, **many, **numbered, **single, "error": str}

    def cells(self, asked: Asked, answer: Mapping[str, Any]) -> list[Any]:
        """None where there is nothing to tell: an error has no answer, and an answer no error."""
        many, single = _COLUMNS[self.task]
        found = answer.get("labels") or answer.get("answers") or []
        best = [found[rank].get(name) if rank < len(found) else None for rank in range(self.most) for name in many]
        own = asked.id if asked.id is None or isinstance(asked.id, str) else json.dumps(asked.id, ensure_ascii=False)
        error = answer["error"]["detail"] if "error" in answer else None
        cells = [asked.line, own, *(best if many else []), *(answer.get(name) for name in single), error]
        return [_writable(cell) if isinstance(cell, str) else cell for cell in cells]


class JsonLines:
    """What `hooper predict` prints, and the service answers."""

    convert = None

    def head(self) -> bytes:
        return b""

    def rows(self, asked: Sequence[Asked], answers: Sequence[Mapping[str, Any]]) -> bytes:
        lines = (line for pair in zip(asked, answers, strict=True) for line in as_json(False, *pair))
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Delimited:
    """csv or tsv with a header."""

    table: Table
    delimiter: str

    @property
    def convert(self) -> None:
        return None

    def head(self) -> bytes:
        return self._lines([list(self.table.types)])

    def rows(self, asked: Sequence[Asked], answers: Sequence[Mapping[str, Any]]) -> bytes:
        return self._lines(self.table.cells(*pair) for pair in zip(asked, answers, strict=True))

    def _lines(self, rows: Any) -> bytes:
        written = io.StringIO()
        csv.writer(written, delimiter=self.delimiter, lineterminator="\n").writerows(
            [str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows
        )
        return written.getvalue().encode()


@dataclass(frozen=True, slots=True)
class Parquet:
    """A parquet file cannot be gone on with: cells are kept as json lines until all of them are there."""

    table: Table

    def head(self) -> bytes:
        return b""

    def rows(self, asked: Sequence[Asked], answers: Sequence[Mapping[str, Any]]) -> bytes:
        rows = (self.table.cells(*pair) for pair in zip(asked, answers, strict=True))
        return "".join(f"{json.dumps(row)}\n" for row in rows).encode()

    @property
    def convert(self) -> Callable[[Path, Path], None]:
        return lambda kept, target: parquet.write(target, self.table.types, _kept(kept))


def _kept(path: Path) -> Iterator[Cells]:
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


def _writable(text: str) -> str:
    """A lone surrogate, of an id or a label, is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


_READ = {"num_tokens": int, "truncated": bool}
_COLUMNS: Mapping[TaskName, tuple[Mapping[str, type], Mapping[str, type]]] = {
    "text-classification": ({"label": str, "score": float}, _READ),
    "question-answering": (
        {"answer": str, "score": float, "start": int, "end": int}, {"no_answer_score": float, **_READ},
    ),
    "summarization": ({}, {"summary": str, **_READ}),
}  # fmt: skip
"""Columns that there are once for each label or answer, and those that there are once."""
