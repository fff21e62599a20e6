"""Log lines: JSON on a pipe, plain on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from app.observability.logging import JsonFormatter, PlainFormatter, request_id, set_up_logging

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


def test_a_terminal_is_not_told_to_do_anything() -> None:
    line = PlainFormatter().format(record(path="/\x1b[2J\r\x9b"))
    assert "\x1b" not in line
    assert "\r" not in line
    assert "\x9b" not in line


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
