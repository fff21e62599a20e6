"""The input of `hooper batch`: the rows that are not answered yet, in groups, and how much of it has been read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice
from typing import BinaryIO

from app.cli import parquet
from app.cli.inputs import Asked, Shape, format_of, read_stream
from app.cli.progress import share_of


def rows_after(stream: BinaryIO, source: str, shape: Shape, num_before: int) -> Generator[Asked, None, None]:
    """The input's rows after those that an earlier run has answered."""
    yield from islice(read_stream(stream, source, shape), num_before, None)


def in_groups(rows: Iterable[Asked], max_items: int, max_characters: int) -> Iterator[list[Asked]]:
    """The rows in order, so many together or so long, or one longer one: the same groups whenever they are read."""
    group: list[Asked] = []
    num_characters = 0
    for one in rows:
        if group and (len(group) == max_items or num_characters + one.num_characters > max_characters):
            yield group
            group, num_characters = [], 0
        group.append(one)
        num_characters += one.num_characters
    if group:
        yield group


def share_read(stream: BinaryIO, source: str, shape: Shape) -> Callable[[int], float]:
    """Which part of the input so many rows are, as far as can be told."""
    if format_of(source, shape) == "parquet":
        total = parquet.num_rows(stream, source)
        return lambda num_rows: num_rows / max(total, 1)
    return share_of(stream)
