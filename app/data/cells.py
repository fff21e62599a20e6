"""Cells of labelled data, whatever wrote them: spreadsheets, pandas, numpy, Hugging Face's data sets."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

MISSING_TEXTS = ("nan", "<na>", "nat")
"""What pandas writes into a csv file where there is nothing."""
YES, NO = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")
_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=[^)]*)?\)", re.DOTALL)
_NUMPY_TEXTS = re.compile(r"""\[\s*(?:'[^']*'|"[^"]*")(?:\s+(?:'[^']*'|"[^"]*"))+\s*\]""")
_NUMPY_NUMBERS = re.compile(r"\[\s*-?\d+\.?(?:\s+-?\d+\.?)+\s*\]")


def plain(cell: Any) -> Any:
    """Python's own value of a cell of numpy or pandas, also within lists and mappings; None where there is nothing."""
    if hasattr(cell, "tolist"):  # arrays and scalars of numpy
        cell = cell.tolist()
    if isinstance(cell, Mapping):
        return {str(name): plain(value) for name, value in cell.items()}
    if isinstance(cell, list | tuple):
        return [plain(value) for value in cell]
    if isinstance(cell, Decimal):
        cell = float(cell)
    # NaN alone differs from itself; pandas has two words of its own for nothing, which compare with nothing
    missing = type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)
    return None if missing else cell


def is_missing(cell: Any) -> bool:
    """Whether there is nothing in a cell, or pandas' word for it."""
    return cell is None or (isinstance(cell, str) and (not cell.strip() or cell.strip().lower() in MISSING_TEXTS))


def literal(text: str) -> Any:
    """The list or mapping that a cell of text spells, as JSON, as Python or as numpy prints it; None where it spells none."""
    text = text.strip()
    if not text or text[0] + text[-1] not in ("[]", "{}", "()"):
        return None
    if _NUMPY_TEXTS.fullmatch(text):  # Python would join the texts into one
        return [quoted[1:-1] for quoted in re.findall(r"""'[^']*'|"[^"]*\"""", text)]
    if _NUMPY_NUMBERS.fullmatch(text):
        return [int(number.rstrip(".")) for number in text[1:-1].split()]
    for parse in (json.loads, lambda value: ast.literal_eval(_ARRAY.sub(r"\1", value))):
        try:
            value = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, set):  # of no order: the same each time
            value = sorted(value, key=str)
        if isinstance(value, list | tuple | dict):
            return plain(value)
    return None


def spelled(cell: Any) -> Any:
    """The cell, or the list or mapping that its text spells."""
    value = literal(cell) if isinstance(cell, str) else None
    return cell if value is None else value


def truth(cell: Any) -> bool | None:
    """Yes or no, in any spelling that files have for it; nothing is no. None where it is neither."""
    if is_missing(cell):
        return False
    text = str(cell).strip().lower()
    return True if text in YES else False if text in NO else None


def offset(cell: Any) -> int | None:
    """A place in a text, as a number or its text.

    Raises:
        ValueError: it is neither nothing nor a whole number.
    """
    if is_missing(cell):
        return None
    if isinstance(cell, bool) or not isinstance(cell, int | float | str):
        raise ValueError(cell)
    number = float(cell)
    if not number.is_integer():
        raise ValueError(cell)
    return int(number)


def in_lower_case(columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns also by their names in lower case, for those who look for `question` where the file has `Question`."""
    return {**{name.strip().lower(): value for name, value in columns.items()}, **columns}


def with_names(columns: Mapping[str, Any], features: Mapping[str, Any]) -> dict[str, Any]:
    """The columns with the names of classes in place of their numbers, as Hugging Face's description of a data set tells them,
    however deep they stand; None for -1, which says that there is no label."""
    return {name: _with_class_names(value, features.get(name)) for name, value in columns.items()}


def _with_class_names(value: Any, feature: Any) -> Any:
    if value is None or feature is None:
        return value
    if isinstance(feature, list):  # an old way of writing a sequence
        return [_with_class_names(item, feature[0]) for item in value]
    names = feature.get("names")
    if feature.get("_type") == "ClassLabel" and isinstance(names, Sequence):
        return (names[value] if 0 <= value < len(names) else None) if isinstance(value, int) else value
    inner = feature.get("feature")
    if inner is not None and isinstance(value, dict):  # a sequence of mappings is kept as a mapping of lists
        return {name: [_with_class_names(item, inner.get(name)) for item in items] for name, items in value.items()}
    if inner is not None:
        return [_with_class_names(item, inner) for item in value]
    return with_names(value, feature) if isinstance(value, dict) else value
