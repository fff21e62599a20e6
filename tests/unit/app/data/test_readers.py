"""Every kind of file gives the same records, and what cannot be read is named by its line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from app.core.errors import InvalidSettings
from app.core.manifest import DataFormat
from app.data import ReadOptions, Record, records
from scripts.training.records import read_records

ROWS = [
    {"text": "a good film", "label": "good"},
    {"text": 'he said "no", twice', "label": "bad"},
    {"text": "two\nlines", "label": "good"},
    {"text": "ünïcödé 数字 🙂", "label": "bad"},
]


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> bytes:
    lines = [delimiter.join(rows[0])]
    lines += [delimiter.join('"' + cell.replace('"', '""') + '"' for cell in entry.values()) for entry in rows]
    return ("\n".join(lines) + "\n").encode()


def as_parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def write(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def columns(records: list[Record]) -> list[dict[str, Any]]:
    assert not any(entry.broken for entry in records)
    return [dict(entry.columns) for entry in records]


def broken(records: list[Record]) -> dict[str, str]:
    """Line (or number) of each broken record, and why."""
    return {entry.where.replace("#", ":").rpartition(":")[2]: entry.broken for entry in records if entry.broken}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", as_csv(ROWS)),
        ("rows.tsv", as_csv(ROWS, "\t")),
        ("rows.jsonl", "\n".join(json.dumps(entry) for entry in ROWS).encode()),
        ("rows.ndjson", "\n\n".join(json.dumps(entry, ensure_ascii=False) for entry in ROWS).encode()),
        ("rows.json", json.dumps(ROWS).encode()),
        ("wrapped.json", json.dumps({"version": 1, "data": ROWS}).encode()),
        ("ROWS.CSV", as_csv(ROWS)),
        ("excel.csv", b"\xef\xbb\xbf" + as_csv(ROWS)),
    ],
)
def test_every_format_gives_the_same_records(tmp_path: Path, name: str, content: bytes) -> None:
    assert columns(read_records(write(tmp_path, name, content))) == ROWS
    assert columns(read_records(write(tmp_path, name + ".gz", gzip.compress(content)))) == ROWS


def test_parquet_gives_the_same_records(tmp_path: Path) -> None:
    assert columns(read_records(write(tmp_path, "rows.parquet", as_parquet(ROWS)))) == ROWS


def test_windows_and_old_mac_line_ends_end_lines(tmp_path: Path) -> None:
    for end in (b"\r\n", b"\r"):
        records = read_records(write(tmp_path, "rows.csv", b"text,label" + end + b"good,1" + end + b"bad,0" + end))
        assert columns(records) == [{"text": "good", "label": "1"}, {"text": "bad", "label": "0"}]


def test_a_folder_per_class_gives_each_file_its_class(tmp_path: Path) -> None:
    for label, number in (("neg", 1), ("pos", 1), ("pos", 2), ("unsup", 1)):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.txt").write_text(f"{label} {number}")
    (tmp_path / "pos" / "notes.md").write_text("not a text")
    (tmp_path / "README").write_text("not a class")
    assert columns(read_records(str(tmp_path))) == [
        {"text": "neg 1", "label": "neg"},
        {"text": "pos 1", "label": "pos"},
        {"text": "pos 2", "label": "pos"},
    ]


def test_a_folder_with_one_class_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "pos").mkdir()
    with pytest.raises(InvalidSettings, match="at least two; it has 1"):
        read_records(str(tmp_path))


def test_a_file_of_a_class_has_its_own_encoding_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    for label in ("neg", "pos"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.txt").write_bytes(b"caf\xe9" if label == "pos" else "ä\n".encode() + b"\xc3\xa4\xff")
    negative, positive = read_records(str(tmp_path))
    assert (negative.where, negative.broken) == (str(tmp_path / "neg" / "1.txt"), "the line is not UTF-8")
    assert positive.columns == {"text": "café", "label": "pos"}


def test_broken_csv_rows_are_named_by_the_row_that_a_spreadsheet_shows_and_the_others_are_read(tmp_path: Path) -> None:
    content = 'text,label\n"two\nlines",1\nonly one cell\n\na,b,c\nä'.encode() + b'caf\xe9,1\n"a"b,1\nlast,0\n'
    records = read_records(write(tmp_path, "rows.csv", content))
    assert broken(records) == {
        "3": "the row has 1 columns where the header has 2",
        "5": "the row has 3 columns where the header has 2",
        "6": "the line is not UTF-8",
        "7": "the row cannot be read: ',' expected after '\"'",
    }
    assert [dict(entry.columns) for entry in records if not entry.broken] == [
        {"text": "two\nlines", "label": "1"},
        {"text": "last", "label": "0"},
    ]


def test_a_quote_that_is_never_closed_does_not_swallow_rows_unnoticed(tmp_path: Path) -> None:
    content = b'text,label\ngood,1\n"bad,0\n' + b"good,1\n" * 100
    try:
        records = read_records(write(tmp_path, "rows.csv", content))
    except InvalidSettings as error:
        assert "rows.csv:3" in error.detail  # noqa: PT017 - stopping is as good as counting
    else:
        assert len(records) == 102


def test_a_broken_header_is_a_mistake_not_a_broken_row(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings):
        read_records(write(tmp_path, "rows.csv", b'"te"xt,label\ngood,1\nbad,0\n'))


def test_columns_of_one_name_are_numbered_so_that_neither_is_guessed(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path, "rows.csv", b"text,text,label,\ngood,bad,1,\n")
    assert columns(read_records(path)) == [{"text_1": "good", "text_2": "bad", "label": "1"}]
    assert "the header names 'text' more than once" in capsys.readouterr().err


def test_broken_json_lines_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    content = b'{"text": "a"}\n\n{"text": \n[1]\n"b"\n{"text": "\xc3\xa4 caf\xe9"}\n{"text": "z"}'
    records = read_records(write(tmp_path, "rows.jsonl", content))
    assert broken(records) == {
        "3": "the line is not valid JSON: Expecting value",
        "4": "the line is not a JSON object",
        "5": "the line is not a JSON object",
        "6": "the line is not UTF-8",
    }
    assert [entry.columns["text"] for entry in records if not entry.broken] == ["a", "z"]


def test_json_rows_that_are_no_objects_are_named_by_number(tmp_path: Path) -> None:
    records = read_records(write(tmp_path, "rows.json", b'[{"text": "a"}, 5]'))
    assert [entry.where.rpartition("#")[2] for entry in records] == ["1", "2"]
    assert broken(records) == {"2": "not a JSON object"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", b"{"),
        ("rows.json", b'{"data": 5}'),
        ("rows.json", b"\xff"),
        ("rows.parquet", b"PAR1"),
        ("rows.jsonl.gz", b"not compressed"),
        ("rows.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9]),
        ("rows.xlsx", b""),
        ("rows", b""),
        ("rows.log", b""),
    ],
)
def test_a_file_that_cannot_be_read_at_all_stops_with_its_name(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(InvalidSettings, match=name):
        read_records(write(tmp_path, name, content))


def test_a_damaged_compressed_file_stops_with_its_name(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(b'{"text": "a"}\n' * 99))
    content[10] = 0xFF  # the first byte of the compressed stream: an unknown block type
    with pytest.raises(InvalidSettings, match="rows"):
        read_records(write(tmp_path, "rows.jsonl.gz", bytes(content)))


@pytest.mark.parametrize("source", ["missing.csv", "./missing", "/missing/folder", "~/missing", "a/b/missing"])
def test_what_looks_like_a_path_is_never_looked_up_on_the_hub(source: str, no_hub: None) -> None:
    with pytest.raises(InvalidSettings, match="does not exist"):
        read_records(source)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    for name in ("rows.csv", "rows.jsonl"):
        assert read_records(write(tmp_path, name, b"")) == []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[str, str]]]:
    """Puts a data set, or an error, where the hub would be, which answers; gives the list of what was asked for."""
    import datasets

    monkeypatch.setattr("scripts.training.records.unreachable_clause", str)

    def put(found: Any) -> list[tuple[str, str]]:
        asked: list[tuple[str, str]] = []

        def load_dataset(name: str, split: str) -> Any:
            asked.append((name, split))
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        return asked

    return put


@pytest.fixture
def no_hub(hub: Callable[[Any], Any]) -> None:
    hub(AssertionError("the hub was asked"))


def test_a_hub_data_set_gives_the_names_of_its_classes(hub: Callable[[Any], list[tuple[str, str]]]) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})
    asked = hub(datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features=features))
    records = read_records("stanford/films:test")
    assert asked == [("stanford/films", "test")]
    assert [entry.columns["label"] for entry in records] == ["good", "bad", None]
    assert [entry.where for entry in records] == [f"stanford/films:test#{number}" for number in (1, 2, 3)]


def test_classes_keep_their_names_however_deep_they_stand(hub: Callable[[Any], Any], tmp_path: Path) -> None:
    import datasets

    classes = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"many": datasets.Sequence(classes), "deep": {"one": classes, "rest": [{"kind": classes}]}})
    row = {"many": [1, 0], "deep": {"one": 1, "rest": [{"kind": 0}]}}
    made = datasets.Dataset.from_list([row], features=features)
    named = {"many": ["good", "bad"], "deep": {"one": "good", "rest": [{"kind": "bad"}]}}
    hub(made)
    assert columns(read_records("films")) == [named]
    made.to_parquet(str(tmp_path / "films.parquet"))
    assert columns(read_records(str(tmp_path / "films.parquet"))) == [named]


def test_commas_of_a_spreadsheet_that_hold_nothing_are_passed_over(tmp_path: Path) -> None:
    content = b"text,label,,\na,1,,\nb,2\nc,3,,,,\nd,4,kept apart,\ne\n"
    found = read_records(write(tmp_path, "rows.csv", content))
    assert [dict(entry.columns) for entry in found if not entry.broken] == [
        {"text": text, "label": label} for text, label in zip("abcd", "1234", strict=True)
    ]
    assert broken(found) == {"6": "the row has 1 columns where the header has 4"}


def test_a_cell_too_many_is_told_and_not_dropped(tmp_path: Path) -> None:
    found = read_records(write(tmp_path, "rows.csv", b"text,label\ngood, really,1\nfine,1,\n"))
    assert broken(found) == {"2": "the row has 3 columns where the header has 2"}


def test_a_hub_data_set_is_read_from_its_training_split_unless_another_is_named(
    hub: Callable[[Any], list[tuple[str, str]]],
) -> None:
    import datasets

    asked = hub(datasets.Dataset.from_dict({"text": ["a"]}))
    read_records("films")
    assert asked == [("films", "train")]


def test_a_hub_without_such_a_data_set_says_that_neither_a_file_was_found(hub: Callable[[Any], Any]) -> None:
    hub(ConnectionError("no such data set"))
    with pytest.raises(InvalidSettings, match=r"films is neither a file nor a folder.*no such data set"):
        read_records("films")


def test_squads_own_nesting_gives_a_record_per_question(tmp_path: Path) -> None:
    first = {"id": "1", "question": "q1?", "answers": [{"text": "a", "answer_start": 0}]}
    second = {"id": "2", "question": "q2?", "answers": [], "is_impossible": True}
    article = {"title": "t", "paragraphs": [{"context": "a b", "qas": [first, second, 3]}, {"context": "c"}, "d"]}
    found = read_records(write(tmp_path, "squad.json", json.dumps({"version": "v2.0", "data": [article]}).encode()))
    assert columns(found[:2]) == [{**entry, "context": "a b", "title": "t"} for entry in (first, second)]
    assert [entry.where.rpartition("#")[2] for entry in found] == ["1.1.1", "1.1.2", "1.1.3", "1.2", "1.3"]
    assert [bool(entry.broken) for entry in found] == [False, False, True, True, True]


@pytest.mark.parametrize("sign", [";", "\t", "|"])
def test_a_table_with_other_signs_between_its_columns_is_read_and_says_so(tmp_path: Path, sign: str, capsys: Any) -> None:
    assert columns(read_records(write(tmp_path, "a.csv", as_csv(ROWS, sign)))) == ROWS
    assert "between its columns" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "cp850", "mac_roman"])
def test_a_file_in_another_encoding_is_read(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path, "a.csv", "größe;label\ngroß und schön;ja\n".encode(encoding))
    assert columns(read_records(path)) == [{"größe": "groß und schön", "label": "ja"}]


# --- read as the data was that a model was trained on


def as_trained(path: Path, **known: str) -> list[Any]:
    return [dict(record.columns) for record in records(path, ReadOptions(usual=DataFormat(**known)))]


def test_a_known_delimiter_and_encoding_count_only_where_the_file_allows_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("text~label\nfür~x\nGröße~y\n".encode("cp850"))
    assert as_trained(tmp_path / "a.csv", delimiter="~", encoding="cp850")[0] == {"text": "für", "label": "x"}
    (tmp_path / "b.csv").write_text("text,label\nfür,x\n", encoding="utf-8")
    assert as_trained(tmp_path / "b.csv", delimiter="~", encoding="cp850") == [{"text": "für", "label": "x"}]


def test_a_known_sheet_is_read_where_the_workbook_has_it(tmp_path: Path) -> None:
    with xlsxwriter.Workbook(tmp_path / "a.xlsx") as book:
        for name in ("Cover", "Tickets"):
            sheet = book.add_worksheet(name)
            sheet.write_row(0, 0, ["text"])
            sheet.write_row(1, 0, [name])
    assert as_trained(tmp_path / "a.xlsx", sheet="Tickets") == [{"text": "Tickets"}]
    assert as_trained(tmp_path / "a.xlsx", sheet="Other") == [{"text": "Cover"}]
