"""What commands print: JSON for programs, tables for people, and text that cannot steer the terminal."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
    """Aligned columns, the last one as long as it is; the header only where a person reads."""
    lines = [list(map(plain, row)) for row in ([header] if header and on_terminal() else []) + list(rows)]
    if not lines:
        return
    widths = [max(width(line[column]) for line in lines) for column in range(len(lines[0]) - 1)]
    for line in lines:
        print("  ".join([*(pad(cell, size) for cell, size in zip(line, widths, strict=False)), line[-1]]).rstrip())


def figures(evaluation: Mapping[str, Any], most: int = 3) -> str:
    """The first figures of a model and on how many rows they were measured; all of them are in its card."""
    names = [name for name in evaluation if name != "rows"][:most]
    said = ", ".join(f"{name} {evaluation[name]}" for name in [*names, "rows"] if name in evaluation)
    return said or "not measured"


def on_terminal() -> bool:
    return sys.stdout.isatty()


def columns() -> int:
    """Characters in a line of the terminal."""
    return shutil.get_terminal_size().columns


def plain(text: str) -> str:
    """In one line, without control characters: a text must not steer the terminal that shows it."""
    return "".join(one if one.isprintable() else " " for one in text)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    return sum(_width(one) for one in text)


def pad(text: str, size: int) -> str:
    return text + " " * (size - width(text))


def clip(text: str, size: int) -> str:
    """The text in one line of at most `size` columns, with an ellipsis where it was longer."""
    text = plain(" ".join(text[: 4 * size].split()))
    if width(text) <= size:
        return text
    taken, kept = 0, []
    for one in text:
        taken += _width(one)
        if taken > size - 1:
            break
        kept.append(one)
    return "".join(kept) + "…"


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
