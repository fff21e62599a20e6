"""Labelled data, from wherever it is, in two parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, overload

from app.core.command_line import FILE_OPTIONS
from app.core.errors import InvalidSettings
from app.data import ReadOptions, Record
from app.data.cells import plain
from scripts.tasks import training_task
from scripts.training.columns import with_task
from scripts.training.data import Example
from scripts.training.recipe import AUTO, recipe_of
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
PartName = Literal["train", "validation"]
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
    split: dict[str, Sequence[Example]] = field(default_factory=dict, repr=False)
    """The examples of each part, once a trainer has settled them, or somebody has asked for them."""

    def __repr__(self) -> str:
        return f"<{len(self):,} rows of {', '.join([*self.sources, *self.validation])}>"

    def __len__(self) -> int:
        return sum(map(len, self.records.values()))

    @cached_property
    def rows(self) -> Mapping[tuple[str, str], Record]:
        """By source and place."""
        return {(source, record.where): record for source, records in self.records.items() for record in records}

    def recipe_values(self) -> dict[str, Any]:
        """What a recipe says of it."""
        return {"data": list(self.sources), "validation": list(self.validation), "split": self.split_ratio}

    def examples(self, part: PartName) -> Sequence[Example]:
        """The rows of a part: those of the last trainer, else those that one with default options would have.

        Raises:
            InvalidSettings: which task or which columns are meant is not clear; a trainer can be told.
        """
        if part not in self.split:
            recipe = recipe_of({"name": "data", "task": AUTO, **self.recipe_values()})
            recipe, _ = with_task(recipe, self.records)
            dataset = training_task(recipe.task).prepare(recipe, self.records).dataset
            self.split.update(train=dataset.train, validation=dataset.validation)
        return self.split[part]


@dataclass(frozen=True, eq=False)
class DataPart(Sequence[Any]):
    """The rows to train on, or those held out: `len(train)`, `train[0]`, `for row in train`, each row as a mapping of its
    columns. The last trainer that was made of it settles which rows these are."""

    data: Data
    name: PartName

    def __repr__(self) -> str:
        kind = "to train on" if self.name == "train" else "held out"
        sources = ", ".join([*self.data.sources, *self.data.validation])
        rows = self.data.split.get(self.name)
        size = f"{len(rows):,} rows" if rows is not None else f"a part of {len(self.data):,} rows"
        return f"<{self.name}: {size} of {sources}, {kind}>"

    def __len__(self) -> int:
        return len(self.data.examples(self.name))

    def __bool__(self) -> bool:
        return True

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        examples = self.data.examples(self.name)
        if isinstance(index, slice):
            return [self._row(example) for example in examples[index]]
        return self._row(examples[index])

    def _row(self, example: Example) -> dict[str, Any]:
        return dict(self.data.rows[example.source, example.where].columns)


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
