"""Lines are cut and decoded one by one; a guess about their encoding is said once, and a damaged line costs no other."""

from __future__ import annotations

import io
from typing import Any

import pytest

from app.core.errors import HooperError, InvalidSettings
from app.data import ReadOptions
from app.data.text_lines import decoded_text, text_lines

TEXT = "größe,label\ngroß und schön,ja\n"


def read(content: bytes, **options: Any) -> tuple[list[str], list[str]]:
    """The lines, errors as their sentences, and what was said."""
    said: list[str] = []
    lines = text_lines(io.BufferedReader(io.BytesIO(content)), "a.csv", ReadOptions(say=said.append, **options))
    return [line.detail if isinstance(line, HooperError) else line for _, line in lines], said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_what_a_mark_or_utf8_says_needs_no_sentence(encoding: str) -> None:
    assert read(TEXT.encode(encoding)) == (TEXT.splitlines(keepends=True), [])


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16-be", "utf-32-le", "mac_roman", "cp850"])
def test_other_encodings_are_detected_and_said_once(encoding: str) -> None:
    lines, said = read(TEXT.encode(encoding))
    assert lines == TEXT.splitlines(keepends=True)
    assert len(said) == 1
    assert "say --encoding NAME if that is wrong" in said[0]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "cp500", "iso2022_jp", "latin-1"])
def test_a_named_encoding_is_taken_as_it_is(encoding: str) -> None:
    text = "a,b\nc,d\n" if encoding == "iso2022_jp" else TEXT
    assert read(text.encode(encoding), encoding=encoding) == (text.splitlines(keepends=True), [])


def test_a_file_that_turns_out_late_to_be_no_utf8_is_read_as_what_it_is() -> None:
    lines, said = read(b"plain\n" * 200_000 + "schön\n".encode("cp1252"))
    assert (lines[0], lines[-1], len(said)) == ("plain\n", "schön\n", 1)


def test_of_joined_files_each_line_is_read_as_what_it_is_and_a_damaged_one_is_an_error() -> None:
    lines, said = read("schön\n".encode() * 30_000 + "grün\n".encode("cp1252") + b"sch\xc3\xb6n, gr\xc3\xbcn \xc3\n")
    assert lines[-2:] == ["grün\n", "the line is not UTF-8"]
    assert said == ["a.csv:30001: the line is not UTF-8 as others are; such lines are read as cp1252"]


def test_what_cannot_be_told_is_asked() -> None:
    with pytest.raises(InvalidSettings, match=r"a\.csv:2: .* cannot be told; say --encoding NAME"):
        read(b"text\n\x81\x8d\x90\xff\xfe\x9d\n")


@pytest.mark.parametrize(
    ("content", "encoding", "sentence"),
    [
        (b"a", "nothing", "there is no encoding 'nothing'"),
        (b"a", "rot13", "there is no encoding 'rot13'"),
        (TEXT.encode("utf-16"), "cp1252", "begins with the mark of UTF-16, and --encoding says cp1252"),
    ],
)
def test_a_wrong_name_of_an_encoding_is_a_mistake(content: bytes, encoding: str, sentence: str) -> None:
    with pytest.raises(InvalidSettings, match=sentence):
        read(content, encoding=encoding)


def test_a_line_that_is_not_in_the_named_encoding_costs_no_other() -> None:
    assert read(b"a\nb\xff\nc\n", encoding="utf-8")[0] == ["a\n", "the line is not UTF-8", "c\n"]


def test_old_macs_end_lines_with_a_return_and_zero_bytes_are_characters() -> None:
    assert read(b"a\rb\r") == (["a\n", "b\n"], [])
    assert read(b"a\x00b\nc\r\n") == (["a\x00b\n", "c\r\n"], [])


def test_a_line_that_is_too_long_costs_no_other() -> None:
    assert read(b"a\n" + b"x" * 99 + b"\nb", max_bytes=9)[0] == ["a\n", "the line has more than 9 bytes", "b"]


def test_a_whole_text_is_decoded_or_says_why_not() -> None:
    options = ReadOptions(say=lambda sentence: None)
    assert decoded_text(TEXT.encode("cp1252"), "a text", options) == TEXT
    assert isinstance(decoded_text(b"\x81\x8d\x90", "a text", options), HooperError)
