"""An HTTP connection without a socket: the client sends bytes, reads what was written, and moves the clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from app.api.body import HELD, BodyBudget
from app.api.connection import Connection, LoadShedder, limited

RECEIVE_S = 5.0
HEAD = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
REFUSAL = [(b"content-length", b"2"), (b"connection", b"close")]


async def whole_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


@dataclass
class Timer:
    due_s: float
    call: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Loop:
    """A clock that the test moves, and real tasks."""

    now_s: float = 0.0
    timers: list[Timer] = field(default_factory=list)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def create_task(self, work: Any) -> Any:
        return asyncio.get_running_loop().create_task(work)

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        for timer in [timer for timer in self.timers if timer.due_s <= self.now_s]:
            self.timers.remove(timer)
            if not timer.is_cancelled:
                timer.call()

    @property
    def waiting(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.is_cancelled]


class Wire(asyncio.Transport):
    """What the service wrote, and how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.ended = b"", ""
        self.is_half_closed = self.is_reading_paused = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return bool(self.ended)

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True


@dataclass
class Client:
    """The other end of a connection."""

    answering: asyncio.Event = field(default_factory=asyncio.Event)
    loop: Loop = field(default_factory=Loop)
    wire: Wire = field(default_factory=Wire)

    load_shedder: LoadShedder | None = None
    budget: BodyBudget | None = None

    def __post_init__(self) -> None:
        self.state = ServerState()
        self.connection = self.connect(self.wire)

    def connect(self, wire: Wire, max_connections: int = 2) -> Connection:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                await answer(scope, receive, send)
            finally:
                if HELD in scope:  # as the middleware does
                    scope[HELD].release()

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await self.answering.wait()
            if scope["path"] == "/echo":
                echoed = await whole_body(receive)
                length = str(len(echoed)).encode()
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
                await send({"type": "http.response.body", "body": echoed})
                return
            if scope["path"] == "/refused":
                await send({"type": "http.response.start", "status": 413, "headers": REFUSAL})
                await send({"type": "http.response.body", "body": b"no"})
                return
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"ok"})

        config = uvicorn.Config(
            app,
            http=limited(RECEIVE_S, max_connections, self.load_shedder, self.budget),
            ws="none",
            log_config=None,
            lifespan="off",
        )
        config.load()
        made = config.http_protocol_class(config=config, server_state=self.state, app_state={}, _loop=self.loop)
        assert isinstance(made, Connection)
        made.connection_made(wire)
        return made

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    async def is_answered(self) -> None:
        self.answering.set()
        await asyncio.gather(*self.state.tasks)

    def problem(self, status: int) -> str:
        """The detail of the error that was answered."""
        head, _, body = self.wire.written.partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode()), head
        assert b"connection: close" in head
        problem = json.loads(body)
        assert f"x-request-id: {problem['request_id']}".encode() in head
        assert problem["status"] == status
        return str(problem["detail"])


def echo(body: bytes, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"POST /echo HTTP/%b\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (version, more, len(body), body)


def bodies(written: bytes) -> list[bytes]:
    """Of the answers, each of which tells its length."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        written = rest[length:]
    return found


def posting(length: int, body: bytes, path: bytes = b"/echo") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (path, length, body)
