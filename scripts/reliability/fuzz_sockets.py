"""Clients who are slow, leave, lie about lengths, speak no HTTP or send bodies that are no JSON, each of whom must get an end.

No fuzzer does this: all of them speak correct HTTP, in JSON that a library has written.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from scripts.bench.service import Address

MAX_CONNECTIONS = 200
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
BODY = json.dumps({"inputs": ["A fine film.", "It broke."]}).encode()
PATHS = ["/predict", "/health/ready", "/v2", "/docs", "/nowhere"]

STREAMED_TEXTS = ("A dog runs.", "A dog runs. " * 20, "👩‍👩‍👧 e\u0301", "\n\n", ".", "中" * 50)
End = Literal["wait", "half-close", "reset", "leave", "read some"]


MAX_FAILURES_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ClientAct:
    """What a client sends, in pieces that are sent apart, what it does then, and how many answers it must get, where known."""

    kind: str
    pieces: Sequence[bytes]
    end: End
    num_answers: int | None = None


@dataclass
class SocketCounts:
    """What came of the acts: their kinds, the statuses that were answered, and which went as none may."""

    kinds: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    num_failures: int = 0
    failures: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {
            "cases": self.kinds.total(), "failed": self.num_failures, "statuses": dict(sorted(self.statuses.items())),
            "kinds": dict(sorted(self.kinds.items())), "failures": self.failures,
        }  # fmt: skip

    def add(self, act: ClientAct, outcome: str, failure: str = "") -> None:
        self.kinds[act.kind] += 1
        self.statuses[outcome] += 1
        if failure:
            self.num_failures += 1
            if len(self.failures) < MAX_FAILURES_SHOWN:
                self.failures.append(f"{act.kind} {failure}: {act.pieces[0][:300]!r}")


def head(path: str, length: int | str, method: str = "POST", more: str = "Connection: close\r\n") -> bytes:
    lines = (
        f"{method} {path} HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    )
    return lines.encode("latin-1")


def whole(rng: random.Random, path: str) -> ClientAct:
    return ClientAct("half-closed after a request", [head(path, len(BODY)) + BODY], "half-close")


def slow_body(rng: random.Random, path: str) -> ClientAct:
    return ClientAct("slow body", [head(path, len(BODY)), BODY[: rng.randrange(len(BODY))]], "wait")


def slow_head(rng: random.Random, path: str) -> ClientAct:
    text = head(path, len(BODY))
    cut = rng.randrange(1, len(text) - 2)
    return ClientAct("slow head", [text[:cut], text[cut : cut + 1]], "wait")


def half_closed_body(rng: random.Random, path: str) -> ClientAct:
    return ClientAct("half-closed in the body", [head(path, len(BODY)) + BODY[: rng.randrange(len(BODY))]], "half-close")


def reset(rng: random.Random, path: str) -> ClientAct:
    text = head(path, len(BODY)) + BODY
    return ClientAct("reset", [text[: rng.randrange(1, len(text) + 1)]], "reset")


def left(rng: random.Random, path: str) -> ClientAct:
    return ClientAct("left before the answer", [head(path, len(BODY)) + BODY], "leave")


def streamed(rng: random.Random, path: str) -> ClientAct:
    """Wants to read along; the answer ends, whatever the model does."""
    return _with_body("reads a stream", path, _stream_body(rng))


def left_stream(rng: random.Random, path: str) -> ClientAct:
    body = _stream_body(rng)
    return ClientAct("left within a stream", [head(path, len(body)) + body], "read some")


def _stream_body(rng: random.Random) -> bytes:
    choices: list[dict[str, Any]] = [
        {}, {"num_beams": 3}, {"temperature": 1.0, "seed": 1}, {"stop": ["e"]}, {"max_new_tokens": 1}
    ]  # fmt: skip
    options = rng.choice(choices)
    return json.dumps({"inputs": rng.choice(STREAMED_TEXTS), "stream": True, **options}).encode()


def lying_length(rng: random.Random, path: str) -> ClientAct:
    length = rng.choice([str(len(BODY) - 5), str(len(BODY) + 5), "0", "1", "1000000000", "-1", "1e3", "9" * 30, "", "5, 6"])
    return ClientAct("lying length", [head(path, length) + BODY], "wait")


def chunks(rng: random.Random, path: str) -> ClientAct:
    sizes = [b"%x" % len(BODY), b"ffffffffffffffff", b"-1", b"0x10", b"zz", b"1;a=" + b"b" * 5000]
    more = "Transfer-Encoding: chunked\r\nConnection: close\r\n"
    text = head(path, 5, more=more) if rng.random() < 0.3 else head(path, 5, more=more).replace(b"Content-Length: 5\r\n", b"")
    end = b"\r\n0\r\n" + b"X-Trailer: y\r\n" * rng.choice([0, 1, 2000]) + b"\r\n"
    return ClientAct("chunks", [text, rng.choice(sizes) + b"\r\n", BODY + end], "wait")


def noise(rng: random.Random, path: str) -> ClientAct:
    data = rng.randbytes(rng.randrange(1, 300))
    begin = rng.choice(
        [b"", b"GET ", b"POST " + path.encode() + b" HTTP/1.1\r\n", b"\x16\x03\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    )
    return ClientAct("no HTTP", [begin + data], rng.choice(["wait", "half-close"]))


def odd_head(rng: random.Random, path: str) -> ClientAct:
    more = rng.choice(
        [
            "X: " + "a" * 100_000, "X: y\r\n" * 5000, "Expect: 100-continue", "Upgrade: websocket\r\nConnection: Upgrade",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c", "X-Request-Id: " + "\xff" * 40, "Range: bytes=0-1,-1,5-",
            "If-None-Match: " + '"' * 500, "Authorization: Bearer \xe9", "X-Request-Timeout-Ms: 9e99", "X-Priority: \x00",
            "Accept-Encoding: " + "gzip, " * 2000, "Host: a\r\nHost: b", "Cookie: " + "a=b; " * 3000,
        ]
    )  # fmt: skip
    method = rng.choice(["POST", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE", "PATCH", "BREW"])
    target = rng.choice(
        [path, "*", "//", "/%00", "/%ff%fe", "/static/..%2f..%2fmain.py", "http://other/v1/models", "/" + "a" * 70_000]
    )
    text = head(target, len(BODY), method, f"{more}\r\nConnection: close\r\n")
    return ClientAct("odd head", [text + BODY], "wait")


def pipelined(rng: random.Random, path: str) -> ClientAct:
    request = head(path, len(BODY), more="") + BODY
    return ClientAct("pipelined", [request * rng.randrange(2, 20) + head(path, len(BODY)) + BODY], "wait")


def refused_body(rng: random.Random, path: str) -> ClientAct:
    """Sends all of it before it reads a byte: its refusal must reach it."""
    length = rng.choice([2_097_153, 3_000_000, 20_000_000])
    piece = b" " * 65_536
    if rng.random() < 0.3:
        more = "Transfer-Encoding: chunked\r\nConnection: close\r\n"
        text = head(path, 5, more=more).replace(b"Content-Length: 5\r\n", b"")
        pieces = [text, *[b"10000\r\n" + piece + b"\r\n"] * (length // len(piece) + 1), b"0\r\n\r\n"]
    else:
        pieces = [head(path, length), *[piece] * (length // len(piece)), piece[: length % len(piece)]]
    return ClientAct("refused with its body under way", pieces, "wait", 1)


def upgrading(rng: random.Random, path: str) -> ClientAct:
    """Asks for an upgrade, with a body that is a request: there is one answer to it."""
    protocol = rng.choice(["h2c", "websocket", "TLS/1.0, HTTP/1.1", "x"])
    more = f"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    body = rng.choice([BODY, head("/v1/models", 0, "GET"), 3 * head("/v1/models", 0, "GET", "")])
    method = rng.choice(["POST", "POST", "GET", "PUT"])
    text = head(path, len(body), method, more) + body
    cut = rng.randrange(1, len(text))
    return ClientAct("asks for an upgrade", [text[:cut], text[cut:]], "wait", 1)


def expecting(rng: random.Random, path: str) -> ClientAct:
    """Waits to be told to send a body that nobody may have: it is refused in its place."""
    more = "Expect: 100-continue\r\nConnection: close\r\n"
    return ClientAct("waits for a refusal", [head(path, rng.choice([2_097_153, 10**12]), more=more)], "wait", 1)


def broken_json(rng: random.Random, path: str) -> ClientAct:
    cut = rng.randrange(len(BODY))
    return _with_body("broken JSON", path, BODY[:cut] + rng.randbytes(rng.randrange(7)) + BODY[cut + rng.randrange(9) :])


def nested_json(rng: random.Random, path: str) -> ClientAct:
    opening = rng.choice([b"[", b'{"a":', b'[{"a":'])
    return _with_body("nested JSON", path, b'{"inputs": ' + opening * rng.choice([10, 63, 64, 65, 1000, 100_000]))


def wrong_encoding(rng: random.Random, path: str) -> ClientAct:
    """JSON as another type or in another encoding than it says, lone surrogates among them."""
    body = json.dumps({"inputs": "a\ud800"}, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    body = body.decode("utf-8", "surrogatepass").encode(rng.choice(["utf-8", "utf-16", "utf-32", "utf-8-sig"]), "surrogatepass")
    types = [
        "",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/json;" * 50,
        "\xe9",
        "application/json; charset=utf-16",
    ]
    more = f"Content-Type: {rng.choice(types)}\r\nContent-Encoding: {rng.choice(['', 'gzip', 'deflate'])}\r\n"
    return _with_body("wrong encoding", path, body, more)


def bytes_behind_json(rng: random.Random, path: str) -> ClientAct:
    """Tensors whose data follows the JSON, with lengths that lie."""
    texts = [rng.randbytes(rng.randrange(9)) for _ in range(rng.randrange(4))]
    tail = b"".join(len(text).to_bytes(4, "little") + text for text in texts) + rng.randbytes(rng.randrange(9))
    size = max(0, len(tail) + rng.randrange(-9, 10))
    tensor = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    start = json.dumps({"inputs": [tensor]}).encode()
    more = f"Inference-Header-Content-Length: {max(0, len(start) + rng.choice([-1, 0, 0, 1]))}\r\n"
    return _with_body("bytes behind JSON", "/v2/models/sentiment/infer", start + tail, more)


def _with_body(kind: str, path: str, body: bytes, more: str = "") -> ClientAct:
    return ClientAct(kind, [head(path, len(body), more=f"{more}Connection: close\r\n") + body], "wait", 1)


KINDS: Sequence[Callable[[random.Random, str], ClientAct]] = (
    whole, slow_body, slow_head, half_closed_body, reset, left, streamed, left_stream,
    lying_length, chunks, noise, odd_head, pipelined, refused_body,
    upgrading, expecting, broken_json, nested_json, wrong_encoding, bytes_behind_json,
)  # fmt: skip


def fuzz_sockets(
    address: Address, count: int, rng: random.Random, timeout_s: float, paths: Sequence[str] = PATHS
) -> SocketCounts:
    """Act so many clients, many at a time; whoever has no end after so many seconds is a failure, and so is any 5xx."""
    counts = SocketCounts()
    acts = [KINDS[number % len(KINDS)](rng, rng.choice(paths)) for number in range(count)]
    asyncio.run(_act_all(address, acts, timeout_s, counts))
    return counts


async def _act_all(address: Address, acts: Sequence[ClientAct], timeout_s: float, counts: SocketCounts) -> None:
    places = asyncio.Semaphore(MAX_CONNECTIONS)

    async def play(act: ClientAct) -> None:
        async with places:
            try:
                async with asyncio.timeout(timeout_s):
                    answers = await _play(address, act)
            except TimeoutError:
                counts.add(act, "hung", f"had not ended after {timeout_s:g} s")
            except OSError as error:  # it was cut off, which is an end
                counts.add(act, "closed", f"ended with {type(error).__name__}" if act.num_answers is not None else "")
            else:
                statuses = [int(status) for status in STATUS.findall(answers)]
                is_wrong = act.num_answers not in (None, len(statuses)) or max(statuses, default=0) >= 500
                outcome = str(max(statuses)) if statuses else "closed"
                counts.add(act, outcome, f"was answered with {statuses}" if is_wrong else "")

    await asyncio.gather(*[play(act) for act in acts])


async def _play(address: Address, act: ClientAct) -> bytes:
    """All that the service sends until it ends the connection; nothing where the client does not wait for that."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        for piece in act.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # lets the piece travel alone
        if act.end == "reset":
            _reset(writer)
        if act.end == "read some":
            await reader.read(1)
            _reset(writer)
        if act.end in ("reset", "leave", "read some"):
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
