"""Files as they lie on disk: opened, unpacked, and what is in them by their first bytes and their names."""

from __future__ import annotations

import gzip
import io
import re
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from app.core.errors import InvalidInput, InvalidSettings
from app.data import arrow
from app.data.conll import has_tags
from app.data.encodings import HEAD_BYTES
from app.data.record import FORMATS, MAX_WHOLE_BYTES, Format, ReadOptions

STANDARD_INPUT = "-"
GZIP, ZSTD, ZIP, OLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
PACKED: Sequence[tuple[bytes, str]] = ((GZIP, ".gz"), (ZSTD, ".zst"), (ZIP, ".zip"))
_PIECE = 1_000_000
MAX_LAYERS = 3
"""As of a zip that holds a .csv.gz."""
_MARKUP = re.compile(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype|html|head|meta|style|table|\?xml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file once it is unpacked."""

    stream: Any
    """Can be peeked into; of a parquet, feather or spreadsheet file it can be sought in."""
    kind: Format


def open_source(source: str) -> BinaryIO:
    """
    Raises:
        InvalidSettings: it is no file, or cannot be opened.
    """
    try:
        # a stream of our own: at exit the interpreter would wait for the lock of sys.stdin's
        raw = open(0, "rb", closefd=False) if source == STANDARD_INPUT else Path(source).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidSettings(f"{source} cannot be read: {error.strerror}") from error
    if source != STANDARD_INPUT and not Path(source).is_file() and not Path(source).is_fifo():
        raw.close()
        raise InvalidSettings(f"{source} is no file")
    return raw


def format_of(name: str) -> Format:
    """By the file's name; `auto` where its first line decides."""
    name = name.lower()
    for _ in range(MAX_LAYERS):
        for _, suffix in PACKED:
            name = name.removesuffix(suffix)
    return FORMATS.get(PurePosixPath(name).suffix, "auto")


def unpacked(stream: Any, source: str, options: ReadOptions, stack: ExitStack) -> Content:
    """What is in an open file.

    Args:
        stack: closes what is opened on the way.

    Raises:
        InvalidSettings: it cannot be unpacked, or is not what its name or the options say.
    """
    name, is_packed, head = source, False, b""
    for _ in range(MAX_LAYERS + 1):
        head = stream.peek(8)[:8]
        suffix = next((suffix for magic, suffix in PACKED if head.startswith(magic)), "")
        if not suffix:
            break
        inner = name[: -len(suffix)] if name.lower().endswith(suffix) else name
        if suffix == ".zip":
            stream = _seekable(stream, is_packed, source, stack)
            archive = stack.enter_context(_zip(stream, source))
            if _is_spreadsheet(archive, source):
                return Content(stream, _settled("spreadsheet", name, source, options))
            member = _data_file(archive, source)
            inner, stream = member.filename, _member(archive, member, source)
        elif suffix == ".zst":
            stream = stack.enter_context(arrow.zstd(stream))
        else:
            stream = io.BufferedReader(gzip.GzipFile(fileobj=stream))
        name, is_packed = inner, True
    if name.lower().endswith(tuple(suffix for _, suffix in PACKED)) and head:
        raise InvalidSettings(f"{source} is not compressed, though its name says so; rename it")
    kind = _kind(head, stream, name, source, options)
    if kind in ("parquet", "feather", "spreadsheet"):
        stream = _seekable(stream, is_packed, source, stack)
    return Content(stream, kind)


def _kind(head: bytes, stream: Any, name: str, source: str, options: ReadOptions) -> Format:
    for magic, kind in ((arrow.PARQUET, "parquet"), (b"ARROW1", "feather"), (OLE, "spreadsheet")):
        if head.startswith(magic):
            return _settled(kind, name, source, options)  # type: ignore[arg-type]
    by_name = options.format if options.format != "auto" else format_of(name)
    if options.format == "auto" and by_name in ("auto", "lines") and has_tags(stream.peek(HEAD_BYTES)[:HEAD_BYTES]):
        options.say(f"{source} is read as sentences in columns, a token and its tag a line; if not, say --format lines")
        return "conll"
    if by_name != "spreadsheet":
        return by_name
    if not head:
        raise InvalidSettings(f"{source} is empty")
    if _MARKUP.match(stream.peek(1024)[:1024]):
        raise InvalidSettings(
            f"{source} is a web page or XML, though its name says that it is a spreadsheet; open it in a spreadsheet program"
            " and save it as .xlsx or .csv"
        )
    options.say(f"{source} is no spreadsheet but text, and is read as csv")
    return "csv"


def _settled(kind: Format, name: str, source: str, options: ReadOptions) -> Format:
    """The kind that the first bytes say.

    Raises:
        InvalidSettings: the options say another.
    """
    if options.format not in ("auto", kind):
        raise InvalidSettings(f"{source} is a {kind} file, and --format says {options.format}")
    if format_of(name) not in ("auto", kind):
        options.say(f"{source} is a {kind} file, whatever its name says, and is read as such")
    return kind


def _seekable(stream: Any, is_packed: bool, source: str, stack: ExitStack) -> Any:
    """The stream, or a copy of it where it is a pipe or unpacked on the way."""
    if not is_packed and stream.seekable():
        return stream
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack closes it
    while piece := stream.read(_PIECE):
        copy.write(piece)
        if copy.tell() > MAX_WHOLE_BYTES:
            raise InvalidSettings(f"{source} has more than {MAX_WHOLE_BYTES:,} bytes when unpacked; unpack it to a file")
    copy.seek(0)
    return copy


def _zip(stream: Any, source: str) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InvalidSettings(f"{source} is no whole zip file: {error}") from error


def _is_spreadsheet(archive: zipfile.ZipFile, source: str) -> bool:
    """
    Raises:
        InvalidSettings: it is a document of another kind.
    """
    names = set(archive.namelist())
    if "xl/workbook.bin" in names or "word/document.xml" in names or "Index/Document.iwa" in names:
        raise InvalidSettings(f"{source} is a document that is not read; save it as .xlsx or .csv")
    if "content.xml" in names and "mimetype" in names:
        if b"spreadsheet" in archive.read("mimetype")[:100]:
            return True
        raise InvalidSettings(f"{source} is a document, but no spreadsheet; save it as .ods, .xlsx or .csv")
    return "xl/workbook.xml" in names


def _data_file(archive: zipfile.ZipFile, source: str) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir() and not _is_hidden(info.filename)]
    data = [info for info in files if format_of(info.filename) not in ("auto", "lines")] or files
    if len(data) != 1:
        names = ", ".join(info.filename for info in data[:5]) + (", …" if len(data) > 5 else "")
        holds = f"holds {len(data):,} files ({names})" if data else "holds no file"
        raise InvalidSettings(f"{source} {holds}; a zip file is read where one data file is in it: unpack it and name the file")
    return data[0]


def _is_hidden(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name.startswith(".") or "__MACOSX" in path.parts


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, source: str) -> Any:
    if member.flag_bits & 1:
        raise InvalidSettings(f"{source} is protected by a password; unpack it and name the file")
    try:
        return archive.open(member)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise InvalidSettings(f"{source} cannot be unpacked: {error}") from error


def checked_size(stream: Any, source: str) -> bytes:
    """All of it.

    Raises:
        InvalidInput: it is more than is read at once.
    """
    content: bytes = stream.read(MAX_WHOLE_BYTES + 1)
    if len(content) > MAX_WHOLE_BYTES:
        raise InvalidInput(
            f"{source} has more than {MAX_WHOLE_BYTES:,} bytes in one piece; write it as json lines, csv or parquet"
        )
    return content
