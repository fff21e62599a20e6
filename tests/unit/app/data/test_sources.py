"""What is in a file is told by its first bytes, however it is packed; what cannot be unpacked is said in a sentence."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import InvalidSettings
from app.data import ReadOptions, records, sources
from app.data.sources import format_of

CSV = b"text,label\na,1\n"
ROWS = [{"text": "a", "label": "1"}]


def zipped(**files: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return sink.getvalue()


def zstd(content: bytes) -> bytes:
    return bytes(pytest.importorskip("pyarrow").compress(content, codec="zstd", asbytes=True))


def read(path: Path, content: bytes, **options: Any) -> list[dict[str, Any]]:
    path.write_bytes(content)
    return [dict(record.columns) for record in records(path, ReadOptions(say=lambda sentence: None, **options))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(CSV)),
        ("a.csv", gzip.compress(CSV)),
        ("a.zip", zipped(folder__a_csv=CSV, README_txt=b"hi")),
        ("a.csv.zip", zipped(a_csv=CSV)),
        ("b.zip", zipped(a_csv_gz=gzip.compress(CSV))),
    ],
    ids=["gz", "gz without its name", "zip of a folder", "zip", "gz in a zip"],  # what is packed has the time in it
)
def test_what_is_packed_is_read_as_what_it_is(name: str, content: bytes, tmp_path: Path) -> None:
    assert read(tmp_path / name, content) == ROWS


def test_zstd_is_read_also_around_gzip(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv.zst", zstd(CSV)) == ROWS
    assert read(tmp_path / "a.csv.gz.zst", zstd(gzip.compress(CSV))) == ROWS
    with pytest.raises(InvalidSettings, match="cannot be read further"):
        read(tmp_path / "b.csv.zst", zstd(bytes(range(256)) * 40)[:-9])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.zip", zipped(a_csv=CSV, b_csv=CSV), "holds 2 files"),
        ("a.zip", zipped(), "no whole zip file|not compressed"),
        ("a.zip", zipped(a_csv=CSV)[:40], "no whole zip file"),
        ("a.zip", CSV, "not compressed, though its name says so"),
        ("a.csv", zipped(word__document_xml=b"<a/>"), "a document that is not read"),
        ("a.xls", b"<html><table></table></html>", "a web page or XML, though its name says that it is a spreadsheet"),
        ("a.xlsx", b"", "is empty"),
    ],
    ids=["two files", "no file", "cut off", "no zip", "document", "web page", "empty"],
)
def test_what_cannot_be_unpacked_is_said(name: str, content: bytes, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        read(tmp_path / name, content)


def test_a_text_that_is_called_a_spreadsheet_is_read_as_csv(tmp_path: Path) -> None:
    assert read(tmp_path / "a.xls", CSV) == ROWS


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_WHOLE_BYTES", 5_000_000)
    for name, content in (("a.parquet.gz", b"PAR1" + b"x" * 9_000_000), ("a.json.gz", b"[" + b" " * 9_000_000 + b"]")):
        with pytest.raises(InvalidSettings, match="has more than 5,000,000 bytes"):
            read(tmp_path / name, gzip.compress(content))


def test_the_options_do_not_make_a_parquet_file_a_csv_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="is a parquet file, and --format says csv"):
        read(tmp_path / "a", b"PAR1", format="csv")


def test_names_say_formats_through_their_packing() -> None:
    names = ["a.csv.gz", "a.TSV.zst", "a.xlsx.zip", "a.json.gz.zst", "a.log", "-"]
    assert [format_of(name) for name in names] == ["csv", "tsv", "spreadsheet", "json", "auto", "auto"]
