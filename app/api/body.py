"""The body of a request: refused unread where that can be, and read within bounds of bytes and time."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from starlette.types import Receive, Scope

from app.api.scope import Headers, path_of
from app.core.errors import CallerError, Overloaded, TooLarge

TENSORS_PATH = re.compile(r"v2/models/[^/]+(/versions/[^/]+)?/infer")
FORM = "application/x-www-form-urlencoded"
FORM_PATHS = frozenset({"translate"})
"""Where clients of LibreTranslate send their fields so, and their key among them."""
MAX_DIGITS = 18
"""Of a Content-Length; Python would not read a number of thousands of them."""
MAX_DRAINED_BYTES = 65_536
"""Of a body that the server reads and forgets, so that the connection can be kept; a longer one ends it."""
TRITON_CLIENT = "python/gevent-http-client"
"""What `tritonclient.http` calls itself."""
RETRY_AFTER_S = 1.0


class NotJson(CallerError):
    """The body is of another type, or compressed."""

    type = "not_json"


class TooSlow(CallerError):
    """The body did not come in time."""

    type = "too_slow"


class ClientDisconnected(Exception):
    """The client closed the connection before its answer was ready."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What a body may cost."""

    max_bytes: int
    receive_s: float


async def read_body(scope: Scope, headers: Headers, receive: Receive, limits: BodyLimits, account: HeldBody) -> bytes:
    """The whole body; it is refused as soon as that is known.

    Args:
        account: what it holds of the budget of all bodies; the caller releases it.

    Raises:
        ClientDisconnected: the client did not send all of it.
        NotJson, TooSlow, TooLarge, Overloaded: it is refused.
    """
    _check_type(scope, headers)
    try:
        async with asyncio.timeout(limits.receive_s):
            body = await _read(headers, receive, limits.max_bytes, account)
    except TimeoutError:
        raise TooSlow(f"the body was not complete after {limits.receive_s:g} seconds") from None
    if body is None:
        raise TooLarge(f"the body exceeds {limits.max_bytes} bytes")
    account.is_whole = True
    return body


def is_short(headers: Headers) -> bool:
    """Whether a body is so small that it may as well be read and forgotten."""
    length = headers.get(b"content-length", "")
    return length.isdecimal() and int(length[:MAX_DIGITS]) <= MAX_DRAINED_BYTES


def ends_connection(headers: Headers) -> bool:
    """Whether the connection must end with an answer that comes before the body: much of it would have to be read and
    forgotten, or a client that waits to be told to send it might send its next request in its place."""
    return _has_body(headers) and (not is_short(headers) or b"expect" in headers)


def _check_type(scope: Scope, headers: Headers) -> None:
    if not _has_body(headers):
        return
    encoding = headers.get(b"content-encoding", "identity").strip().lower()
    if encoding != "identity":  # a few compressed bytes can unfold into more than the limit
        raise NotJson(f"Content-Encoding is {encoding}; send the body as it is")
    content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    is_json = content_type == "application/json" or content_type.endswith("+json")
    if not is_json and not is_form(scope, headers) and not _may_be_tensors(scope, headers, content_type):
        raise NotJson(f"Content-Type is {content_type or 'missing'}; send application/json")


def is_form(scope: Scope, headers: Headers) -> bool:
    """Whether the body is a form, on a path that takes them."""
    content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
    return content_type == FORM and path_of(scope) in FORM_PATHS


def _has_body(headers: Headers) -> bool:
    return headers.get(b"content-length", "") != "0" and (b"content-length" in headers or b"transfer-encoding" in headers)


def _may_be_tensors(scope: Scope, headers: Headers, content_type: str) -> bool:
    """Whether this is an inference request of the Open Inference Protocol with the type of bytes, be there bytes behind the
    JSON or not, or of `tritonclient.http`, which names no type."""
    if TENSORS_PATH.fullmatch(path_of(scope)) is None:
        return False
    if content_type:
        return content_type == "application/octet-stream"
    # a page could have its browser send a body without a type, but not with these
    return b"inference-header-content-length" in headers or headers.get(b"user-agent", "").startswith(TRITON_CLIENT)


async def _read(headers: Headers, receive: Receive, max_bytes: int, account: HeldBody) -> bytes | None:
    """The whole body, or None as soon as it exceeds the limit.

    Raises:
        ClientDisconnected: the client did not send all of it.
        Overloaded: there is no room for it beside the bodies of others.
    """
    declared = headers.get(b"content-length", "0")
    num_declared = int(declared[:MAX_DIGITS]) if declared.isdecimal() else 0
    if num_declared > max_bytes:
        return None
    _hold(account, num_declared)
    body = bytearray()  # not the pieces: a client who sends one byte at a time would make thousands of objects
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        body += message.get("body", b"")
        if len(body) > max_bytes:
            return None
        _hold(account, len(body))
        if not message.get("more_body", False):
            return bytes(body)


def _hold(account: HeldBody, num_bytes: int) -> None:
    if not account.hold(num_bytes):
        raise Overloaded("the bodies of other requests take all the memory there is for them; ask again", RETRY_AFTER_S)


HELD = "hooper.held_body"
"""Key of the scope under which a connection notes what it holds of a request's body, for the middleware to go on counting."""


class HeldBody:
    """What one request holds of the budget. Invariant: `release` gives back all of it, once, and nothing is held afterwards."""

    __slots__ = ("_budget", "_is_over", "_num_bytes", "is_refused", "is_whole")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget, self._num_bytes, self._is_over = budget, 0, False
        self.is_refused = False
        """Whether there was no room: a part of the body may be lost, and the request must be refused."""
        self.is_whole = False
        """Whether the whole body was read."""

    def hold(self, num_bytes: int) -> bool:
        """Hold so many bytes in all, if there is room for them; what is held already never shrinks.

        Returns:
            Whether they are held.
        """
        more = num_bytes - self._num_bytes
        if self._is_over or more <= 0:
            return not self._is_over
        if self._budget.held_bytes + more > self._budget.max_bytes:
            self.is_refused = True
            self.release()
            return False
        self._num_bytes = num_bytes
        self._budget.held_bytes += more
        return True

    def release(self) -> None:
        self._budget.held_bytes -= self._num_bytes
        self._num_bytes, self._is_over = 0, True


class BodyBudget:
    """The bytes that all requests of a process may hold together.

    A body that tells its length is counted with all of it before the first byte is read, so that whoever has begun can go on;
    one that does not is counted as it comes. What the server has buffered counts before anybody has looked at the request.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.held_bytes = max_bytes, 0

    def account(self) -> HeldBody:
        return HeldBody(self)
