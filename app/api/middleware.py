"""The edge: request id, body limit, content type, cancellation when the client leaves, metrics and the access log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from fastapi.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.dialects import path_of
from app.api.errors import internal_error, refusal, refusal_of
from app.core.errors import TooLarge, Unavailable
from app.observability.logging import request_id
from app.observability.metrics import Metrics

REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")
CLIENT_LEFT = 499
QUIET_PATHS = frozenset({"/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"})
TENSORS_PATH = re.compile(r"v2/models/[^/]+(/versions/[^/]+)?/infer")
TOLD = "hooper.told"
"""Key of the scope under which a route tells the task and model that it asked, for metrics and log."""

logger = logging.getLogger("hooper.access")


class ClientLeft(Exception):
    """The client closed the connection before its answer was ready."""


class Edge:
    """Outermost of our own middleware: everything it refuses never reaches a route."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int, root_path: str = "") -> None:
        self._app, self._metrics, self._max_body_bytes, self._root_path = app, metrics, max_body_bytes, root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path:  # not uvicorn's setting, which expects that every proxy cuts the prefix off
            bare = scope["path"].removeprefix(self._root_path)
            scope["root_path"], scope["path"] = self._root_path, self._root_path + bare
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        wished = headers.get(b"x-request-id", "")
        token = request_id.set(wished if REQUEST_ID.match(wished) else uuid.uuid4().hex)
        try:
            await self._answer(scope, headers, receive, send)
        finally:
            request_id.reset(token)

    async def _answer(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        told: dict[str, str] = {}
        scope[TOLD] = told
        status = CLIENT_LEFT

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.get().encode("latin-1"))]
            await send(message)

        try:
            if scope["method"] == "POST":
                await self._post(scope, headers, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except ClientLeft:
            pass  # nobody is there to be told; counted and logged below as 499
        except asyncio.CancelledError:  # the server's time to drain is over, and it would say 500
            if status != CLIENT_LEFT:
                raise
            stopped = Unavailable("the service stopped before the engine answered")
            await refusal_of(scope, stopped)(scope, receive, send_with_id)
        except Exception as error:
            if status != CLIENT_LEFT:
                raise  # the answer has begun: the server can only cut it off
            await internal_error(scope, error)(scope, receive, send_with_id)
        finally:
            self._record(scope, told, status, time.perf_counter() - began)

    async def _post(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send) -> None:
        refused = self._refuse(scope, headers)
        body = b"" if refused else await self._read(headers, receive)
        if body is None:
            detail = f"the body exceeds {self._max_body_bytes} bytes"
            refused = refusal(scope, 413, TooLarge.type, detail, {"Connection": "close"})
        if refused is not None:
            await refused(scope, receive, send)
            return
        await _unless_client_leaves(lambda: self._app(scope, _replay(body or b""), send), receive)

    def _refuse(self, scope: Scope, headers: dict[bytes, str]) -> Response | None:
        if not _has_body(headers):
            return None
        encoding = headers.get(b"content-encoding", "identity").strip().lower()
        if encoding != "identity":  # a few compressed bytes can unfold into more than the limit
            return refusal(
                scope, 415, "not_json", f"Content-Encoding is {encoding}; send the body as it is", {"Connection": "close"}
            )
        content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if content_type == "application/json" or content_type.endswith("+json") or _may_be_tensors(scope, content_type):
            return None
        shown = content_type or "missing"
        return refusal(scope, 415, "not_json", f"Content-Type is {shown}; send application/json", {"Connection": "close"})

    async def _read(self, headers: dict[bytes, str], receive: Receive) -> bytes | None:
        """The whole body, or None as soon as it exceeds the limit."""
        declared = headers.get(b"content-length", "0")
        if declared.isdecimal() and int(declared) > self._max_body_bytes:
            return None
        chunks: list[bytes] = []
        num_bytes = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            chunk = message.get("body", b"")
            num_bytes += len(chunk)
            if num_bytes > self._max_body_bytes:
                return None
            chunks.append(chunk)
            if not message.get("more_body", False):
                return b"".join(chunks)

    def _record(self, scope: Scope, told: dict[str, str], status: int, seconds: float) -> None:
        task, model = told.get("task", ""), told.get("model", "")
        path = scope["path"].removeprefix(self._root_path)
        if task or (status >= HTTPStatus.BAD_REQUEST and path not in QUIET_PATHS):
            self._metrics.requests.labels(task, model, str(status)).inc()  # refused before its task was known: no task
        if task:
            self._metrics.request_seconds.labels(task).observe(seconds)
        level = logging.DEBUG if path in QUIET_PATHS else logging.INFO
        if logger.isEnabledFor(level):
            extra = {"status": status, "ms": round(seconds * 1000, 2), **told}
            logger.log(level, "%s %s", scope["method"], path, extra=extra)


def _has_body(headers: dict[bytes, str]) -> bool:
    return headers.get(b"content-length", "") != "0" and (b"content-length" in headers or b"transfer-encoding" in headers)


def _may_be_tensors(scope: Scope, content_type: str) -> bool:
    """Whether this is an inference request of the Open Inference Protocol, whose clients name no type or that of bytes, be
    there bytes behind the JSON or not."""
    return content_type in ("", "application/octet-stream") and TENSORS_PATH.fullmatch(path_of(scope)) is not None


def _replay(body: bytes) -> Receive:
    """A receive channel that gives a body read before, then waits: disconnection is watched outside."""
    pending = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if pending:
            return pending.pop()
        return await asyncio.get_running_loop().create_future()

    return receive


async def _unless_client_leaves(call: Callable[[], Awaitable[None]], receive: Receive) -> None:
    """Await the call, but cancel it when the client closes the connection: its rows leave the queue with it.

    Raises:
        ClientLeft: it did.
    """
    answering = asyncio.ensure_future(call())
    watching = asyncio.ensure_future(receive())
    try:
        await asyncio.wait((answering, watching), return_when=asyncio.FIRST_COMPLETED)
        if not answering.done():
            answering.cancel()
            await asyncio.wait((answering,))
            raise ClientLeft
        answering.result()
    finally:
        answering.cancel()
        watching.cancel()
