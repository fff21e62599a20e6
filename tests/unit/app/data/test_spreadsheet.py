"""A sheet is read as the csv file that would be saved of it; what is odd about it is said, and nothing takes all memory."""

from __future__ import annotations

import datetime
import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, records, spreadsheet
from app.data.spreadsheet import write_spreadsheet

xlsxwriter = pytest.importorskip("xlsxwriter")


def workbook(path: Path, fill: Callable[[Any], None]) -> Path:
    with xlsxwriter.Workbook(str(path), {"default_date_format": "yyyy-mm-dd"}) as book:
        fill(book)
    return path


def sheet(book: Any, name: str, rows: Sequence[Sequence[Any]]) -> Any:
    page = book.add_worksheet(name)
    for number, row in enumerate(rows):
        page.write_row(number, 0, row)
    return page


def read(path: Path, **options: Any) -> tuple[list[Any], list[str]]:
    said: list[str] = []
    rows = records(path, ReadOptions(say=said.append, **options))
    return [(row.line, row.broken or dict(row.columns)) for row in rows], said


def test_cells_are_texts_as_a_csv_file_has_them_and_rows_have_their_numbers(tmp_path: Path) -> None:
    day, hour = datetime.datetime(2024, 5, 1), datetime.datetime(2024, 5, 1, 13, 30)
    rows = [[], ["text", "n", "share", "day", "ok"], ["Größe", 5.0, 3.5, day, True], [], ["=x", 1e15, 0.1 + 0.2, hour, False]]

    def fill(book: Any) -> None:
        book.strings_to_formulas = False
        sheet(book, "a", rows)

    assert read(workbook(tmp_path / "a.xlsx", fill)) == (
        [
            (3, {"text": "Größe", "n": "5", "share": "3.5", "day": "2024-05-01", "ok": "TRUE"}),
            (5, {"text": "=x", "n": "1e+15", "share": "0.3", "day": "2024-05-01 13:30:00", "ok": "FALSE"}),
        ],
        [],
    )


def test_the_first_sheet_with_rows_that_is_shown_is_read_and_others_are_named(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet(book, "empty", [])
        sheet(book, "secret", [["text"], ["hidden"]]).hide()
        sheet(book, "May", [["text"], ["may"]])
        sheet(book, "June", [["text"], ["june"]])

    path = workbook(tmp_path / "a.xlsx", fill)
    assert read(path) == ([(2, {"text": "may"})], [f"{path}: the sheet 'May' is read; say --sheet NAME for another: 'June'"])
    for name in ("June", "june", "4"):
        assert read(path, sheet=name) == ([(2, {"text": "june"})], [])
    assert read(path, sheet="secret")[0] == [(2, {"text": "hidden"})]
    assert read(path, sheet="empty")[0] == []
    with pytest.raises(InvalidSettings, match="has no sheet 'July'; it has 'empty', 'secret', 'May', 'June'"):
        read(path, sheet="July")


def test_cells_merged_over_rows_hold_for_each_of_them(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        page = sheet(book, "a", [["text", "label"], ["a"], ["b"], ["c", "y"]])
        page.merge_range(1, 1, 2, 1, "x")

    rows, said = read(workbook(tmp_path / "a.xlsx", fill))
    assert [row["label"] for _, row in rows] == ["x", "x", "y"]
    assert "merged over several rows" in said[0]


def test_formulas_count_by_their_values_and_those_without_one_are_said(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        page = sheet(book, "a", [["text", "label"], ["a", "x"]])
        page.write_formula(2, 0, '=A2&"!"', None, "a!")
        page.write(2, 1, "y")

    path = workbook(tmp_path / "a.xlsx", fill)
    assert read(path) == ([(2, {"text": "a", "label": "x"}), (3, {"text": "a!", "label": "y"})], [])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = (
        parts["xl/worksheets/sheet1.xml"].replace(b' t="str"><f>', b"><f>").replace(b"<v>a!</v>", b"")
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert "the formula in A3 has no value yet" in read(path)[1][0]


def test_a_cell_far_away_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    def fill(book: Any) -> None:
        sheet(book, "a", [["text"], ["a"]]).write(1_048_575, 16_383, "far")

    with pytest.raises(InvalidSettings, match="cells span 17,179,869,184"):
        read(workbook(tmp_path / "a.xlsx", fill))


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book: sheet(book, "a", [["text"], ["a"]]))
    monkeypatch.setattr(spreadsheet, "MAX_WHOLE_BYTES", 1000)
    with pytest.raises(InvalidSettings, match="bytes when unpacked; at most 1,000 are read"):
        read(path)


def test_a_password_and_a_damaged_file_are_sentences(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", lambda book: sheet(book, "a", [["text"], ["a"]]))
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["xl/worksheets/sheet1.xml"] = b"<worksheet><sheetData><row"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(InvalidSettings, match=r"a\.xlsx cannot be read as a spreadsheet"):
        read(path)
    (tmp_path / "b.xls").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 600)
    with pytest.raises(InvalidSettings, match=r"b\.xls cannot be read as a spreadsheet"):
        read(tmp_path / "b.xls")


def test_what_is_written_is_read_again_in_as_many_sheets_as_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheet, "MAX_SHEET_ROWS", 3)
    rows = [["=1+1", 1, True], ["b", 2.5, None], ["x" * 40_000, None, False]]
    assert write_spreadsheet(tmp_path / "a.xlsx", ["text", "n", "ok"], rows) == 1
    assert read(tmp_path / "a.xlsx")[0] == [
        (2, {"text": "=1+1", "n": "1", "ok": "TRUE"}),
        (3, {"text": "b", "n": "2.5", "ok": ""}),
    ]
    ((_, row),) = read(tmp_path / "a.xlsx", sheet="2")[0]
    assert (len(row["text"]), row["ok"]) == (32_767, "FALSE")
