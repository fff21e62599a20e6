"""Numbers as people write them in tables: with a point, or in a column that is so written, with a decimal comma."""

from __future__ import annotations

import re
from collections.abc import Iterable

_COMMA = re.compile(r"[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+")
"""`3,5` and `1.234,5`."""
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
"""`1,234`, which is a thousand in English and little more than one in German."""
_POINT = re.compile(r"[+-]?\d*\.\d+|[+-]?\d{1,3}(,\d{3})+\.\d+")
"""`3.5` and `1,234.5`."""
_COMMAS = re.compile(r"[+-]?\d+(,\d+){2,}")
"""`1,234,567`, or a list."""


def has_decimal_commas(cells: Iterable[object]) -> bool:
    """Whether a column's numbers are written with decimal commas: one of them surely is, and none is written otherwise.

    Cells that hold no number say nothing, and neither do whole ones.
    """
    texts = [cell.strip() for cell in cells if isinstance(cell, str)]
    is_sure = any(_COMMA.fullmatch(text) and not _THOUSANDS.fullmatch(text) for text in texts)
    return is_sure and not any(_POINT.fullmatch(text) or _COMMAS.fullmatch(text) for text in texts)


def with_point(text: str) -> str:
    """A number with a decimal comma as Python writes it; anything else as it is."""
    return text.replace(".", "").replace(",", ".") if _COMMA.fullmatch(text.strip()) else text
