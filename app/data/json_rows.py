"""Rows of json lines and of whole JSON files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

from app.core.errors import HooperError, InvalidInput, InvalidSettings
from app.data.record import MAX_WHOLE_BYTES, ReadOptions, Record
from app.data.sources import checked_size
from app.data.text_lines import Lines, decoded_text, text_lines


def read_json_lines(stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    """One JSON object a line; a whole array, as some programs write under this name, is read as one."""
    if stream.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from read_json(stream, source, options)
    else:
        yield from json_lines(text_lines(stream, source, options), source, options)


def json_lines(lines: Lines, source: str, options: ReadOptions) -> Iterator[Record]:
    for number, text in lines:
        where = f"{source}:{number}"
        if isinstance(text, HooperError):
            yield Record(where, {}, text, number)
        elif text.strip():
            value = _json_object(text, options)
            if isinstance(value, HooperError):
                yield Record(where, {}, value, number)
            else:
                yield Record(where, value, None, number, len(text))


def is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def read_json(stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    """The objects of an array, by itself or within an object; SQuAD's own nesting; json lines under this name.

    Raises:
        InvalidSettings: it is none of these.
    """
    content = checked_size(stream, source)
    text = _text(content, source, options)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        lines = text.splitlines(keepends=True)
        if not is_json_object(next((line for line in lines if line.strip()), "")):
            raise InvalidSettings(f"{source} is not valid JSON: {error}") from error
        yield from json_lines(iter(enumerate(lines, start=1)), source, options)
        return
    for number, row in enumerate(_rows(value, source), start=1):
        where = f"{source}#{number}"
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _squad(where, row)
        else:
            yield _object(where, row, number, options.text_name)


def _text(content: bytes, source: str, options: ReadOptions) -> str:
    try:
        if not options.encoding:
            return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        pass
    text = decoded_text(content, source, replace(options, max_bytes=MAX_WHOLE_BYTES))
    if isinstance(text, HooperError):
        raise InvalidSettings(f"{source} cannot be read: {text.detail}")
    return text


def _rows(value: Any, source: str) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        arrays = {name: rows for name, rows in value.items() if isinstance(rows, list) and any(map(_is_object, rows))}
        if isinstance(value.get("data"), list):
            return value["data"]  # type: ignore[no-any-return]
        if len(arrays) == 1:
            return next(iter(arrays.values()))
        if len(arrays) > 1:
            raise InvalidSettings(
                f"{source} holds several lists of objects ({', '.join(map(repr, arrays))}); which is meant? Write it alone"
            )
        if not any(isinstance(cell, dict) for cell in value.values()) and "data" not in value:
            return [value]
    raise InvalidSettings(f"{source} must be a list of objects, or an object that holds one such list")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _json_object(text: str, options: ReadOptions) -> dict[str, Any] | HooperError:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return InvalidInput(f"the line is not valid JSON: {getattr(error, 'msg', 'nested too deeply')}")
    if isinstance(value, str) and options.text_name:
        return {options.text_name: value}
    if isinstance(value, dict):
        return value
    return InvalidInput(
        f"the line is {'neither a JSON object nor a JSON string' if options.text_name else 'not a JSON object'}"
    )


def _squad(where: str, article: Mapping[str, Any]) -> Iterator[Record]:
    """One record per question of an article in SQuAD's own nesting, v1.1 or v2.0."""
    paragraphs = article["paragraphs"]
    for number, paragraph in enumerate(paragraphs if isinstance(paragraphs, list) else [None], start=1):
        place = f"{where}.{number}"
        questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
        if not isinstance(questions, list):
            yield Record(place, {}, InvalidInput("not a SQuAD paragraph with qas"), number)
            continue
        shared = {"context": paragraph.get("context"), "title": article.get("title")}
        for index, question in enumerate(questions, start=1):
            yield _object(f"{place}.{index}", {**question, **shared} if isinstance(question, dict) else question, index)


def _object(where: str, row: Any, number: int, text_name: str = "") -> Record:
    if isinstance(row, str) and text_name:
        row = {text_name: row}
    if isinstance(row, dict):
        return Record(where, row, None, number, sum(len(cell) for cell in row.values() if isinstance(cell, str)))
    return Record(where, {}, InvalidInput("not a JSON object"), number)


def by_first_line(stream: Any, source: str, options: ReadOptions) -> Iterator[Record]:
    """JSON where the first line that is not blank begins so, else lines of text."""
    head = stream.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head.startswith((b"[{", b"[\n", b"[\r", b"[ ")):
        yield from read_json(stream, source, options)
        return
    lines = text_lines(stream, source, options)
    first: list[tuple[int, str | HooperError]] = []
    is_json = False
    for number, text in lines:
        first.append((number, text))
        if isinstance(text, HooperError) or text.strip():
            is_json = isinstance(text, str) and is_json_object(text)
            break
    reader = json_lines if is_json else plain_lines
    yield from reader(chain(first, lines), source, options)


def plain_lines(lines: Lines, source: str, options: ReadOptions) -> Iterator[Record]:
    """Each line that is not blank as the text."""
    for number, text in lines:
        where = f"{source}:{number}"
        if isinstance(text, HooperError):
            yield Record(where, {}, text, number)
        elif text.strip():
            yield Record(where, {options.text_name: text.rstrip("\r\n")}, None, number, len(text))
