"""One client's connection: bounded in time and bytes where uvicorn would wait, or store, for ever."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.dialects import PROBLEM_JSON, Problem

MAX_HEAD_BYTES = 65_536
"""Of the request line and all headers; llhttp, which reads them, has no limit of its own."""
BODY_GRACE_S = 1.0
"""The application refuses a slow body itself, in its own words; the connection ends only where that did not happen."""


logger = logging.getLogger(__name__)

Doorman = Callable[[bytes, Sequence[tuple[bytes, bytes]]], bytes | None]
"""From the target and the headers of a POST to the whole answer that turns it away, or None where somebody must read it."""


class HeadTooLarge(Exception):
    """The request line and the headers exceed the limit."""


class Connection(HttpToolsProtocol):
    """Invariant: a client who neither waits for an answer nor is between two requests has a timer running against it.

    Between two requests uvicorn's keep-alive timer runs.
    """

    receive_s = 30.0
    max_connections = 900
    doorman: Doorman | None = None

    _patience: asyncio.TimerHandle | None = None
    """Runs until a request is complete."""
    _unread: asyncio.TimerHandle | None = None
    """Runs while the client does not take what was sent."""
    _has_begun = False
    _in_head = True
    _num_head_bytes = 0
    _chunk_bytes = 0
    _follows_another = False
    _is_turned_away = False
    """Whether the request that is being received has its answer, and no cycle of uvicorn's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._patience = self.loop.call_later(self.receive_s, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._patience, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it where there was an error

    # --- what the client sends

    def data_received(self, data: bytes) -> None:
        if self._patience is None:  # from the first byte on, even of an empty line, which begins no request
            self._patience = self.loop.call_later(self.receive_s, self._lose_patience)
        self._chunk_bytes, self._follows_another = len(data), False
        super().data_received(data)
        if self._has_begun and self._in_head and not self.transport.is_closing():
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                self._refuse_head()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # of a request that was turned away in the same chunk
        if self._patience is None:
            self._patience = self.loop.call_later(self.receive_s, self._lose_patience)
        self._has_begun = True
        # where another request ended in the same chunk, this head's part of it is not known: it is measured when complete
        self._num_head_bytes = -self._chunk_bytes if self._follows_another else 0

    def on_headers_complete(self) -> None:
        num_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if num_bytes > MAX_HEAD_BYTES:
            self._num_head_bytes = num_bytes
            raise HeadTooLarge  # the parser stops at it and asks for `send_400_response`
        self._in_head = False
        self._restart_patience(self.receive_s + BODY_GRACE_S)
        self._is_turned_away = self._turn_away()
        if not self._is_turned_away:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self._is_turned_away:
            self._is_turned_away = False
            self.on_response_complete()  # what comes next is due within the keep-alive time
        else:
            super().on_message_complete()
        self._has_begun, self._in_head, self._num_head_bytes = False, True, 0
        self._follows_another = True
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP."""
        if self._num_head_bytes > MAX_HEAD_BYTES:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "not_http", "this is not a request in HTTP/1.1")

    def _turn_away(self) -> bool:
        """Answer here what the doorman turns away; only where one plain request stands alone on a connection that is kept."""
        if self.doorman is None or self._is_answering or self.pipeline or self.expect_100_continue or self.flow.write_paused:
            return False  # where nobody reads the answers, uvicorn reads no more requests
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return False
        if self.parser.should_upgrade() or not self.parser.should_keep_alive():
            return False
        try:
            answer = self.doorman(self.url, self.headers)
        except Exception as error:  # the parser would say that the request is none
            logger.error("unexpected error at the door", extra={"error": type(error).__name__})
            return False
        if answer is None:
            return False
        first, end, rest = answer.partition(b"\r\n")
        usual = b"".join(b"%b: %b\r\n" % header for header in self.server_state.default_headers)
        self.transport.write(first + end + usual + rest)
        return True

    # --- what the client takes

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_reading()

    def _expect_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.receive_s, self.transport.abort)

    # --- the end

    @property
    def _is_answering(self) -> bool:
        cycle = cast(RequestResponseCycle | None, self.cycle)  # there is none before the first request
        return cycle is not None and not cycle.response_complete

    def _restart_patience(self, seconds: float) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self._lose_patience)

    def _lose_patience(self) -> None:
        if self._is_answering and not self.cycle.more_body:  # what is late is the next request, and this one is not its fault
            self._restart_patience(self.receive_s)
        elif self._is_answering or not (self._has_begun and self._in_head):
            self.transport.abort()  # silently: nobody expects an answer on a connection that was opened in advance
        else:
            detail = f"the request's head was not complete after {self.receive_s:g} seconds"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail)

    def _refuse_head(self) -> None:
        detail = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too_large", detail)

    def _refuse(self, status: HTTPStatus, kind: str, detail: str) -> None:
        """Answer in the shape of every other error, then close."""
        if self._is_answering:
            self.transport.abort()  # an answer is on its way: a second one within it would be read as a part of it
            return
        request_id = uuid.uuid4().hex
        problem = Problem(type=kind, title=status.phrase, status=status, detail=detail, request_id=request_id)
        body = problem.model_dump_json().encode()
        head = (
            f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\n"
            "x-content-type-options: nosniff\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status] + head.encode("ascii") + body)
        self.transport.close()
        self._expect_reading()


def limited(receive_s: float, max_connections: int, doorman: Doorman | None = None) -> type[Connection]:
    """Connections with these limits, for uvicorn to make.

    Args:
        receive_s: seconds for the head of a request, for its body, and for taking an answer off the line.
        max_connections: open at once; more are closed unanswered.
        doorman: turns requests away before anything is made of them.
    """
    kept = None if doorman is None else staticmethod(doorman)
    return type(
        "LimitedConnection", (Connection,), {"receive_s": receive_s, "max_connections": max_connections, "doorman": kept}
    )
