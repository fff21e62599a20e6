"""Lines, json lines, csv and tsv are read one at a time, and what cannot be read is an error in its place."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from app.core.command_line import FILE_OPTIONS
from app.core.errors import HooperError, InvalidInput, SetupError
from app.core.fields import FieldSpec
from app.data import Input, InputSchema, ReadOptions, read
from app.data.items import check_sources

PAIRS = {
    "text": FieldSpec(("text", "review", "sentence1", "premise")),
    "text_pair": FieldSpec(("text_pair", "sentence2", "hypothesis"), required=False, partners=("text", "sentence1", "premise")),
}
QUESTIONS = {"question": FieldSpec(("question",)), "context": FieldSpec(("context", "passage", "text"))}


def schema(specs: Any = PAIRS, **more: Any) -> InputSchema:
    reading = {name: more.pop(name) for name in ("format", "max_bytes", *FILE_OPTIONS) if name in more}
    return InputSchema(specs, ReadOptions(**{"max_bytes": 1000, **reading}), **more)


def told(item: Input) -> Any:
    """The fields, or what is wrong."""
    return item.fields.detail if isinstance(item.fields, HooperError) else dict(item.fields)


def read_file(path: Path, content: str | bytes, **more: Any) -> list[tuple[int, Any]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(entry.line, told(entry)) for entry in read(str(path), schema(**more))]


def test_a_text_file_is_one_text_a_line_and_blank_lines_keep_their_numbers(tmp_path: Path) -> None:
    found = read_file(tmp_path / "a.txt", "\ufeffone\r\n\n  two \n \n{three}")
    assert found == [(1, {"text": "one"}), (3, {"text": "  two "}), (5, {"text": "{three}"})]


def test_a_file_without_a_known_name_is_read_by_its_first_line(tmp_path: Path) -> None:
    lines = '\n{"text": "a"}\n'
    assert read_file(tmp_path / "a", lines) == [(2, {"text": "a"})]
    assert read_file(tmp_path / "a", "{a}\n" + lines) == [(1, {"text": "{a}"}), (3, {"text": '{"text": "a"}'})]
    assert read_file(tmp_path / "a.log", '"quoted"') == [(1, {"text": '"quoted"'})]
    assert read_file(tmp_path / "a.txt", '{"text": "a"}') == [(1, {"text": '{"text": "a"}'})]
    assert read_file(tmp_path / "a.txt", '{"text": "a"}', format="jsonl") == [(1, {"text": "a"})]
    assert read_file(tmp_path / "empty", "") == []


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "a.jsonl"):
        assert read_file(tmp_path / name, gzip.compress(b'{"text": "a"}\n')) == [(1, {"text": "a"})]


def test_a_file_that_is_cut_off_gives_what_is_there_and_then_says_so(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"line {number * number} of many\n" for number in range(9000)).encode())
    (tmp_path / "a.txt.gz").write_bytes(whole[: len(whole) // 2])
    reading = read(str(tmp_path / "a.txt.gz"), schema())
    assert told(next(reading)) == {"text": "line 0 of many"}
    with pytest.raises(InvalidInput, match=r"a\.txt\.gz cannot be read further"):
        list(reading)


def test_json_lines_hold_objects_with_the_fields_of_the_task_or_strings(tmp_path: Path) -> None:
    lines = ['{"text": "a", "id": 7, "label": "x"}', '"b"', '{"review": "c"}', '{"premise": "d", "hypothesis": "e"}']
    found = read_file(tmp_path / "a.jsonl", "\n".join(lines))
    assert [entry for _, entry in found] == [{"text": "a"}, {"text": "b"}, {"text": "c"}, {"text": "d", "text_pair": "e"}]


def test_an_id_is_kept_whatever_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": {"n": 1}, "text": "a"}\n{"id": null, "text": "a"}\n{"id": 0}')
    assert [entry.id for entry in read(str(tmp_path / "a.jsonl"), schema())] == [{"n": 1}, None, 0]


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (b'{"a"', "not valid JSON"),
        (b"[1]", "neither a JSON object nor a JSON string"),
        (b"7", "neither a JSON object"),
        (b'{"label": "x"}', "has no 'text'"),
        (b'"\xc3\xa4\xff"', "not UTF-8"),
        (b"[" * 990, "not valid JSON"),
        (json.dumps("x" * 1001).encode(), "more than 1000 bytes"),
    ],
)
def test_a_bad_line_costs_no_other(line: bytes, wrong: str, tmp_path: Path) -> None:
    (first, entry), (second, found), (third, other) = read_file(tmp_path / "a.jsonl", b'"a"\n' + line + b'\n"b"\n')
    assert (first, second, third) == (1, 2, 3)
    assert (entry, other) == ({"text": "a"}, {"text": "b"})
    assert wrong in found


def test_a_long_last_line_without_an_end_is_refused_alone(tmp_path: Path) -> None:
    (_, first), (number, second) = read_file(tmp_path / "a.txt", b"a\n" + b"x" * 5000)
    assert (first, number) == ({"text": "a"}, 2)
    assert "more than 1000 bytes" in second


# --- csv


def test_csv_and_tsv_have_a_column_of_texts(tmp_path: Path) -> None:
    assert read_file(tmp_path / "a.csv", 'id,review\n1,"a, b"\n\n2,c\n') == [(2, {"text": "a, b"}), (4, {"text": "c"})]
    assert read_file(tmp_path / "a.tsv", "label\tText\n1\ta\n", text_column="Text") == [(2, {"text": "a"})]
    assert read_file(tmp_path / "a.csv", "sentence1,sentence2\na,b\nc,\n") == [
        (2, {"text": "a", "text_pair": "b"}),
        (3, {"text": "c"}),
    ]


def test_rows_have_the_numbers_that_a_spreadsheet_shows(tmp_path: Path) -> None:
    found = read_file(tmp_path / "a.csv", 'text\n"a\nb"\n\nc\n')
    assert found == [(2, {"text": "a\nb"}), (4, {"text": "c"})]


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    found = read_file(tmp_path / "a.csv", 'text\n"open\nb\n' + "c\n" * 600)
    assert (found[0][0], "cannot be read" in found[0][1]) == (2, True)
    assert found[1:] == [(number, {"text": "b" if number == 3 else "c"}) for number in range(3, 604)]


def test_commas_of_a_spreadsheet_that_hold_nothing_are_passed_over(tmp_path: Path) -> None:
    assert read_file(tmp_path / "a.csv", "text,id,,\na,1,,\nb,2\nc,3,,,\n") == [
        (2, {"text": "a"}),
        (3, {"text": "b"}),
        (4, {"text": "c"}),
    ]


@pytest.mark.parametrize(
    ("row", "wrong"),
    [(b"a,b,c", "3 columns where the header has 2"), (b"\xc3\xa4\xff,", "not UTF-8"), (b"x" * 1001, "more than 1000 bytes")],
)
def test_a_bad_row_costs_no_other(row: bytes, wrong: str, tmp_path: Path) -> None:
    (_, first), (number, second), (_, third) = read_file(tmp_path / "a.csv", "text,n\nä,\n".encode() + row + b"\nb,\n")
    assert (first, number, third) == ({"text": "ä"}, 3, {"text": "b"})
    assert wrong in second


def test_a_cell_may_be_as_long_as_a_line(tmp_path: Path) -> None:
    ((_, found),) = read_file(tmp_path / "a.csv", "text\n" + "x" * 300_000, max_bytes=400_000)
    assert len(found["text"]) == 300_000


@pytest.mark.parametrize("header", ["a,b\n", ""])
def test_a_file_whose_column_is_not_obvious_is_a_question(header: str, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"which column of .*a\.csv holds the text\? .*say --text-column NAME"):
        read_file(tmp_path / "a.csv", header)


# --- questions


def test_each_line_is_a_context_of_the_question_or_a_question_about_the_context(tmp_path: Path) -> None:
    asked = read_file(tmp_path / "a.txt", "c", specs=QUESTIONS, given={"question": "q"})
    assert asked == [(1, {"question": "q", "context": "c"})]
    asked = read_file(tmp_path / "a.txt", "q", specs=QUESTIONS, given={"context": "c"})
    assert asked == [(1, {"question": "q", "context": "c"})]


def test_a_question_for_all_stands_above_those_of_the_file(tmp_path: Path) -> None:
    lines = '{"question": "mine", "context": "c"}\n{"passage": "d"}'
    asked = read_file(tmp_path / "a.jsonl", lines, specs=QUESTIONS, given={"question": "q"})
    assert [entry for _, entry in asked] == [{"question": "q", "context": "c"}, {"question": "q", "context": "d"}]


def test_a_file_of_contexts_alone_says_what_is_missing(tmp_path: Path) -> None:
    ((_, found),) = read_file(tmp_path / "a.jsonl", '{"context": "c"}', specs=QUESTIONS)
    assert found == "the line has no 'question'"
    with pytest.raises(SetupError, match="holds the question"):
        read_file(tmp_path / "a.csv", "context\nc\n", specs=QUESTIONS)


# --- files


@pytest.mark.parametrize("name", ["missing.txt", "folder"])
def test_a_file_that_cannot_be_opened_is_told_before_anything_is_answered(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(SetupError, match=name):
        check_sources(["-", str(tmp_path / name)])


@pytest.mark.parametrize("content", ['[{"text": "a"}]', '{"rows": [{"text": "a"}], "n": 1}', '"a"\n', '{"text": "a"}'])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.jsonl"])
def test_arrays_of_json_are_read_under_any_name_of_json(name: str, content: str, tmp_path: Path) -> None:
    if (name, content[:7]) == ("a.jsonl", '{"rows"') or (name != "a.jsonl" and content[0] == '"'):
        pytest.skip("is none of this kind")
    packed = gzip.compress(content.encode()) if name.endswith(".gz") else content
    assert read_file(tmp_path / name, packed) == [(1, {"text": "a"})]


# --- the columns that a model was trained on


def test_the_columns_that_a_model_was_trained_on_are_read_without_options(tmp_path: Path) -> None:
    trained = {"text": "Beschreibung", "label": "Kategorie"}
    table = "text,beschreibung,hypothesis\nx,a,y\n"
    assert read_file(tmp_path / "a.csv", table, trained_columns=trained) == [(2, {"text": "a"})]
    assert read_file(tmp_path / "a.csv", table, trained_columns=trained, text_column="text") == [
        (2, {"text": "x", "text_pair": "y"})
    ]
    assert read_file(tmp_path / "a.csv", "review\nb\n", trained_columns=trained) == [(2, {"text": "b"})]
    assert read_file(tmp_path / "a.txt", "c\n", trained_columns=trained) == [(1, {"text": "c"})]


def test_a_column_that_is_not_clear_is_asked_for_with_the_candidates_and_what_was_trained_on(tmp_path: Path) -> None:
    specs = {"text": FieldSpec(("text",), possible=(("comment", "note"),))}
    with pytest.raises(SetupError) as caught:
        read_file(tmp_path / "a.csv", "id,Note,Comment\n1,a,b\n", specs=specs, trained_columns={"text": "Betreff"})
    assert caught.value.detail.endswith(
        "holds the text? It may be any of 'Note', 'Comment'; the model was trained on 'Betreff'; say --text-column NAME"
    )


def test_tokens_are_a_text_where_the_task_reads_them(tmp_path: Path) -> None:
    specs = {"text": FieldSpec(("text",), token_columns=("tokens",))}
    column_file = "Anna B-PER\nslept O\n\nBob B-PER\n"
    assert read_file(tmp_path / "a.conll", column_file, specs=specs) == [(1, {"text": "Anna slept"}), (4, {"text": "Bob"})]
    assert read_file(tmp_path / "a.jsonl", '{"tokens": ["Anna", "slept"]}', specs=specs) == [(1, {"text": "Anna slept"})]
    cells = "tokens\n\"['Anna', 'slept']\"\nBob slept\n"
    assert read_file(tmp_path / "a.csv", cells, specs=specs) == [(2, {"text": "Anna slept"}), (3, {"text": "Bob slept"})]
    assert read_file(tmp_path / "a.csv", "text\n\"['Anna']\"\n", specs=specs) == [(2, {"text": "['Anna']"})]
    broken = read_file(tmp_path / "a.conll", "a O\nb O\n\nc\n", specs=specs)
    assert broken[1] == (4, "the line has 1 column where the sentences before it have 2")
