"""Log lines: JSON on a pipe, plain on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from app.observability.logging import JsonFormatter, PlainFormatter, harmless, request_id, set_up_logging

TEXT = "what a caller has sent"


def record(**extra: object) -> logging.LogRecord:
    made = logging.LogRecord("app.somewhere", logging.INFO, "file.py", 7, "loaded %s", ("tiny/1",), None)
    vars(made).update(extra)
    return made


@pytest.fixture
def restored() -> Iterator[None]:
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_a_json_line_has_the_fields_and_the_extras() -> None:
    line = json.loads(JsonFormatter().format(record(status=200, device="cpu")))
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": "app.somewhere", "message": "loaded tiny/1", "status": 200, "device": "cpu"}


def test_a_json_line_names_the_request_it_belongs_to() -> None:
    token = request_id.set("abc")
    assert json.loads(JsonFormatter().format(record()))["request_id"] == "abc"
    request_id.reset(token)


def test_an_exception_is_part_of_its_line() -> None:
    error = ZeroDivisionError("by zero")
    text = JsonFormatter().format(record(exc_info=(type(error), error, None)))
    assert json.loads(text)["exception"] == "ZeroDivisionError"
    assert "\n" not in text


@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()])
def test_an_exception_is_told_by_its_places_and_kinds_and_not_by_what_it_says(formatter: logging.Formatter) -> None:
    def failing() -> None:
        try:
            raise KeyError(TEXT)
        except KeyError as error:
            raise RuntimeError(f"cannot use {error}") from error

    try:
        failing()
    except RuntimeError as error:
        text = formatter.format(record(exc_info=(type(error), error, error.__traceback__)))
    assert TEXT not in text
    assert text.index("raise KeyError") < text.index("which led to") < text.rindex("RuntimeError")
    assert "test_logging.py" in text


UNSAFE = [
    *map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029", "\u202e", "\u2066", "\u200f", "\ud800", "\r\n",
]  # fmt: skip


def raised(name: str) -> Any:
    """An error of a class with this name, with a place where it arose."""
    try:
        raise type(name, (Exception,), {})("words")
    except Exception as error:
        return type(error), error, error.__traceback__


@pytest.mark.parametrize("unsafe", UNSAFE, ids=ascii)
@pytest.mark.parametrize("formatter", [JsonFormatter(), PlainFormatter()], ids=["json", "plain"])
def test_nothing_that_a_caller_sends_begins_a_line_or_tells_a_terminal_to_do_anything(
    formatter: logging.Formatter, unsafe: str
) -> None:
    forged = f"/nowhere{unsafe}00:00:00 INFO    forged"
    logged = record(msg="POST %s", args=(forged,), model=forged, exc_info=raised(f"Odd{unsafe}"))
    logged.__dict__[f"key{unsafe}"] = 1
    text = formatter.format(logged)
    assert unsafe == "\n" or unsafe not in text
    assert not [line for line in text.splitlines() if line.startswith("00:00:00")]


@pytest.mark.parametrize("unsafe", [entry for entry in UNSAFE if entry != "\ud800"], ids=ascii)
def test_a_json_line_is_one_line_and_says_what_it_was(unsafe: str) -> None:
    text = JsonFormatter().format(record(path=f"a{unsafe}b"))
    assert len(text.splitlines()) == 1
    assert json.loads(text)["path"] == f"a{unsafe}b"


def test_what_a_plain_line_tells_besides_stands_before_the_places_of_an_error() -> None:
    first, *places = PlainFormatter().format(record(status=500, exc_info=raised("Odd"))).splitlines()
    assert first.endswith("loaded tiny/1  status=500")
    assert places[-1] == "Odd"


def test_ordinary_text_in_any_script_stays_as_it_is() -> None:
    for formatter in (JsonFormatter(), PlainFormatter()):
        assert "/Grüße/日本/שלום/👩‍👩‍👧" in formatter.format(record(path="/Grüße/日本/שלום/👩‍👩‍👧"))


def test_a_sentence_on_the_terminal_keeps_its_lines_and_nothing_else_that_a_terminal_obeys() -> None:
    assert harmless("one\ntwo\x1b[2J\r\x9b\u2028three") == "one\ntwo\ufffd[2J\ufffd\ufffd\ufffdthree"


def test_what_json_cannot_write_is_written_as_text() -> None:
    assert json.loads(JsonFormatter().format(record(where={1}.__class__)))["where"] == "<class 'set'>"


def test_a_plain_line_is_for_people() -> None:
    line = PlainFormatter().format(record(status=200))
    assert line.endswith("INFO    loaded tiny/1  status=200")


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, PlainFormatter), (False, JsonFormatter)])
def test_a_terminal_gets_plain_lines_and_a_pipe_json(
    restored: None, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: type
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    set_up_logging("warning")
    (handler,) = logging.root.handlers
    assert isinstance(handler.formatter, kind)
    assert logging.root.level == logging.WARNING


@pytest.mark.parametrize(("log_format", "kind"), [("text", PlainFormatter), ("json", JsonFormatter)])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_format_that_is_asked_for_is_taken_wherever_the_lines_go(
    restored: None, monkeypatch: pytest.MonkeyPatch, is_terminal: bool, log_format: str, kind: type
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    set_up_logging("info", log_format)
    (handler,) = logging.root.handlers
    assert isinstance(handler.formatter, kind)
