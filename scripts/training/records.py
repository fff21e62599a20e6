"""Raw records from whatever holds them: csv, tsv, json lines, json, parquet, class folders, hub data sets."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings
from app.core.table import cells_by_name
from scripts.training.cells import with_names

MAX_CELL = 16_000_000
"""Characters of a cell in a csv file: more is a quote that was never closed. The csv module's own 131,072 are fewer than a long
text has."""
OTHER_DELIMITERS = (";", "\t", "|", ",")
"""What spreadsheets of other countries, and other programs, write between columns."""
FORMATS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was read: where it stands, its columns, or why it could not be read."""

    where: str
    columns: Mapping[str, Any]
    broken: str = ""


def read_records(source: str) -> list[Record]:
    """All records of a file, a class folder or a hub data set (`id` or `id:split`).

    Raises:
        InvalidSettings: there is no such source, or its format is not known.
    """
    path = Path(source)
    if path.is_dir():
        return list(_class_folder(path))
    if path.is_file():
        return list(_file(path))
    if path.suffix or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise InvalidSettings(f"{source} does not exist")
    return _hub(source)


def _file(path: Path) -> Iterator[Record]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    readers: dict[str, Callable[[Path], Iterator[Record]]] = {
        ".csv": lambda p: _delimited(p, ","),
        ".tsv": lambda p: _delimited(p, "\t"),
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".parquet": _parquet,
    }
    if kind not in readers:
        raise InvalidSettings(f"{path} has no known format; known are {', '.join(FORMATS)} (also with .gz) and class folders")
    return readers[kind](path)


def read_file_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidSettings(f"{path} cannot be read: {error}") from error


def _delimited(path: Path, delimiter: str) -> Iterator[Record]:
    # surrogateescape keeps the other rows readable when one row is not UTF-8; that row is then reported
    text = read_file_bytes(path).decode("utf-8-sig", "surrogateescape")
    rows = _csv_rows(list(io.StringIO(text, newline="")), delimiter)
    _, header = next(rows, (1, []))
    if isinstance(header, str):
        raise InvalidSettings(f"{path}:1: the header is not readable as csv ({header})")
    if not _is_utf8(header):
        raise InvalidSettings(f"{path}:1: the header is not UTF-8; save the file as UTF-8, as spreadsheets offer to")
    other = next((sign for sign in OTHER_DELIMITERS if len(header) == 1 and sign != delimiter and sign in header[0]), "")
    if other:
        raise InvalidSettings(
            f"{path}:1: the header {header[0]!r} is one column; write {delimiter!r} between columns in place of {other!r}, or"
            " name the file .tsv where they stand apart by tabs"
        )
    twice = [name for name, count in Counter(header).items() if count > 1 and name.strip()]
    if twice:
        raise InvalidSettings(f"{path}:1: the header names {twice[0]!r} twice")
    for line, cells in rows:
        if isinstance(cells, str):
            yield Record(f"{path}:{line}", {}, f"not readable as csv ({cells})")
        elif cells:
            yield _row(f"{path}:{line}", header, cells)


def _csv_rows(lines: Sequence[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The line each row begins on, with its cells or why it cannot be read. A broken row ends with its first line: a
    quote that is never closed would otherwise take the rest of the file with it."""
    csv.field_size_limit(MAX_CELL)
    start = 0
    while start < len(lines):
        reader = csv.reader(lines[start:], delimiter=delimiter, strict=True)
        first = start
        try:
            for cells in reader:
                yield start + 1, cells
                start = first + reader.line_num
        except csv.Error as error:
            yield start + 1, str(error)
            start += 1


def _row(where: str, header: list[str], cells: list[str]) -> Record:
    if not _is_utf8(cells):
        return Record(where, {}, "not UTF-8")
    columns = cells_by_name(header, cells)
    return Record(where, {}, columns) if isinstance(columns, str) else Record(where, columns)


def _is_utf8(cells: Sequence[str]) -> bool:
    """Whether all bytes of a row were, which keeps each that was not as a surrogate."""
    return not any("\udc80" <= character <= "\udcff" for cell in cells for character in cell)


def _json_lines(path: Path) -> Iterator[Record]:
    for number, line in enumerate(read_file_bytes(path).splitlines(), start=1):
        if line.strip():
            yield _json_record(f"{path}:{number}", line)


def _json_record(where: str, line: bytes) -> Record:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return Record(where, {}, "not UTF-8")
    except ValueError:
        return Record(where, {}, "not valid JSON")
    return Record(where, value) if isinstance(value, dict) else Record(where, {}, "not a JSON object")


def _json(path: Path) -> Iterator[Record]:
    try:
        value = json.loads(read_file_bytes(path))
    except ValueError as error:
        raise InvalidSettings(f"{path} is not valid JSON: {error}") from error
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InvalidSettings(f'{path} must be a list of objects, or an object with such a list under "data"')
    for number, row in enumerate(rows, start=1):
        broken = "" if isinstance(row, dict) else "not a JSON object"
        if not broken and "paragraphs" in row:
            yield from _squad(f"{path}#{number}", row)
        else:
            yield Record(f"{path}#{number}", row if not broken else {}, broken)


def _squad(where: str, article: Mapping[str, Any]) -> Iterator[Record]:
    """One record per question of an article in SQuAD's own nesting, v1.1 or v2.0."""
    paragraphs = article["paragraphs"]
    for number, paragraph in enumerate(paragraphs if isinstance(paragraphs, list) else [None], start=1):
        place = f"{where}.{number}"
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            yield Record(place, {}, "not a SQuAD paragraph with qas")
            continue
        for index, one in enumerate(questions, start=1):
            broken = "" if isinstance(one, dict) else "not a JSON object"
            columns = {} if broken else {**one, "context": paragraph.get("context"), "title": article.get("title")}
            yield Record(f"{place}.{index}", columns, broken)


def _parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidSettings(f"{path} is not readable as parquet: {error}") from error
    features = _features(table.schema.metadata or {})
    for number, row in enumerate(table.to_pylist(), start=1):
        yield Record(f"{path}#{number}", with_names(row, features))


def _features(metadata: Mapping[bytes, bytes]) -> Mapping[str, Any]:
    """What Hugging Face's library noted of the columns; nothing where it did not write the file."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_folder(path: Path) -> Iterator[Record]:
    """One folder per class with one text per file: the aclImdb layout, `unsup` left out."""
    folders = sorted(one for one in path.iterdir() if one.is_dir() and one.name != "unsup")
    if len(folders) < 2:
        raise InvalidSettings(f"{path} needs one folder per class, at least two; it has {len(folders)}")
    for folder in folders:
        for file in sorted(folder.glob("*.txt")):
            try:
                yield Record(str(file), {"text": file.read_text(encoding="utf-8"), "label": folder.name})
            except UnicodeDecodeError:
                yield Record(str(file), {}, "not UTF-8")


def _hub(source: str) -> list[Record]:
    from datasets import load_dataset

    name, _, split = source.partition(":")
    try:
        rows = load_dataset(name, split=split or "train")
    except Exception as error:  # the library raises a dozen unrelated types here
        raise InvalidSettings(
            f"{source} is neither a file nor a folder, and no hub data set could be loaded by that name: {error}"
        ) from error
    features = rows.features.to_dict()
    return [Record(f"{source}#{number}", with_names(row, features)) for number, row in enumerate(rows, start=1)]
