"""What separates columns is told from the header and the rows; names of columns are never lost by being equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, records
from app.data.delimited import NO_DELIMITER, checked_delimiter, sniffed


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("text;label\na, b;1\nc;2\n", ";"),
        ("text\tlabel\na, b; c\t1\n", "\t"),
        ("text|label\na;b|1\n", "|"),
        ("text,label\nfirst; then,1\nyes; no; yes,2\n", ","),
        ('"a, b";text;label\n"x, y";"t; u";1\n', ";"),
        ("text;score\ngood;3,5\nbad;1,5\n", ";"),
        ("text\nI liked it, really\nbad; awful | no\n", NO_DELIMITER),
        ('text\n"a, b"\n', NO_DELIMITER),
        ('text;label\n"two\nlines; and, more";1\n', ";"),
        ("text,label\n", ","),
        ("", NO_DELIMITER),
    ],
)
def test_the_delimiter_cuts_the_header_and_the_rows(text: str, delimiter: str) -> None:
    assert sniffed(text.splitlines(keepends=True), ",") == delimiter


def read(path: Path, content: str, **options: Any) -> tuple[list[Any], list[str]]:
    path.write_text(content, newline="")
    said: list[str] = []
    rows = records(path, ReadOptions(say=said.append, **options))
    return [(row.line, row.broken or dict(row.columns)) for row in rows], said


def test_a_delimiter_that_was_not_expected_is_said(tmp_path: Path) -> None:
    rows, said = read(tmp_path / "a.csv", "text;label\na;1\n")
    assert rows == [(2, {"text": "a", "label": "1"})]
    assert said == [f"{tmp_path / 'a.csv'} is read with a semicolon between its columns; say --delimiter if that is wrong"]


def test_a_named_delimiter_is_taken(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "a:b;c\n1:2\n", delimiter=":") == ([(2, {"a": "1", "b;c": "2"})], [])
    assert read(tmp_path / "a.csv", "a\tb\n1\t2\n", delimiter="tab") == ([(2, {"a": "1", "b": "2"})], [])


@pytest.mark.parametrize("text", ["::", '"', "\n", "tabs"])
def test_what_can_separate_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidSettings, match="a delimiter is one character"):
        checked_delimiter(text)


def test_excels_line_about_the_delimiter_is_obeyed_and_no_row(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "sep=;\r\ntext;label\r\na, b;1\r\n") == ([(2, {"text": "a, b", "label": "1"})], [])


def test_columns_without_a_name_are_left_out_and_equal_names_are_numbered(tmp_path: Path) -> None:
    rows, said = read(tmp_path / "a.csv", ",note,text,note,note_1\n0,x,a,y,z\n")
    assert rows == [(2, {"note_2": "x", "text": "a", "note_3": "y", "note_1": "z"})]
    assert "the header names 'note' more than once" in said[0]


def test_a_header_without_any_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=r"a\.csv:1: the header names no column"):
        read(tmp_path / "a.csv", ",,\na,b,c\n")


def test_the_broken_quote_of_a_file_of_one_column_is_an_error_in_its_row(tmp_path: Path) -> None:
    rows, _ = read(tmp_path / "a.csv", 'text\n"a" b\nc\n')
    assert rows[0][1].startswith("the row cannot be read")
    assert rows[1] == (3, {"text": "c"})
