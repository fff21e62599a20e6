"""The X and y of estimators: texts, or pairs of them, and the labels of each row in any form that scikit-learn knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.core.fields import FieldSpec
from app.data import InputSchema
from app.data.cells import is_missing, plain
from app.tasks.base import refuse_text
from hooper.inputs import read_inputs

LISTS = (list, tuple, set, frozenset, np.ndarray)
"""What may hold the labels of a row that may have several."""


def texts_of(X: Any, fields: Mapping[str, FieldSpec], text_column: str) -> list[dict[str, str]]:  # noqa: N803
    """The fields of each row.

    Args:
        X: of an estimator.
        fields: of the task's items.
        text_column: where the text stands in a data frame; empty: as columns of files are matched.

    Raises:
        InvalidInput: a row is no text, or empty; the message says which.
    """
    schema = InputSchema(fields, text_column=text_column)
    inputs = read_inputs(X, schema)
    if inputs.is_single:
        raise InvalidInput("X must hold many texts, as a list or a column, not one")
    rows = []
    for number, entry in enumerate(inputs.entries):
        if isinstance(entry, HooperError):
            raise InvalidInput(entry.detail, f"X[{number}]")
        row = {schema.text_field: entry} if isinstance(entry, str) else dict(entry)
        for name, text in row.items():
            if name not in fields or not isinstance(text, str):
                raise InvalidInput(f"{name} is no text of the task", f"X[{number}]")
            if (refusal := refuse_text(text, name)) is not None:
                raise refusal.within(f"X[{number}]")
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Labels:
    """The labels that y holds."""

    form: Literal["single", "matrix", "lists"]
    """How it says which a row has: one, a column of 0 and 1 for each, or a list."""
    classes: np.ndarray
    """The labels as they stand there, in the order of columns."""
    names: list[str]
    """As texts."""
    cells: list[Any]
    """Of each row its label as a text, or a list of them."""


def labels_of(y: Any) -> Labels:
    """
    Raises:
        InvalidSettings: y holds no labels, or two that are written alike.
    """
    if hasattr(y, "toarray"):  # a sparse matrix
        y = y.toarray()
    columns = list(y.columns) if hasattr(y, "columns") else None
    array = y.to_numpy() if hasattr(y, "to_numpy") else y if isinstance(y, np.ndarray) else None
    if array is not None and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array is not None and array.ndim == 2:
        return _of_matrix(array, columns)
    values = list(array if array is not None else y)
    if any(isinstance(value, LISTS) for value in values):
        return _of_lists(values)
    missing = next((number for number, value in enumerate(values) if is_missing(plain(value))), None)
    if missing is not None:
        raise InvalidSettings(f"y[{missing}] is no label: it is empty")
    classes, places = np.unique(np.asarray(values), return_inverse=True)
    if classes.dtype.kind == "f" and not np.array_equal(classes, np.round(classes)):
        raise InvalidSettings("y holds numbers that are no labels; TextRegressor learns numbers")
    names = _distinct(int(value) if classes.dtype.kind == "f" else value for value in classes.tolist())
    return Labels("single", classes, names, [names[place] for place in places])


def _of_matrix(array: np.ndarray, columns: Sequence[Any] | None) -> Labels:
    values = np.asarray(array)
    if values.size and not np.isin(values, (0, 1)).all():
        raise InvalidSettings("y has several columns, and other values than 0 and 1: one column is a label")
    classes = np.asarray(columns if columns is not None else np.arange(values.shape[1]))
    names = _distinct(classes.tolist())
    return Labels("matrix", classes, names, [[name for name, has in zip(names, row, strict=True) if has] for row in values])


def _of_lists(values: Sequence[Any]) -> Labels:
    wrong = next((number for number, value in enumerate(values) if not isinstance(value, LISTS)), None)
    if wrong is not None:
        raise InvalidSettings(f"y[{wrong}] is no list of labels, and others are")
    classes = np.unique(np.asarray([label for value in values for label in value]))
    names = _distinct(classes.tolist())
    named = dict(zip(classes.tolist(), names, strict=True))
    return Labels("lists", classes, names, [[named[plain(label)] for label in value] for value in values])


def _distinct(labels: Iterable[Any]) -> list[str]:
    names = [str(label) for label in labels]
    if len(set(names)) < len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InvalidSettings(f"two labels of y are both written {double!r}; name one of them otherwise")
    return names
