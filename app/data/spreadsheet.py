"""Rows of .xlsx, .xls and .ods files, as the csv file would hold them that a spreadsheet program saves of a sheet; the one door
to `python-calamine` and `xlsxwriter`."""

from __future__ import annotations

import datetime
import importlib.util
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from app.core.errors import InvalidSettings, TooLarge
from app.data.delimited import cells_by_name, header_names
from app.data.record import MAX_WHOLE_BYTES, ReadOptions, Record

MAX_CELLS = 50_000_000
"""Of the rectangle that a sheet's cells span: it is held in memory as a whole."""
MAX_SHEET_ROWS, MAX_CELL_CHARACTERS = 1_048_576, 32_767
"""What Excel opens."""
_PIECE = 4_000_000
_CELL = re.compile(rb'<c [^>]*?\br="([A-Z]{1,3})(\d{1,7})"')
_UNCOMPUTED = re.compile(
    rb'<c (?![^>]*\bt="str")[^>]*?\br="([A-Z]{1,3}\d+)"[^>]*>(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)(?:<v\s*/>|<v></v>)?</c>'
)


def read_spreadsheet(stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    """The rows of a sheet after its header, which is its first row with anything in it.

    Args:
        stream: can be sought in.

    Raises:
        InvalidSettings: it cannot be read, is protected, is too large, has no such sheet, or its header is refused.
    """
    _check_size(stream, source, options)
    sheet, hint = _sheet(stream, source, options)
    place = f"{source}[{sheet.name}]" if hint else source
    rows = _rows(sheet)
    number, cells = next(rows, (1, []))
    header = header_names(cells, f"{place}:{number}", options)
    options.choose([name for name in header if name])
    merged = _merged(sheet, number)
    if merged:
        options.say(f"{place}: cells that are merged over several rows are read as if each row held their value")
    above: dict[int, str] = {}
    for number, cells in rows:
        for column in merged.get(number, ()):  # only the first of merged cells has the value
            if cells[column]:
                above[column] = cells[column]
            cells[column] = above.get(column, "")
        yield _record(f"{place}:{number}", header, cells, number, options)


def _record(where: str, header: Sequence[str], cells: Sequence[str], number: int, options: ReadOptions) -> Record:
    columns = cells_by_name(header, cells)
    if not isinstance(columns, dict):
        return Record(where, {}, columns, number, is_table_row=True)
    num_characters = sum(map(len, columns.values()))
    too_large = num_characters > options.max_bytes
    error = TooLarge(f"the row has more than {options.max_bytes} characters") if too_large else None
    return Record(where, columns, error, number, num_characters, is_table_row=True)


def _rows(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows in which anything stands, with the numbers that a spreadsheet shows."""
    for number, row in enumerate(sheet.iter_rows(), start=1):
        cells = [_text(cell) for cell in row]
        if any(cell.strip() for cell in cells):
            yield number, cells


def _text(cell: Any) -> str:
    """As a csv file has it: 5 for the number 5.0, TRUE for a boolean, a date in ISO's spelling."""
    match cell:
        case str():
            return cell
        case bool():
            return str(cell).upper()
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else format(cell, ".15g")  # digits that Excel has
        case datetime.datetime():
            return cell.isoformat(" ") if cell.time() != datetime.time() else cell.date().isoformat()
        case datetime.date() | datetime.time():
            return cell.isoformat()
    return "" if cell is None else str(cell)


def _merged(sheet: Any, header: int) -> Mapping[int, Sequence[int]]:
    """The columns in which a row is part of a cell that is merged over several rows below the header."""
    columns: dict[int, list[int]] = {}
    first_column = sheet.start[1] if sheet.start else 0
    for (top, left), (bottom, _) in sheet.merged_cell_ranges or ():
        if bottom > top >= header and 0 <= left - first_column < sheet.width:
            for row in range(top, bottom + 1):
                columns.setdefault(row + 1, []).append(left - first_column)
    return columns


def _sheet(stream: Any, source: str, options: ReadOptions) -> tuple[Any, bool]:
    """The sheet that is read, and whether it was chosen among several with rows."""
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    try:
        with tempfile.NamedTemporaryFile(
            suffix=_suffix(stream)
        ) as copy:  # by its name alone calamine tells what is wrong with a file
            stream.seek(0)
            shutil.copyfileobj(stream, copy)
            copy.flush()
            workbook = CalamineWorkbook.from_path(copy.name)
        metadata = workbook.sheets_metadata
        names = [sheet.name for sheet in metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        if options.sheet:
            return workbook.get_sheet_by_name(_named(names, options.sheet, source)), False
        if options.usual.sheet in names:  # a number says nothing of another workbook
            return workbook.get_sheet_by_name(options.usual.sheet), False
        visible = [sheet.name for sheet in metadata if sheet.visible == SheetVisibleEnum.Visible and sheet.name in names]
        filled = [sheet for name in visible or names if (sheet := workbook.get_sheet_by_name(name)).height]
    except PasswordError as error:
        raise InvalidSettings(f"{source} is protected by a password; save it without one") from error
    except (CalamineError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise InvalidSettings(f"{source} cannot be read as a spreadsheet: {error}") from error
    if not filled:
        raise InvalidSettings(f"{source} has no row in any sheet that is shown ({', '.join(names) or 'none'})")
    if len(filled) > 1:
        others = ", ".join(repr(sheet.name) for sheet in filled[1:])
        options.say(f"{source}: the sheet {filled[0].name!r} is read; say --sheet NAME for another: {others}")
    return filled[0], len(filled) > 1


def _suffix(stream: Any) -> str:
    if zipfile.is_zipfile(stream):
        with zipfile.ZipFile(stream) as archive:
            return ".ods" if "content.xml" in archive.namelist() else ".xlsx"
    stream.seek(0)
    is_encrypted = "EncryptedPackage".encode("utf-16-le") in stream.read(MAX_WHOLE_BYTES)  # an .xlsx within an .xls's container
    return ".xlsx" if is_encrypted else ".xls"


def _named(names: Sequence[str], wanted: str, source: str) -> str:
    if wanted in names:
        return wanted
    fitting = [name for name in names if name.strip().lower() == wanted.strip().lower()]
    if len(fitting) == 1:
        return fitting[0]
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return names[int(wanted) - 1]
    raise InvalidSettings(f"{source} has no sheet {wanted!r}; it has {', '.join(map(repr, names)) or 'none'}")


def write_spreadsheet(target: Path, names: Sequence[str], table: Iterable[Sequence[Any]]) -> int:
    """Rows of cells as an .xlsx file, in as many sheets as are needed. What begins with `=` stays a text.

    Returns:
        How many texts were cut: a cell holds 32,767 characters.

    Raises:
        InvalidSettings: xlsxwriter is not installed.
        OSError: the file cannot be written.
    """
    check_writer()
    import xlsxwriter
    from xlsxwriter.exceptions import XlsxFileError

    num_cut, row, sheet = 0, MAX_SHEET_ROWS, None
    try:
        with xlsxwriter.Workbook(str(target), {"constant_memory": True, "nan_inf_to_errors": True}) as workbook:
            for cells in chain([names], table):
                if row == MAX_SHEET_ROWS:
                    sheet, row = workbook.add_worksheet(), 0
                    if workbook.worksheets()[1:]:
                        row = _write_row(sheet, 0, names)
                num_cut += sum(isinstance(cell, str) and len(cell) > MAX_CELL_CHARACTERS for cell in cells)
                row = _write_row(sheet, row, cells)
    except XlsxFileError as error:
        raise OSError(str(error)) from error
    return num_cut


def check_writer() -> None:
    """
    Raises:
        InvalidSettings: xlsxwriter is not installed.
    """
    if importlib.util.find_spec("xlsxwriter") is None:
        raise InvalidSettings(
            "writing .xlsx needs xlsxwriter, which is not installed; run `pip install 'hooper[batch]'`, or write .csv"
        )


def _write_row(sheet: Any, row: int, cells: Sequence[Any]) -> int:
    """The number of the next row."""
    for column, cell in enumerate(cells):
        match cell:
            case str():
                sheet.write_string(row, column, cell[:MAX_CELL_CHARACTERS])
            case bool():
                sheet.write_boolean(row, column, cell)
            case int() | float():
                sheet.write_number(row, column, cell)
    return row + 1


# --- before anything is held in memory


def _check_size(stream: Any, source: str, options: ReadOptions) -> None:
    """
    Raises:
        InvalidSettings: unpacked it is too large, or its cells lie too far apart.
    """
    if not zipfile.is_zipfile(stream):
        return  # .xls, which is bounded by its own format
    try:
        with zipfile.ZipFile(stream) as archive:
            num_bytes = sum(info.file_size for info in archive.infolist())
            if num_bytes > MAX_WHOLE_BYTES:
                raise InvalidSettings(f"{source} has {num_bytes:,} bytes when unpacked; at most {MAX_WHOLE_BYTES:,} are read")
            for info in archive.infolist():  # each to its end: its checksum says whether its size was true
                _check_part(archive, info, source, options)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise InvalidSettings(f"{source} is no whole spreadsheet: {error}") from error


def _check_part(archive: zipfile.ZipFile, info: zipfile.ZipInfo, source: str, options: ReadOptions) -> None:
    with archive.open(info) as part:
        if info.filename.startswith("xl/worksheets/") and info.filename.endswith(".xml"):
            _check_xlsx(part, source, options)
        else:
            while part.read(_PIECE):
                pass


def _check_xlsx(part: Any, source: str, options: ReadOptions) -> None:
    last_row, columns, rest = 0, {b"A"}, b""
    while piece := part.read(_PIECE):
        whole, _, tail = (rest + piece).rpartition(b"</c>")
        whole, rest = (whole + b"</c>", tail) if whole else (b"", tail)
        cells = _CELL.findall(whole)
        columns.update(column for column, _ in cells)
        last_row = max(last_row, max((int(row) for _, row in cells[-1:]), default=0))
        uncomputed = _UNCOMPUTED.search(whole)
        if uncomputed:
            options.say(
                f"{source}: the formula in {uncomputed.group(1).decode()} has no value yet, and others may have none; open the"
                " file in a spreadsheet program and save it"
            )
    width = max(map(_column_number, columns))
    _check_span(last_row * width, source)


def _column_number(letters: bytes) -> int:
    """1 for A, 27 for AA."""
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def _check_span(num_cells: int, source: str) -> None:
    if num_cells > MAX_CELLS:
        raise InvalidSettings(
            f"{source} has a sheet whose cells span {num_cells:,}, more than {MAX_CELLS:,}: something stands far below or right"
            " of the table; delete it, or save the sheet as csv"
        )
