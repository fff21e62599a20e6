"""What a caller gives to be answered: a text, a mapping, or many of them in a list, an array, a column or a data frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.data import InputSchema
from app.data.cells import plain

Entry = str | Mapping[str, Any] | HooperError
"""A text, an item by its fields, or why there is none."""
EMPTY = "there is nothing to read here (None or NaN)"


@dataclass(frozen=True, slots=True)
class ReadInputs:
    """Items in order."""

    entries: Iterable[Entry]
    is_single: bool
    """Whether it is one item and no list of them."""
    index: Any = None
    """The index of a series or data frame of pandas."""

    def listed(self) -> list[Entry]:
        """All of them.

        Raises:
            InvalidInput: there is nothing but values that are no items.
        """
        entries = list(self.entries)
        if entries and all(isinstance(entry, WrongType) for entry in entries):
            raise entries[0]  # type: ignore[misc]  # of WrongType
        return entries


class WrongType(InvalidInput):
    """Neither a text nor the fields of an item."""


def read_inputs(inputs: Any, schema: InputSchema) -> ReadInputs:
    """
    Args:
        inputs: a text; a mapping of fields; or an iterable of these, of sequences of texts in the order of the fields, an array
            of numpy, (items,) or (items, fields), a series or a data frame of pandas or polars, whose columns are matched as
            those of files are. A mapping may have the columns that the model was trained on in place of the fields.
        schema: the fields of the task's items, and the columns that hold them; without fields, items are whatever they are.

    Raises:
        InvalidInput: it is nothing that has items.
        InvalidSettings: a data frame has no column for a field.
    """
    fields = list(schema.specs)
    if isinstance(inputs, str | Mapping):
        return ReadInputs([_of_trained(entry_of(inputs, fields), schema)], is_single=True)
    records = _frame_records(inputs)
    if records is not None:
        return ReadInputs(_of_frame(records, schema), False, _index(inputs))
    num_axes = getattr(inputs, "ndim", 1)
    if num_axes == 0:
        return ReadInputs([entry_of(inputs, fields)], is_single=True)
    if num_axes > 2:
        raise InvalidInput(f"an array of {num_axes} axes holds no texts; give one of (items,), or of (items, fields)")
    if isinstance(inputs, bytes | bytearray) or not isinstance(inputs, Iterable):
        raise InvalidInput(f"an input must be a text or a mapping of fields, or many of them, not {type(inputs).__name__}")
    return ReadInputs((_of_trained(entry_of(value, fields), schema) for value in inputs), False, _index(inputs))


def entry_of(value: Any, fields: Iterable[str]) -> Entry:
    """One item of many."""
    names = list(fields)
    value = plain(value)
    if value is None:
        return InvalidInput(EMPTY)
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {str(name): cell for name, cell in value.items() if cell is not None}
    if isinstance(value, list) and 0 < len(value) <= len(names) and all(isinstance(cell, str | None) for cell in value):
        return {name: cell for name, cell in zip(names, value, strict=False) if cell is not None}
    return WrongType(f"an input must be a text or a mapping of fields, not {type(value).__name__}")


def _of_trained(entry: Entry, schema: InputSchema) -> Entry:
    """A row with the columns that the model was trained on, as the fields that they hold; anything else as it is."""
    if not isinstance(entry, Mapping) or not schema.trained_columns or not schema.missing({name: name for name in entry}):
        return entry
    matches = schema.match_trained(list(entry))
    return {field: entry[column] for field, column in matches.items()} if matches else entry


def _frame_records(inputs: Any) -> list[dict[str, Any]] | None:
    """The rows of a data frame by the names of its columns; None: it is none."""
    if all(hasattr(inputs, name) for name in ("columns", "iloc", "to_dict")):  # pandas
        rows: list[dict[str, Any]] = inputs.to_dict("records")
        return rows
    for method in ("to_dicts", "to_pylist"):  # polars, pyarrow
        if hasattr(inputs, method) and hasattr(inputs, "columns"):
            return list(getattr(inputs, method)())
    return None


def _of_frame(records: Sequence[Mapping[str, Any]], schema: InputSchema) -> Iterator[Entry]:
    if not records:
        return iter(())
    if not schema.specs:
        return (entry_of(record, ()) for record in records)
    columns = [str(name) for name in records[0]]
    matches = schema.match(columns)
    missing = schema.missing(matches)
    if missing and len(columns) == 1:
        matches, missing = {schema.text_field: columns[0]}, ""
    if missing:
        raise InvalidSettings(
            f"which column holds the {missing}? The data frame has {', '.join(map(repr, columns)) or 'none'}; rename it to"
            f" {missing!r}, or give the column alone"
        )
    required = [name for name, field in schema.specs.items() if field.required]
    return (_of_row({str(name): cell for name, cell in record.items()}, matches, required) for record in records)


def _of_row(row: Mapping[str, Any], matches: Mapping[str, str], required: Sequence[str]) -> Entry:
    cells = {field: plain(row.get(column)) for field, column in matches.items()}
    missing = next((name for name in required if cells.get(name) is None), None)
    if missing is not None:
        return InvalidInput(EMPTY, missing)
    return {field: cell for field, cell in cells.items() if cell is not None}


def _index(inputs: Any) -> Any:
    index = getattr(inputs, "index", None)
    return None if callable(index) else index  # of a list it is a method
