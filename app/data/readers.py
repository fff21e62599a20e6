"""Rows of data files, one at a time: what cannot be read is an error in its row's place and costs no other."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

from app.core.errors import HooperError, InvalidInput, InvalidSettings, TooLarge
from app.data.arrow import ArrowFile, Kind
from app.data.conll import read_conll
from app.data.delimited import read_delimited
from app.data.json_rows import by_first_line, plain_lines, read_json, read_json_lines
from app.data.record import FORMATS, Format, ReadOptions, Record
from app.data.sources import PACKED, format_of, open_source, unpacked
from app.data.spreadsheet import read_spreadsheet
from app.data.text_lines import decoded_text, text_lines


def records(path: Path, options: ReadOptions = ReadOptions()) -> Iterator[Record]:
    """All rows of a file, known by its name, or of a folder of classes; lines of text where their column has a name.

    Raises:
        InvalidSettings: it cannot be read, or is of no known format.
    """
    if path.is_dir():
        yield from _class_folder(path, options)
        return
    kind = options.format if options.format != "auto" else format_of(str(path))
    is_packed = path.name.lower().endswith(tuple(suffix for _, suffix in PACKED))  # what is in it has a name of its own
    is_unknown = (kind == "auto" and not is_packed) or (kind == "lines" and not options.text_name)
    if is_unknown and not _is_conll(path, options):
        suffixes = [suffix for suffix in FORMATS if suffix != ".txt"]
        raise InvalidSettings(
            f"{path} has no known format; known are {', '.join(suffixes)} (also with .gz, .zip or .zst) and class folders"
        )
    try:
        with open_source(str(path)) as stream:
            yield from read_stream(stream, str(path), options)
    except InvalidInput as error:  # a file that ends too early is no use here
        raise InvalidSettings(error.detail) from error


def read_stream(stream: BinaryIO, source: str, options: ReadOptions) -> Iterator[Record]:
    """The rows of an open file; whoever opened it closes it.

    Raises:
        InvalidSettings: it is not what its name says, or its header is refused.
        InvalidInput: the file is broken further on, or ends in the middle of what was compressed.
    """
    try:
        with ExitStack() as stack:
            content = unpacked(stream, source, options, stack)
            _say_unused(content.kind, source, options)
            yield from _READERS[content.kind](content.stream, source, options)
    except (OSError, EOFError, zlib.error, BadZipFile, RuntimeError) as error:
        raise InvalidInput(f"{source} cannot be read further: {error}") from error


def _is_conll(path: Path, options: ReadOptions) -> bool:
    """Whether the first lines of a file say so: CoNLL-2003's own are called `eng.train` and `eng.testa`."""
    if options.format not in ("auto", "conll"):
        return False
    with open_source(str(path)) as stream, ExitStack() as stack:
        return unpacked(stream, str(path), options, stack).kind == "conll"


def _say_unused(kind: Format, source: str, options: ReadOptions) -> None:
    is_text = kind in ("auto", "lines", "jsonl", "json", "csv", "tsv", "conll")
    uses = {"encoding": is_text, "delimiter": kind in ("csv", "tsv", "conll"), "sheet": kind == "spreadsheet"}
    for name, is_used in uses.items():
        if getattr(options, name) and not is_used:
            options.say(f"--{name} says nothing of {source}, which is read as {kind if kind != 'auto' else 'lines of text'}")


def _arrow(kind: Kind, stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    file = ArrowFile(stream, source, kind)
    needed_columns = options.choose(file.columns)
    columns = [name for name in file.columns if name in needed_columns]
    for number, row in enumerate(file.rows(columns), start=1):
        num_characters = sum(len(cell) for cell in row.values() if isinstance(cell, str))
        too_large = num_characters > options.max_bytes
        error = TooLarge(f"the row has more than {options.max_bytes} characters") if too_large else None
        yield Record(f"{source}#{number}", row, error, number, num_characters, is_table_row=True)


def _class_folder(path: Path, options: ReadOptions) -> Iterator[Record]:
    """One folder per class with one text per file: the aclImdb layout, `unsup` left out."""
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and folder.name != "unsup")
    if len(folders) < 2:
        raise InvalidSettings(f"{path} needs one folder per class, at least two; it has {len(folders)}")
    for folder in folders:
        for file in sorted(folder.glob("*.txt")):
            text = decoded_text(file.read_bytes(), f"a text in {path}", replace(options, max_bytes=file.stat().st_size))
            if isinstance(text, HooperError):
                yield Record(str(file), {}, InvalidInput(text.detail.removeprefix(f"a text in {path}:")))
            else:
                yield Record(str(file), {"text": text, "label": folder.name})


Reader = Callable[[Any, str, ReadOptions], Iterator[Record]]
_READERS: Mapping[Format, Reader] = {
    "lines": lambda stream, source, options: plain_lines(text_lines(stream, source, options), source, options),
    "jsonl": read_json_lines,
    "json": read_json,
    "csv": read_delimited,
    "tsv": partial(read_delimited, usual="\t"),
    "parquet": partial(_arrow, "parquet"),
    "feather": partial(_arrow, "feather"),
    "spreadsheet": read_spreadsheet,
    "conll": read_conll,
    "auto": by_first_line,
}
