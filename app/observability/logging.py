"""Log lines: one JSON object each on a pipe, plain on a terminal. Never a request's text."""

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

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""A path may hold what a terminal obeys."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName", "color_message"}


_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Wordless(logging.Formatter):
    """Where an error arose and of what kind it is, without its message: that may repeat what a caller sent."""

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        lines: list[str] = []
        error = ei[1]
        while error is not None:
            places = "".join(traceback.format_tb(error.__traceback__)).rstrip()
            lines = [places, type(error).__name__, *(["which led to", *lines] if lines else [])]
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n".join(filter(None, lines))


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
        return json.dumps(line, default=str, ensure_ascii=False)


class PlainFormatter(_Wordless):
    """For people: time, level, message, then the extra fields."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        line = f"{super().format(record)}  {extra}".rstrip()
        return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", line)


def set_up_logging(level: str, as_json: bool | None = None) -> None:
    """Send everything to standard error; JSON unless that is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    use_json = not sys.stderr.isatty() if as_json is None else as_json
    handler.setFormatter(JsonFormatter() if use_json else PlainFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
