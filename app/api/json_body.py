"""The JSON of a request: its size in values known before it is parsed, parsed once, and bounded before anything is made of it.

What pydantic says of a value costs a hundred times what the value costs on the line, and it says so of each. So it is given
only what a request of the contract could be; the rest is refused here, by counting.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from fastapi import Request, Response
from fastapi.routing import APIRoute

from app.core.errors import InvalidInput, TooManyItems, brief

JSON_VALUE = "hooper.json"
"""Key of the scope under which stands what the body says, once it was read and found within bounds."""

MAX_DEPTH = 64
"""Lists and objects within each other. No request of the contract needs more than six."""
TOO_DEEP = f"lists and objects are nested deeper than {MAX_DEPTH} levels"
MAX_FIELDS = 64
"""Of one object. No request of the contract has more than thirty."""
MAX_DIGITS = 100
"""Of an integer: reading one of thousands takes a time that grows with their square."""
NOT_JSON = "the body is not valid JSON in UTF-8"

TOKEN_IDS = frozenset({"ids", "input", "prompt"})
"""Fields in which a list of integers is one text."""
SHORT_BYTES = 65_536
"""Bodies up to here are measured in less time than another thread would need to begin."""
_QUOTE = ord('"')
_STEPS = np.zeros(256, np.int8)
_STEPS[[ord("["), ord("{")]], _STEPS[[ord("]"), ord("}")]] = 1, -1


@dataclass(frozen=True, slots=True)
class Shape:
    """What a body holds outside of its strings; of one that is no JSON, a guess that does no harm."""

    num_commas: int
    num_fields: int
    num_opened: int
    """Lists and objects."""
    depth: int

    @classmethod
    def of(cls, body: bytes) -> Shape:
        """Measure a body, in a time that depends on its length alone."""
        bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # each quote that is left begins or ends a string
        codes = np.frombuffer(bare, np.uint8)
        outside = codes[np.bitwise_xor.accumulate((codes == _QUOTE).view(np.uint8)) == 0]
        counts = np.bincount(outside, minlength=256)
        depth = np.cumsum(_STEPS[outside], dtype=np.int32).max(initial=0)
        return cls(int(counts[ord(",")]), int(counts[ord(":")]), int(counts[ord("[")] + counts[ord("{")]), int(depth))


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that a request can need, however many items it may hold."""

    max_items: int

    @property
    def max_commas(self) -> int:
        return max(65_536, 8 * self.max_items)

    @property
    def max_fields(self) -> int:
        return max(4096, 8 * self.max_items)

    @property
    def max_opened(self) -> int:
        return max(1024, 4 * self.max_items)

    def are_certain(self, body: bytes) -> bool:
        """Whether a body keeps within the bounds even if all of its strings were none, as nearly every one does."""
        num_opened = body.count(b"[") + body.count(b"{")
        return num_opened <= MAX_DEPTH and body.count(b":") <= self.max_fields and body.count(b",") <= self.max_commas

    def check(self, shape: Shape) -> None:
        """
        Raises:
            InvalidInput: it is nested too deep.
            TooManyItems: there is more in it than any request can need.
        """
        if shape.depth > MAX_DEPTH:
            raise InvalidInput(TOO_DEEP, "body")
        for number, limit, name in (
            (shape.num_commas, self.max_commas, "values"),
            (shape.num_fields, self.max_fields, "fields"),
            (shape.num_opened, self.max_opened, "lists and objects"),
        ):
            if number > limit:
                raise TooManyItems(f"{number} {name} are too many; at most {limit}", "body")


async def read_json(body: bytes, max_items: int) -> Any:
    """The value that a body says.

    Args:
        body: JSON in UTF-8, or as its first bytes say in UTF-16 or UTF-32.

    Raises:
        InvalidInput: it is no JSON, or no request could be so deep or have so many values, fields or items.
    """
    if (encoding := json.detect_encoding(body)) != "utf-8":
        body = _decoded(body, encoding).encode("utf-8", "surrogatepass")
    bounds = Bounds(max_items)
    if not bounds.are_certain(body):
        # NumPy lets other threads run meanwhile, which the parser does not
        bounds.check(Shape.of(body) if len(body) <= SHORT_BYTES else await asyncio.to_thread(Shape.of, body))
    value = _parsed(body)
    check_items(value, max_items)
    return value


def read_form(body: bytes, max_items: int) -> dict[str, Any]:
    """The fields of a form; one that is there several times is a list.

    Raises:
        InvalidInput: it is no form in UTF-8, or has more fields than any request.
    """
    fields: dict[str, Any] = {}
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=max_items + MAX_FIELDS)
    except ValueError:
        raise InvalidInput("the body is no form in UTF-8, or has too many fields") from None
    for name, value in pairs:
        existing = fields.get(name)
        fields[name] = value if existing is None else [*(existing if isinstance(existing, list) else [existing]), value]
    check_items(fields, max_items)
    return fields


def _parsed(body: bytes) -> Any:
    try:
        return _DECODER.decode(_decoded(body, "utf-8"))
    except json.JSONDecodeError as error:
        raise InvalidInput(f"the body is not valid JSON: {error.msg}") from None


def _decoded(body: bytes, encoding: str) -> str:
    try:
        return body.decode(encoding, "surrogatepass")
    except UnicodeDecodeError:
        raise InvalidInput(NOT_JSON) from None


def check_items(value: Any, max_items: int) -> None:
    """
    Raises:
        TooManyItems: a request holds more items, of whatever kind.
    """
    for name, entries in value.items() if isinstance(value, dict) else ():  # whichever of them holds the items
        if isinstance(entries, list) and len(entries) > max_items and not (name in TOKEN_IDS and isinstance(entries[0], int)):
            raise TooManyItems(f"{len(entries)} items are too many; at most {max_items}", brief(name))


def _checked(value: dict[str, Any]) -> Mapping[str, Any]:
    if len(value) > MAX_FIELDS:
        raise InvalidInput(f"an object has {len(value)} fields; at most {MAX_FIELDS} are read", "body")
    return value


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidInput(f"the body is not valid JSON: a number has {len(digits)} digits, more than {MAX_DIGITS}")
    return int(digits)


_DECODER = json.JSONDecoder(object_hook=_checked, parse_int=_integer)


class JsonRoute(APIRoute):
    """A route that is given the value read before, instead of parsing the body once more."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def with_value(request: Request) -> Response:
            return await handle(_ReadRequest(request.scope, request.receive))

        return with_value


class _ReadRequest(Request):
    async def json(self) -> Any:
        return self.scope[JSON_VALUE]
