"""Clients who are slow, leave, lie about lengths or speak no HTTP: many connections at a time, each of which must end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from scripts.bench.service import Address
from scripts.reliability.tally import Tally

AT_ONCE = 200
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BODY = json.dumps({"inputs": ["A fine film.", "It broke."]}).encode()
PATHS = ["/v1/classify", "/v1/answer", "/v1/summarize", "/predict", "/health/ready", "/v2", "/docs", "/nowhere"]

End = Literal["wait", "half-close", "reset", "leave"]


@dataclass(frozen=True, slots=True)
class Act:
    """What a client sends, in pieces that are sent apart, and what it does then."""

    kind: str
    pieces: Sequence[bytes]
    end: End
    num_answers: int | None = None
    """How many it must get; None: that is not known."""


def head(path: str, length: int | str, method: str = "POST", more: str = "Connection: close\r\n") -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    )
    return lines.encode("latin-1")


def whole(dice: random.Random, path: str) -> Act:
    return Act("half-closed after a request", [head(path, len(BODY)) + BODY], "half-close")


def slow_body(dice: random.Random, path: str) -> Act:
    return Act("slow body", [head(path, len(BODY)), BODY[: dice.randrange(len(BODY))]], "wait")


def slow_head(dice: random.Random, path: str) -> Act:
    text = head(path, len(BODY))
    cut = dice.randrange(1, len(text) - 2)
    return Act("slow head", [text[:cut], text[cut : cut + 1]], "wait")


def half_closed_body(dice: random.Random, path: str) -> Act:
    return Act("half-closed in the body", [head(path, len(BODY)) + BODY[: dice.randrange(len(BODY))]], "half-close")


def reset(dice: random.Random, path: str) -> Act:
    text = head(path, len(BODY)) + BODY
    return Act("reset", [text[: dice.randrange(1, len(text) + 1)]], "reset")


def left(dice: random.Random, path: str) -> Act:
    return Act("left before the answer", [head(path, len(BODY)) + BODY], "leave")


def lying_length(dice: random.Random, path: str) -> Act:
    length = dice.choice([str(len(BODY) - 5), str(len(BODY) + 5), "0", "1", "1000000000", "-1", "1e3", "9" * 30, "", "5, 6"])
    return Act("lying length", [head(path, length) + BODY], "wait")


def chunks(dice: random.Random, path: str) -> Act:
    sizes = [b"%x" % len(BODY), b"ffffffffffffffff", b"-1", b"0x10", b"zz", b"1;a=" + b"b" * 5000]
    more = "Transfer-Encoding: chunked\r\nConnection: close\r\n"
    text = head(path, 5, more=more) if dice.random() < 0.3 else head(path, 5, more=more).replace(b"Content-Length: 5\r\n", b"")
    end = b"\r\n0\r\n" + b"X-Trailer: y\r\n" * dice.choice([0, 1, 2000]) + b"\r\n"
    return Act("chunks", [text, dice.choice(sizes) + b"\r\n", BODY + end], "wait")


def noise(dice: random.Random, path: str) -> Act:
    data = dice.randbytes(dice.randrange(1, 300))
    begin = dice.choice(
        [b"", b"GET ", b"POST " + path.encode() + b" HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    )
    return Act("no HTTP", [begin + data], dice.choice(["wait", "half-close"]))


def odd_head(dice: random.Random, path: str) -> Act:
    more = dice.choice(
        [
            "X: " + "a" * 100_000, "X: y\r\n" * 5000, "Expect: 100-continue", "Upgrade: websocket\r\nConnection: Upgrade",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "X-Request-Id: " + "\xff" * 40, "Range: bytes=0-1,-1,5-",
            "If-None-Match: " + '"' * 500, "Authorization: Bearer \xe9", "X-Request-Timeout-Ms: 9e99", "X-Priority: \x00",
            "Accept-Encoding: " + "gzip, " * 2000, "Host: a\r\nHost: b", "Cookie: " + "a=b; " * 3000,
        ]
    )  # fmt: skip
    method = dice.choice(["POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "BREW"])
    where = dice.choice(
        [path, "*", "//", "/%00", "/%ff%fe", "/static/..%2f..%2fmain.py", "http://other/v1/models", "/" + "a" * 70_000]
    )
    text = head(where, len(BODY), method, f"{more}\r\nConnection: close\r\n")
    return Act("odd head", [text + BODY], "wait")


def pipelined(dice: random.Random, path: str) -> Act:
    one = head(path, len(BODY), more="") + BODY
    return Act("pipelined", [one * dice.randrange(2, 20) + head(path, len(BODY)) + BODY], "wait")


def refused_body(dice: random.Random, path: str) -> Act:
    """Sends all of it before it reads a byte: its refusal must reach it."""
    length = dice.choice([2_097_153, 3_000_000, 20_000_000])
    piece = b" " * 65_536
    if dice.random() < 0.3:
        more = "Transfer-Encoding: chunked\r\nConnection: close\r\n"
        text = head(path, 5, more=more).replace(b"Content-Length: 5\r\n", b"")
        pieces = [text, *[b"10000\r\n" + piece + b"\r\n"] * (length // len(piece) + 1), b"0\r\n\r\n"]
    else:
        pieces = [head(path, length), *[piece] * (length // len(piece)), piece[: length % len(piece)]]
    return Act("refused with its body under way", pieces, "wait", 1)


def upgrading(dice: random.Random, path: str) -> Act:
    """Asks for an upgrade, with a body that is a request: there is one answer to it."""
    protocol = dice.choice(["h2c", "websocket", "TLS/1.0, HTTP/1.1", "x"])
    more = f"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    body = dice.choice([BODY, head("/v1/models", 0, "GET"), 3 * head("/v1/models", 0, "GET", "")])
    method = dice.choice(["POST", "POST", "GET", "PUT"])
    text = head(path, len(body), method, more) + body
    cut = dice.randrange(1, len(text))
    return Act("asks for an upgrade", [text[:cut], text[cut:]], "wait", 1)


def expecting(dice: random.Random, path: str) -> Act:
    """Waits to be told to send a body that nobody may have: it is refused in its place."""
    more = "Expect: 100-continue\r\nConnection: close\r\n"
    return Act("waits for a refusal", [head(path, dice.choice([2_097_153, 10**12]), more=more)], "wait", 1)


KINDS: Sequence[Callable[[random.Random, str], Act]] = (
    whole, slow_body, slow_head, half_closed_body, reset, left, lying_length, chunks, noise, odd_head, pipelined, refused_body,
    upgrading, expecting,
)  # fmt: skip


def fuzz_sockets(address: Address, count: int, dice: random.Random, patience_s: float) -> Tally:
    """Act so many clients; see `fuzz_openapi` for the arguments."""
    tally = Tally()
    acts = [KINDS[number % len(KINDS)](dice, dice.choice(PATHS)) for number in range(count)]
    asyncio.run(_all(address, acts, patience_s, tally))
    return tally


async def _all(address: Address, acts: Sequence[Act], patience_s: float, tally: Tally) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def one(act: Act) -> None:
        async with places:
            try:
                async with asyncio.timeout(patience_s):
                    answers = await _play(address, act)
            except TimeoutError:
                tally.hung(act.kind, patience_s, act)
            except OSError as error:  # it was cut off, which is an end
                if act.num_answers is None:
                    tally.answered(act.kind, None, act)
                else:
                    tally.broke(act.kind, f"ended with {type(error).__name__}", act.pieces[0])
            else:
                statuses = [int(status) for status in STATUS.findall(answers)]
                if act.num_answers in (None, len(statuses)):
                    tally.answered(act.kind, max(statuses, default=None), act)
                else:
                    tally.broke(act.kind, f"was answered with {statuses}", act.pieces[0])

    await asyncio.gather(*[one(act) for act in acts])


async def _play(address: Address, act: Act) -> bytes:
    """All that the service sends until it ends the connection; nothing where the client does not wait for that."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        for piece in act.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # lets the piece travel alone
        if act.end == "reset":
            _reset(writer)
        if act.end in ("reset", "leave"):
            return b""
        if act.end == "half-close":
            writer.write_eof()
        return await reader.read(-1)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let closing send RST in place of FIN."""
    plain: socket.socket = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
