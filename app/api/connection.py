"""One client's connection: bounded in time and bytes where uvicorn would wait, or store, for ever."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.body import HELD, BodyBudget, HeldBody
from app.api.error_formats import PROBLEM_JSON, Problem
from app.api.rates import CONNECTION

MAX_HEAD_BYTES = 65_536
"""Of the request line and all headers; llhttp, which reads them, has no limit of its own."""
MAX_HEADERS = 256
"""Each takes more memory than its bytes."""
BODY_GRACE_S = 1.0
"""The application refuses a slow body itself, in its own words; the connection ends only where that did not happen."""
ARRIVED_S = 0.05
"""What has arrived when the service is told to stop is read within this time, in which the event loop looks at every socket."""
MAX_LINGERING_BYTES = 134_217_728
"""Of what a refused client goes on sending: read and forgotten, so that it can read its answer; more end the connection."""

MAX_PIPELINED = 128
"""Requests that one connection may have waiting behind the one that is being answered; more end it."""

logger = logging.getLogger(__name__)

LoadShedder = Callable[[bytes, Sequence[tuple[bytes, bytes]]], bytes | None]
"""From the target and the headers of a POST to the whole answer that turns it away, or None where somebody must read it."""


class HeadTooLarge(Exception):
    """The request line and the headers exceed the limit."""


class NoTunnel(Exception):
    """The client takes this service for a proxy."""


class SeveralHosts(Exception):
    """The request names more than one host: whoever stands in front may have taken the other (RFC 9112, 3.2)."""


class TooManyAhead(Exception):
    """The client sends more requests in advance than are kept for it."""


class Connection(HttpToolsProtocol):
    """Invariant: a client who neither waits for an answer nor is between two requests has a timer running against it.

    Between two requests uvicorn's keep-alive timer runs.
    """

    receive_s = 30.0
    max_connections = 900
    load_shedder: LoadShedder | None = None
    budget: BodyBudget | None = None

    _patience: asyncio.TimerHandle | None = None
    """Runs until a request is complete."""
    _unread: asyncio.TimerHandle | None = None
    """Runs while the client does not take what was sent."""
    _has_begun = False
    _in_head = True
    _num_head_bytes = 0
    """Since the head began, or since the last piece of the body."""
    _is_head_too_large = False
    _chunk_bytes = 0
    _follows_another = False
    _is_turned_away = False
    """Whether the request that is being received has its answer, and no cycle of uvicorn's."""
    _held: HeldBody | None = None
    """What is held of the body that is being received."""
    _num_body_bytes = 0
    """Of that body, so far."""
    _is_upgrade_ignored = False
    """Whether the head that was just read is to be read once more, without the upgrade that it asks for."""
    _is_lingering = False
    """Whether the last answer was written, and whatever still comes is forgotten."""
    _num_lingering_bytes = 0
    _is_stopping = False
    """Whether the service is about to end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._wire = transport
        self.app_state = {**self.app_state, CONNECTION: {}}
        super().connection_made(GuardedTransport(transport, self._close, lambda: self._is_lingering))
        if len(self.connections) > self.max_connections:
            transport.abort()
            return
        self._patience = self.loop.call_later(self.receive_s, self._lose_patience)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for timer in (self._patience, self._unread):
            if timer is not None:
                timer.cancel()
        self._unset_keepalive_if_required()  # uvicorn leaves it where there was an error
        for cycle, _ in self.pipeline:  # nobody will begin with these, who would release what they hold
            release_body(cycle)

    # --- what the client sends

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._num_lingering_bytes += len(data)
            if self._num_lingering_bytes > MAX_LINGERING_BYTES:
                self._wire.abort()
            return
        if self._patience is None:  # from the first byte on, even of an empty line, which begins no request
            self._patience = self.loop.call_later(self.receive_s, self._lose_patience)
        self._chunk_bytes, self._follows_another = len(data), False
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._has_begun and not self.transport.is_closing():
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES and self._in_head:
                self._refuse_head()
            elif self._num_head_bytes > MAX_HEAD_BYTES:  # trailers, or what is said of a chunk: the parser keeps it
                self.transport.abort()

    def _parse(self, data: bytes) -> None:
        """As uvicorn does, but an upgrade that is not taken, and none is, changes nothing (RFC 9110, 7.8)."""
        pending = [memoryview(data)]
        while pending:
            part = pending.pop()
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                # the parser stops behind the head and takes no body for granted: a new one reads the head once more,
                # without its `Upgrade`, and then what follows
                pending += [part[upgrade.args[0] :], memoryview(self._head_without_upgrade())]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
            except httptools.HttpParserError:
                message = "Invalid HTTP request received."
                self.logger.warning(message)
                self.send_400_response(message)
                return

    def _head_without_upgrade(self) -> bytes:
        first = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode("ascii"))
        lines = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join([first, *lines, b"", b""])

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._unset_keepalive_if_required()  # of a request that was turned away in the same chunk
        if self._patience is None:
            self._patience = self.loop.call_later(self.receive_s, self._lose_patience)
        self._has_begun = True
        # where another request ended in the same chunk, this head's part of it is not known: it is measured when complete
        self._num_head_bytes = -self._chunk_bytes if self._follows_another else 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # a trailer: it may say nothing that the head has not said, and nobody asks for it
            return
        if len(self.headers) >= MAX_HEADERS:
            self._is_head_too_large = True
            raise HeadTooLarge  # the parser stops at it, and `send_400_response` is called
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        num_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if num_bytes > MAX_HEAD_BYTES:
            self._is_head_too_large = True
            raise HeadTooLarge
        if self.parser.get_method() == b"CONNECT":
            raise NoTunnel
        if sum(name == b"host" for name, _ in self.headers) > 1:
            raise SeveralHosts
        if len(self.pipeline) >= MAX_PIPELINED:
            raise TooManyAhead
        self._is_upgrade_ignored = self.parser.should_upgrade()
        if self._is_upgrade_ignored:
            return
        self._in_head, self._num_head_bytes = False, -self._chunk_bytes
        self._restart_patience(self.receive_s + BODY_GRACE_S)
        if self.parser.get_http_version() == "1.0":  # which knows no answer before the answer (RFC 9110, 10.1.1)
            self.expect_100_continue = False
        self._is_turned_away = self._turn_away()
        if self._is_turned_away:
            return
        if self.budget is not None:
            self._held, self._num_body_bytes = self.budget.account(), 0
            cast(dict[str, object], self.scope)[HELD] = self._held
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._num_head_bytes = -self._chunk_bytes
        if self._is_turned_away or self.cycle.response_complete:
            return
        self._num_body_bytes += len(body)
        if self._held is None or self._held.hold(self._num_body_bytes):
            super().on_body(body)
        else:  # there is no room for it: whoever reads it finds that out
            self.cycle.body = bytearray()
            self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._is_upgrade_ignored:  # the parser's opinion
            return
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
        """Refuse what is no HTTP."""
        if self._is_head_too_large:
            self._refuse_head()
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, "not_http", "this is not a request in HTTP/1.1")

    def _turn_away(self) -> bool:
        """Answer here what the load shedder refuses; only where one plain request stands alone on a connection that is kept."""
        if (
            self.load_shedder is None
            or self._is_answering
            or self.pipeline
            or self.expect_100_continue
            or self.flow.write_paused
        ):
            return False  # where nobody reads the answers, uvicorn reads no more requests
        if self.parser.get_method() != b"POST" or self.parser.get_http_version() != "1.1":
            return False
        if not self.parser.should_keep_alive():
            return False
        try:
            answer = self.load_shedder(self.url, self.headers)
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
        if self._last_cycle is not None and self._last_cycle.response_complete:
            self._last_cycle.body = bytearray()  # nobody will ask for what came before the answer, and was not read
        if self._wire.is_closing():
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
        return self._last_cycle is not None and not self._last_cycle.response_complete

    @property
    def _last_cycle(self) -> RequestResponseCycle | None:
        return cast(RequestResponseCycle | None, self.cycle)  # there is none before the first request

    def _restart_patience(self, seconds: float) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self.loop.call_later(seconds, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        if self._is_lingering:
            self._wire.close()
            self._expect_reading()
        elif self._is_answering and not self.cycle.more_body:  # what is late is the next request, and this one is not its fault
            self._restart_patience(self.receive_s)
        elif self._is_answering or not (self._has_begun and self._in_head):
            self.transport.abort()  # silently: nobody expects an answer on a connection that was opened in advance
        else:
            detail = f"the request's head was not complete after {self.receive_s:g} seconds"
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "too_slow", detail)

    def shutdown(self) -> None:
        """Answer what has arrived, and close."""
        self._is_stopping = True
        # not at once: a request that has arrived may be unread still, and closing would answer it with a reset
        self.loop.call_later(ARRIVED_S, self._shut_down)

    def _shut_down(self) -> None:
        super().shutdown()
        if self._is_lingering:
            self._restart_patience(BODY_GRACE_S)

    def _close(self) -> None:
        """What `close` of uvicorn's transport does."""
        if self._has_begun:  # there is more to come, or it is here and unread
            self._linger()
        else:
            self._wire.close()
            if self._is_stopping and not self._wire.get_write_buffer_size():
                self._restart_patience(
                    BODY_GRACE_S
                )  # over TLS it stays open until the client says goodbye, which an idle one may not

    def _linger(self) -> None:
        """Say that nothing more will be written, and forget what comes until the client closes its side too.

        No time is added: it ends when the request would have had to be complete.
        """
        if self._is_lingering or self._wire.is_closing():
            return
        self._is_lingering = True
        if self._patience is None or self._is_stopping:
            self._restart_patience(BODY_GRACE_S)
        self.flow.resume_reading()
        if self._wire.can_write_eof():
            with suppress(OSError):  # the client has gone
                self._wire.write_eof()

    def _refuse_head(self) -> None:
        detail = f"the request line and the headers have more than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} lines"
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
        self._linger()


def release_body(cycle: RequestResponseCycle) -> None:
    account: object = dict(cycle.scope).get(HELD)
    if isinstance(account, HeldBody):
        account.release()


def limited(
    receive_s: float, max_connections: int, load_shedder: LoadShedder | None = None, budget: BodyBudget | None = None
) -> type[Connection]:
    """Connections with these limits, for uvicorn to make.

    Args:
        receive_s: seconds for the head of a request, for its body, and for taking an answer off the line.
        max_connections: open at once; more are closed unanswered.
        load_shedder: turns requests away before anything is made of them.
        budget: what is buffered of bodies is counted there, and left out where there is no room for it.
    """
    shedder = None if load_shedder is None else staticmethod(load_shedder)
    limits = {"receive_s": receive_s, "max_connections": max_connections, "load_shedder": shedder, "budget": budget}
    return type("LimitedConnection", (Connection,), limits)


class GuardedTransport(asyncio.Transport):
    """A transport whose `close` is decided by somebody else; everything else is the transport's own.

    uvicorn closes a connection as soon as it has written the last answer. If the client is still sending then, the kernel
    answers what it sends with a reset, and that destroys the answer before many clients have read it (RFC 9112, 9.6).
    """

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], is_ending: Callable[[], bool]) -> None:
        """
        Args:
            close: called in place of the transport's own.
            is_ending: whether nothing will be written any more, although the transport is open.
        """
        super().__init__()
        self._transport, self._close, self._is_ending = transport, close, is_ending

    def close(self) -> None:
        self._close()

    def is_closing(self) -> bool:
        return self._is_ending() or self._transport.is_closing()

    def write(self, data: Any) -> None:
        if not self._transport.is_closing():  # of one that was aborted whoever answers learns a moment later
            self._transport.write(data)

    def abort(self) -> None:
        self._transport.abort()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
