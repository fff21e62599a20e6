"""A row as it was read, and how files are read."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.core.errors import HooperError
from app.core.manifest import UNKNOWN_FORMAT, DataFormat

Format = Literal["auto", "lines", "jsonl", "json", "csv", "tsv", "parquet", "feather", "spreadsheet", "conll"]
FORMATS: Mapping[str, Format] = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".parquet": "parquet",
    ".feather": "feather", ".arrow": "feather", ".xlsx": "spreadsheet", ".xlsm": "spreadsheet", ".xls": "spreadsheet",
    ".ods": "spreadsheet", ".conll": "conll", ".conllu": "conll", ".conllup": "conll", ".bio": "conll", ".iob": "conll",
    ".iob2": "conll", ".txt": "lines",
}  # fmt: skip
MAX_ROW_BYTES = 16_000_000
"""Of a line, and of a row of several lines: more is a quote that was never closed."""
MAX_WHOLE_BYTES = 1_000_000_000
"""Of what is read as a whole, uncompressed: a JSON array, a spreadsheet."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was read: where it stands, and its columns or why it could not be read."""

    where: str
    columns: Mapping[str, Any]
    error: HooperError | None = None
    line: int = 0
    """Of a table the row that a spreadsheet shows, with the header in row 1; of other texts the line; else its number."""
    num_characters: int = 0
    is_table_row: bool = False
    """Every row of a table has every column: an empty cell says nothing."""

    @property
    def broken(self) -> str:
        return "" if self.error is None else self.error.detail


@functools.cache
def say_once(sentence: str) -> None:
    """Tell whoever runs the program, once."""
    print(sentence, file=sys.stderr, flush=True)


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
    usual: DataFormat = UNKNOWN_FORMAT
    """How the data was written that a model was trained on: counts where the options and the file leave it open."""
    choose: Callable[[Sequence[str]], Collection[str]] = list
    """Refuses a header before any row is read, and says which of its columns are wanted: a parquet file has others unread."""
    say: Callable[[str], None] = say_once
    """Is told what was detected where that may be wrong, in sentences."""
