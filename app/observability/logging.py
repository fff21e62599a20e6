"""Log lines: one JSON object each, or plain text for people. Never a request's text."""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

request_id: ContextVar[str] = ContextVar("request_id", default="")

_UNSAFE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""A path, a name or an error may hold what ends a line, what a terminal obeys, what turns the direction of writing, or what
cannot be written at all."""
_IN_A_LINE = re.compile(f"[{_UNSAFE}]")
_IN_LINES = re.compile(rf"(?!\n)[{_UNSAFE}]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Wordless(logging.Formatter):
    """Where an error arose and of what kind it is, without its message: that may repeat what a caller sent."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            lines = [places, _one_line(type(error).__name__), *(["which led to", *lines] if lines else [])]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return harmless("\n".join(filter(None, lines)))


class JsonFormatter(_Wordless):
    """`{"time","level","logger","message","request_id",…}` with the record's extra fields."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id.get():
            line["request_id"] = request_id.get()
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _IN_A_LINE.sub(_escaped, json.dumps(line, default=str, ensure_ascii=False))


class PlainFormatter(_Wordless):
    """For people: time, level, message, then the extra fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        extra = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        return _one_line(f"{super().formatMessage(record).rstrip()}  {extra}".rstrip())


def harmless(text: str) -> str:
    """The text with its lines, but with nothing else that a terminal obeys."""
    return _IN_LINES.sub("\N{REPLACEMENT CHARACTER}", text)


def _one_line(text: str) -> str:
    return _IN_A_LINE.sub("\N{REPLACEMENT CHARACTER}", text)


def _escaped(match: re.Match[str]) -> str:
    """As JSON writes it; nothing of it stands outside a string there."""
    return f"\\u{ord(match[0]):04x}"


def set_up_logging(level: str, log_format: str = "auto") -> None:
    """Send everything to standard error, as `HOOPER_LOG_FORMAT` says: `auto` is JSON unless that is a terminal."""
    # found out for every line, and in none of ours (see "Optimization" in Python's guide to logging)
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    use_json = not sys.stderr.isatty() if log_format == "auto" else log_format == "json"
    handler.setFormatter(JsonFormatter() if use_json else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
