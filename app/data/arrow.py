"""The one door to `pyarrow`, which only the extra `batch` brings: parquet and feather files in pieces, and zstd."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from app.core.errors import InvalidInput, InvalidSettings
from app.data.cells import with_names

ROWS_READ, ROWS_WRITTEN = 1_024, 65_536
"""Rows held at a time."""
PARQUET = b"PAR1"
Kind = Literal["parquet", "feather"]


class ArrowFile:
    """A parquet or feather file whose schema was read."""

    def __init__(self, stream: Any, source: str, kind: Kind) -> None:
        """
        Raises:
            InvalidSettings: pyarrow is not installed, or this is no such file.
        """
        self._arrow, parquet = _pyarrow("parquet and feather files")
        self._source, self._kind = source, kind
        try:
            self._file = parquet.ParquetFile(stream) if kind == "parquet" else _feather(stream)
        except (self._arrow.ArrowException, OSError) as error:
            raise InvalidSettings(f"{source} is no {kind} file: {error}") from error
        self._schema = self._file.schema_arrow if kind == "parquet" else self._file.schema

    @property
    def columns(self) -> list[str]:
        return list(self._schema.names)

    @property
    def num_rows(self) -> int:
        """Of a parquet file."""
        return int(self._file.metadata.num_rows)

    @property
    def types(self) -> dict[str, type]:
        """Of each column that is a number or a boolean; all others are texts."""
        kinds = self._arrow.types
        checks = ((bool, kinds.is_boolean), (int, kinds.is_integer), (float, kinds.is_floating))
        return {field.name: next((kind for kind, is_kind in checks if is_kind(field.type)), str) for field in self._schema}

    def rows(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Rows by column, with the names of classes in place of their numbers.

        Raises:
            InvalidInput: the file is broken further on.
        """
        features = _features(self._schema.metadata or {})
        try:
            for batch in self._batches(list(names)):
                yield from (with_names(row, features) for row in batch.to_pylist()) if features else batch.to_pylist()
        except (self._arrow.ArrowException, OSError) as error:
            raise InvalidInput(f"{self._source} cannot be read further: {error}") from error

    def _batches(self, names: list[str]) -> Iterator[Any]:
        if self._kind == "parquet":
            yield from self._file.iter_batches(ROWS_READ, columns=names)
        elif hasattr(self._file, "num_record_batches"):
            yield from (self._file.get_batch(index).select(names) for index in range(self._file.num_record_batches))
        else:
            yield from (batch.select(names) for batch in self._file)


def _feather(stream: Any) -> Any:
    """Arrow's file format, which feather is since its second version, or its stream format."""
    from pyarrow import ipc

    head = stream.read(6)
    stream.seek(0)
    return ipc.open_file(stream) if head == b"ARROW1" else ipc.open_stream(stream)


def zstd(stream: Any) -> io.BufferedReader:
    """What is compressed in a stream.

    Raises:
        InvalidSettings: pyarrow is not installed.
    """
    arrow, _ = _pyarrow("zstd-compressed files")
    return io.BufferedReader(arrow.CompressedInputStream(arrow.PythonFile(stream, mode="r"), "zstd"))


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What Hugging Face's library noted of the columns; nothing where it did not write the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def write(target: Path, types: Mapping[str, type], table: Iterable[Sequence[Any]]) -> None:
    """Rows of cells, in the order of the columns, as a parquet file; a list is one of numbers.

    Raises:
        InvalidSettings: pyarrow is not installed.
        OSError: the file cannot be written.
    """
    arrow, parquet = _pyarrow("parquet files")
    kinds = {
        int: arrow.int64(),
        float: arrow.float64(),
        bool: arrow.bool_(),
        str: arrow.string(),
        list: arrow.list_(arrow.float32()),
    }
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
    _pyarrow("parquet files")


def _pieces(table: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    rows = iter(table)
    while piece := list(islice(rows, ROWS_WRITTEN)):
        yield piece


def _pyarrow(what: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InvalidSettings(f"{what} need pyarrow, which is not installed; run `pip install 'hooper[batch]'`") from error
    return pyarrow, pyarrow.parquet
