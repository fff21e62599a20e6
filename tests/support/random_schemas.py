"""JSON schemas of the kinds that answers can be held to, drawn at random."""

from __future__ import annotations

import random
from typing import Any

NAMES = ("name", "größe", "a b", 'say "so"', "x", "items", "0", "\\")
PATTERNS = ("[a-c]{1,3}", "^x+$", "\\d{2}-\\d{2}", "(ja|nein)", "^[A-Z][a-z]*$")
FORMATS = ("date", "date-time", "uuid", "ipv4", "email")


def random_schema(draw: random.Random, depth: int = 3) -> dict[str, Any]:
    """One that a document obeys."""
    if depth == 3 and draw.random() < 0.2:  # definitions stand at the top
        return _definitions(draw, depth)
    nested = (_object, _array, _any_of) if depth else ()
    return draw.choice((_string, _integer, _number, _simple, _enum, *nested, *nested))(draw, depth - 1)


def _string(draw: random.Random, depth: int) -> dict[str, Any]:
    kind = draw.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": draw.choice(PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": draw.choice(FORMATS)}
    least = draw.randrange(3)
    return {"type": "string", "minLength": least, "maxLength": least + draw.randrange(8)}


def _integer(draw: random.Random, depth: int) -> dict[str, Any]:
    least = draw.randrange(-2000, 2000)
    return (
        {"type": "integer", "minimum": least, "maximum": least + draw.randrange(500)}
        if draw.random() < 0.7
        else {"type": "integer"}
    )


def _number(draw: random.Random, depth: int) -> dict[str, Any]:
    least = round(draw.uniform(-20, 20), 2)
    side = draw.choice(("minimum", "exclusiveMinimum"))
    return {"type": "number", side: least, "maximum": round(least + draw.uniform(0.5, 9), 2)}


def _simple(draw: random.Random, depth: int) -> dict[str, Any]:
    return {"type": draw.choice(("boolean", "null", ["boolean", "null"], ["integer", "null"]))}


def _enum(draw: random.Random, depth: int) -> dict[str, Any]:
    values: list[Any] = ["ja", "nein", 7, -1.5, None, True, {"a": [1, "é"]}, [], "a\nb"]
    return {"const": draw.choice(values)} if draw.random() < 0.3 else {"enum": draw.sample(values, draw.randrange(1, 5))}


def _object(draw: random.Random, depth: int) -> dict[str, Any]:
    names = draw.sample(NAMES, draw.randrange(4))
    properties = {name: random_schema(draw, depth) for name in names}
    required = [name for name in names if draw.random() < 0.6]
    others: Any = draw.choice((False, False, {"type": "integer"}))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": others}


def _array(draw: random.Random, depth: int) -> dict[str, Any]:
    if draw.random() < 0.25:
        prefix = [random_schema(draw, depth) for _ in range(2)]
        return {"type": "array", "prefixItems": prefix, "items": False, "minItems": 2}
    least = draw.randrange(3)
    return {"type": "array", "items": random_schema(draw, depth), "minItems": least, "maxItems": least + draw.randrange(3)}


def _any_of(draw: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [random_schema(draw, depth) for _ in range(2)]}


def _definitions(draw: random.Random, depth: int) -> dict[str, Any]:
    used = {"$ref": "#/$defs/thing"}
    return {
        "$defs": {"thing": random_schema(draw, 0)},
        "type": "object", "properties": {"one": used, "more": {"type": "array", "items": used, "maxItems": 2}},
        "required": ["one"], "additionalProperties": False,
    }  # fmt: skip
