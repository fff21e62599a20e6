"""The one door to `pyarrow`, which only the extra `batch` brings: parquet files are read and written in pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from app.core.errors import InvalidInput, InvalidSettings
from app.data.cells import with_names

ROWS_READ, ROWS_WRITTEN = 1_024, 65_536
"""Rows held at a time."""


def columns(stream: BinaryIO, source: str) -> list[str]:
    """
    Raises:
        InvalidSettings: pyarrow is not installed, or this is no parquet file.
    """
    return list(_opened(stream, source).schema_arrow.names)


def num_rows(stream: BinaryIO, source: str) -> int:
    """
    Raises:
        InvalidSettings: as for `columns`.
    """
    return int(_opened(stream, source).metadata.num_rows)


def rows(stream: BinaryIO, source: str, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Rows by column, with the names of classes in place of their numbers.

    Raises:
        InvalidInput: the file is broken further on.
    """
    arrow, _ = _pyarrow()
    try:
        file = _opened(stream, source)
        features = _features(file.schema_arrow.metadata or {})
        for batch in file.iter_batches(ROWS_READ, columns=list(names)):
            yield from (with_names(row, features) for row in batch.to_pylist()) if features else batch.to_pylist()
    except arrow.ArrowException as error:
        raise InvalidInput(f"{source} cannot be read further: {error}") from error


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What Hugging Face's library noted of the columns; nothing where it did not write the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def write(target: Path, types: Mapping[str, type], table: Iterable[Sequence[Any]]) -> None:
    """Rows of cells, in the order of the columns, as a parquet file.

    Raises:
        InvalidSettings: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    arrow, parquet = _pyarrow()
    kinds = {int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_(), str: arrow.string()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in types.items()])
    with parquet.ParquetWriter(target, schema) as writer:
        for piece in _pieces(table):
            arrays = [arrow.array(cells, kind) for cells, kind in zip(zip(*piece, strict=True), schema.types, strict=True)]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def check() -> None:
    """
    Raises:
        InvalidSettings: pyarrow is not installed.
    """
    _pyarrow()


def _pieces(table: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    piece: list[Sequence[Any]] = []
    for row in table:
        piece.append(row)
        if len(piece) == ROWS_WRITTEN:
            yield piece
            piece = []
    if piece:
        yield piece


def _opened(stream: BinaryIO, source: str) -> Any:
    arrow, parquet = _pyarrow()
    try:
        return parquet.ParquetFile(stream)
    except arrow.ArrowException as error:
        raise InvalidSettings(f"{source} is no parquet file: {error}") from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidSettings("parquet needs pyarrow, which is not installed; run `pip install 'hooper[batch]'`") from error
    return pyarrow, pyarrow.parquet
