"""What a soak sends: requests of mixed size for all tasks, some that are wrong, and some whose client leaves."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.bench.connection import prepared
from scripts.bench.texts import profile_texts

DRAWN = 4000
HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Request:
    """Bytes to send, and what may come of them."""

    kind: str
    message: bytes
    status: int = 200
    leaves: bool = False
    """Its client closes the connection before the answer."""


@dataclass(frozen=True, slots=True)
class Texts:
    short: Sequence[str]
    long: Sequence[str]


Make = Callable[[random.Random, Texts], Request]


def _native(kind: str, path: str, body: Mapping[str, Any], **more: Any) -> Request:
    return Request(kind, prepared(HOST, path, body), **more)


def short(dice: random.Random, texts: Texts) -> Request:
    return _native("a short text", "/v1/classify", {"inputs": dice.choice(texts.short)})


def long(dice: random.Random, texts: Texts) -> Request:
    text = " ".join(dice.choices(texts.long, k=dice.randint(1, 3)))
    return _native("a long text", "/v1/classify", {"inputs": text, "truncation": dice.choice(("truncate", "window"))})


def several(dice: random.Random, texts: Texts) -> Request:
    return _native("a list of texts", "/v1/classify", {"inputs": dice.choices(texts.short, k=dice.randint(2, 8))})


def question(dice: random.Random, texts: Texts) -> Request:
    item = {"question": "What did they think of it?", "context": _passage(dice, texts)}
    return _native("a question", "/v1/answer", {"inputs": item})


def document(dice: random.Random, texts: Texts) -> Request:
    return _native("a document", "/v1/summarize", {"inputs": _passage(dice, texts), "max_sentences": 2})


def _passage(dice: random.Random, texts: Texts) -> str:
    """Some sentences, and a whole review now and then."""
    return dice.choice(texts.long) if dice.random() < 0.1 else " ".join(dice.choices(texts.short, k=2))


def wrong(dice: random.Random, texts: Texts) -> Request:
    unknown = {"inputs": dice.choice(texts.short), "model": f"none-{dice.randrange(10**6)}"}
    bodies: list[tuple[dict[str, Any], int]] = [
        ({"inputs": ""}, 422), ({"inputs": 5}, 422), ({}, 422), ({"inputs": "a", "top": 3}, 422), (unknown, 404)
    ]  # fmt: skip
    body, status = dice.choice(bodies)
    return _native("a wrong request", "/v1/classify", body, status=status)


def left(dice: random.Random, texts: Texts) -> Request:
    return _native("a client who leaves", "/v1/classify", {"inputs": dice.choice(texts.long)}, leaves=True)


SHARES: Mapping[Make, int] = {short: 76, long: 4, several: 6, question: 5, document: 4, wrong: 3, left: 2}
"""Of a hundred requests."""


def draw(seed: int, count: int = DRAWN) -> list[Request]:
    """So many requests, the same for the same seed; they are sent again and again."""
    dice = random.Random(seed)
    texts = Texts(profile_texts("short"), profile_texts("long"))
    return [make(dice, texts) for make in dice.choices(list(SHARES), weights=list(SHARES.values()), k=count)]
