"""Answers as a table: a data frame of pandas, or a structured array of numpy, with the columns that `hooper batch` writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from app.core.errors import InvalidSettings
from app.tasks.spec import TableSpec

Joined = Mapping[str, Callable[[Mapping[str, Any]], str]]
NONE: Joined = MappingProxyType({})
DTYPES = {str: object, float: np.float64, int: np.int64, bool: np.bool_}
MISSING = {str: None, float: float("nan"), int: 0, bool: False}
"""What stands in an array where an item has no answer."""


def frame_of(
    results: Sequence[Mapping[str, Any]], table: TableSpec, num_ranks: int, index: Any = None, joined: Joined = NONE
) -> Any:
    """
    Args:
        results: as the service answers them, or an error in a result's place.
        table: the columns of the task's answers.
        num_ranks: how many labels or answers of each item have columns: `label`, `score`, `label_2`, `score_2`, ….
        index: of the frame.
        joined: columns of text that are made of a whole result.

    Returns:
        A `pandas.DataFrame`; its column `error` is there where an item has one.

    Raises:
        InvalidSettings: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise InvalidSettings("a data frame needs pandas: pip install pandas") from None
    rows = [_cells(result, table, num_ranks, joined) for result in results]
    names = [*joined, *table.columns(num_ranks)]
    columns = {name: [row[number] for row in rows] for number, name in enumerate(names)}
    errors = [_error(result) for result in results]
    if any(errors):
        columns["error"] = errors
    return pandas.DataFrame(columns, index=index, columns=list(columns))


def array_of(results: Sequence[Mapping[str, Any]], table: TableSpec, num_ranks: int, joined: Joined = NONE) -> np.ndarray:
    """The same as a structured array, (items,): `array["label"]`, `array["score"]`. Where an item has no answer, texts are None
    and floats NaN, and its `error` says why."""
    types = {**dict.fromkeys(joined, str), **table.columns(num_ranks)}
    dtype: Any = [(name, DTYPES.get(kind, object)) for name, kind in types.items()]
    array = np.empty(len(results), [*dtype, ("error", object)])
    for number, result in enumerate(results):
        cells = zip(_cells(result, table, num_ranks, joined), types.values(), strict=True)
        array[number] = (*(MISSING.get(kind) if cell is None else cell for cell, kind in cells), _error(result))
    return array


def vectors_of(results: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    """The vectors of results as float32: (items, numbers). Where an item has no answer they are NaN.

    Args:
        results: as for `frame_of`.
        name: of the vector in a result.
    """
    size = next((len(result[name]) for result in results if name in result), 0)
    missing = [float("nan")] * size
    return np.array([result.get(name, missing) for result in results], np.float32).reshape(len(results), size)


def _cells(result: Mapping[str, Any], table: TableSpec, num_ranks: int, joined: Joined) -> list[Any]:
    whole = [None if "error" in result else join(result) for join in joined.values()]
    return [*whole, *table.cells(result, num_ranks)]


def _error(result: Mapping[str, Any]) -> str | None:
    return str(result["error"]["detail"]) if "error" in result else None
