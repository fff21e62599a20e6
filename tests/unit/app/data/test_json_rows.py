"""JSON is read as an array, as an object that holds one, or line by line, whatever the file is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, records


def read(path: Path, content: str | bytes) -> list[Any]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    rows = records(path, ReadOptions(say=lambda sentence: None))
    return [row.broken or dict(row.columns) for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", '[{"text": "grün"}]'),
        ("a.json", '{"n": 1, "rows": [{"text": "grün"}], "columns": ["text"]}'),
        ("a.json", '{"text": "grün"}'),
        ("a.json", '\n{"text": "grün"}\n'),
        ("a.json", '[{"text": "grün"}]'.encode("utf-16")),
        ("a.json", '[{"text": "grün"}]'.encode("utf-8-sig")),
        ("a.json", '[{"text": "grün"}]'.encode("cp1252")),
        ("a.jsonl", '[{"text":\n "grün"}]'),
        ("a.jsonl", '{"text": "grün"}\n'.encode("cp1252")),
    ],
)
def test_one_row_in_many_spellings(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert read(tmp_path / name, content) == [{"text": "grün"}]


def test_json_lines_under_the_name_of_json_are_read_line_by_line(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.json", '{"text": "a"}\n{"text": \n{"text": "b"}\n')
    assert (rows[0], rows[2]) == ({"text": "a"}, {"text": "b"})
    assert rows[1].startswith("the line is not valid JSON")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"a": [{"t": 1}], "b": [{"t": 1}]}', r"several lists of objects \('a', 'b'\)"),
        ('{"a": {"b": 1}}', "must be a list of objects"),
        ("7", "must be a list of objects"),
        ("[", "is not valid JSON"),
    ],
)
def test_what_holds_no_rows_is_said(content: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        read(tmp_path / "a.json", content)
