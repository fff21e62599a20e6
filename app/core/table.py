"""Rows of a table: cells by the names of its header, in training as in answering."""

from __future__ import annotations

from collections.abc import Sequence


def cells_by_name(header: Sequence[str], cells: Sequence[str]) -> dict[str, str] | str:
    """The cells under their names, or why they do not fit. Spreadsheets write commas for columns that hold nothing: what stands
    under no name is left out, and cells that are missing or too many are no fault as long as nothing is lost by it."""
    named = len(header)
    while named and not header[named - 1].strip():
        named -= 1
    if len(cells) < named or any(cell.strip() for cell in cells[max(named, len(header)) :]):
        return f"{len(cells)} columns where the header has {len(header)}"
    return {name: cell for name, cell in zip(header, cells, strict=False) if name.strip()}
