"""Labelled data, from wherever it is, in two parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from app.core.command_line import FILE_OPTIONS
from app.core.errors import InvalidSettings
from app.data import ReadOptions, Record
from app.data.cells import plain
from scripts.training.records import read_records


class DataFrameLike(Protocol):
    """A data frame of pandas."""

    columns: Any
    iloc: Any

    def to_dict(self, orient: Literal["records"]) -> Any: ...


Source: TypeAlias = (
    str
    | Path
    | Sequence[str | Path]
    | Sequence[Mapping[str, Any]]
    | Mapping[str, Sequence[Any]]
    | tuple[Sequence[Any], Sequence[Any]]
    | DataFrameLike
)
"""A file, class folder or hub data set (`id` or `id:split`); several of them; rows; columns; texts and labels; a data frame.
Columns, texts and labels may be lists or arrays of numpy."""
Records = dict[str, list[Record]]
"""Rows as they were read, by the source that they are from."""


@dataclass(frozen=True, eq=False)
class Data:
    """What was read. Which rows are held out is settled by the trainer: it knows which rows belong together."""

    records: Records
    sources: Sequence[str]
    validation: Sequence[str]
    """Sources that are held out as a whole."""
    split_ratio: float
    """Share of `sources` to train on; 0: 0.8, or 1 where there is `validation`."""
    call: str
    """The Python that reads it."""


@dataclass(frozen=True, eq=False)
class DataPart:
    """The rows to train on, or those held out."""

    data: Data
    name: Literal["train", "validation"]


def get_dataset(
    source: Source,
    split_ratio: float | None = None,
    validation: Source | None = None,
    *,
    encoding: str = "",
    delimiter: str = "",
    sheet: str = "",
) -> tuple[DataPart, DataPart]:
    """Read labelled data; which columns are needed, and how they may be called, depends on the task.

    Args:
        source: what is trained on, and split.
        split_ratio: share of the rows to train on, the rest is held out; None: 0.8, or 1 where there is `validation`.
        validation: what is held out besides, of the same form.
        encoding: of text files; empty: detected.
        delimiter: between the columns of csv files; empty: detected.
        sheet: of spreadsheets, by name or by number from 1; empty: the first that has rows.

    Returns:
        The rows to train on, and those held out.

    Raises:
        InvalidSettings: it cannot be read, has no rows, or nothing would be held out.
    """
    if split_ratio is not None and not (0 < split_ratio < 1 or (split_ratio == 1 and validation is not None)):
        raise InvalidSettings(f"split_ratio is {split_ratio}; it must be between 0 and 1, or 1 where validation is given")
    options = ReadOptions(encoding=encoding, delimiter=delimiter, sheet=sheet)
    own = read(source, options=options)
    held_out = {} if validation is None else read(validation, "validation ", options)
    words = [_spelled(source, own)]
    words += [] if split_ratio is None else [f"split_ratio={split_ratio!r}"]
    words += [] if validation is None else [f"validation={_spelled(validation, held_out)}"]
    words += [f"{name}={value!r}" for name in FILE_OPTIONS if (value := getattr(options, name))]
    call = f"get_dataset({', '.join(words)})"
    data = Data({**own, **held_out}, list(own), list(held_out), float(split_ratio or 0), call)
    return DataPart(data, "train"), DataPart(data, "validation")


def read(source: Source, prefix: str = "", options: ReadOptions = ReadOptions()) -> Records:
    """The records of each of the source's files, or of the one thing in memory, which is named by its kind.

    Raises:
        InvalidSettings: it cannot be read, or has no rows.
    """
    paths = _paths(source)
    if paths:
        return {path: read_records(path, options) for path in paths}
    kind, rows = _rows(source)
    if not rows:
        raise InvalidSettings(f"the data ({kind}) has no rows")
    name = prefix + kind
    return {name: [Record(f"{name}#{number}", row) for number, row in enumerate(rows, start=1)]}


def _paths(source: Any) -> list[str]:
    """The paths and hub ids that the source consists of; none where it is data in memory."""
    parts = source if isinstance(source, list | tuple) else [source]
    return [str(part) for part in parts] if all(isinstance(part, str | Path) for part in parts) else []


def _rows(source: Any) -> tuple[str, list[dict[str, Any]]]:
    """The kind of thing that it is, and its rows."""
    if isinstance(source, Mapping):
        lengths = {name: len(column) for name, column in source.items()}
        if len(set(lengths.values())) > 1:
            raise InvalidSettings(f"the columns differ in length: {', '.join(f'{k} has {n}' for k, n in lengths.items())}")
        return "columns", [_row(zip(source, cells, strict=True)) for cells in zip(*source.values(), strict=True)]
    if all(hasattr(source, name) for name in ("columns", "iloc", "to_dict")):
        return "data frame", [_row(row.items()) for row in source.to_dict("records")]
    if isinstance(source, list | tuple) and all(isinstance(entry, Mapping) for entry in source):
        return "rows", [_row(row.items()) for row in source]
    if isinstance(source, tuple) and len(source) == 2 and all(hasattr(entry, "__len__") for entry in source):
        return "texts and labels", _rows({"text": source[0], "label": source[1]})[1]
    raise InvalidSettings(
        f"no data can be read from {type(source).__name__}; give a path, a hub id, a list of paths, a list of rows as"
        ' dictionaries, columns as {"text": […], "label": […]}, texts and labels as (texts, labels), or a data frame'
    )


def _row(cells: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    return {str(name): plain(cell) for name, cell in cells}


def _spelled(source: Any, records: Records) -> str:
    """The source as Python; a thing in memory by its kind alone, since its texts stay out of what is published."""
    paths = _paths(source)
    if paths:
        return repr(paths if isinstance(source, list | tuple) else paths[0])
    (name,) = records
    return name.replace(" ", "_")
