"""The edge: request id, the body within its limits, cancellation when the client leaves, metrics and the access log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import NO_SNIFFING, record, wished_id
from app.api.auth import check_key
from app.api.body import TENSORS_PATH, BodyLimits, ClientLeft, Headers, ends_connection, read_body
from app.api.body_budget import HELD, BodyBudget, HeldBody
from app.api.dialects import path_of
from app.api.errors import internal_error, refusal_of
from app.api.json_body import JSON_VALUE, read_json
from app.api.origins import Doors
from app.api.refusals import Refusals, is_enough
from app.api.shedding import state_of, turned_away
from app.core.errors import HooperError, RateLimited, Unauthorized, Unavailable
from app.observability.logging import request_id
from app.observability.metrics import Metrics
from app.observability.tracing import Trace, Traces

CLIENT_LEFT = 499
TOLD = "hooper.told"
"""Key of the scope under which a route tells the task and model that it asked, for metrics and log."""

TRACE = "hooper.trace"
"""Key of the scope under which a route finds the request's trace; there is none where traces are off."""
TEMPLATE = "hooper.template"
"""Key of the scope under which stands the path of a request that no route answered, where it has no parameters."""
LAST = (b"connection", b"close")
HEADERS = "hooper.headers"
"""Key of the scope under which stand the request's headers, by their names in lower case."""
PAGES_WITH_SLASH = ("docs/",)
PARENT_HEADERS = (b"traceparent", b"tracestate")

ShortWay = Callable[[Scope, Headers], Awaitable[Response | None]]
"""Answers a POST without the application behind, or returns None where that is not for it."""


class Edge:
    """Outermost of our own middleware: everything it refuses never reaches a route."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limits: BodyLimits,
        budget: BodyBudget,
        root_path: str = "",
        traces: Traces | None = None,
        short_way: ShortWay | None = None,
        doors: Doors | None = None,
        num_processes: int = 1,
    ) -> None:
        self._app, self._metrics, self._limits, self._root_path, self._traces = app, metrics, limits, root_path, traces
        self._budget, self._short_way, self._doors = budget, short_way, doors or Doors(("*",), ())
        self._refusals = Refusals(num_processes)
        self._admitted = self._doors.around(self._dispatch)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._root_path:  # not uvicorn's setting, which expects that every proxy cuts the prefix off
            bare = scope["path"].removeprefix(self._root_path)
            scope["root_path"], scope["path"] = self._root_path, self._root_path + bare
        # of one that is there twice the first counts, as it does for the routes
        headers = {key.lower(): value.decode("latin-1") for key, value in reversed(scope["headers"])}
        if (inner := path_of(scope)).endswith("/") and inner not in PAGES_WITH_SLASH and not inner.startswith("static/"):
            scope["path"] = scope["path"][:-1]  # one at the end means nothing; a redirect would have to trust `Host`
        scope[HEADERS] = headers
        token = request_id.set(wished_id(headers))
        try:
            await self._answer(scope, headers, receive, send)
        finally:
            request_id.reset(token)

    async def _answer(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        told: dict[str, str] = {}
        scope[TOLD] = told
        status = CLIENT_LEFT
        trace = self._begun_trace(scope, headers)
        # a server that is not ours does not count
        held: HeldBody = scope.get(HELD) or self._budget.account()
        scope[HELD] = held

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id.get().encode("latin-1")), NO_SNIFFING
                message["headers"] = [*message["headers"], *own]
                if not held.is_whole and ends_connection(headers) and LAST not in message["headers"]:
                    message["headers"].append(LAST)
            await send(message)

        try:
            refused = self._refused_by_its_origin(scope, headers)
            await (refused or self._admitted)(scope, receive, send_with_id)
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
            held.release()
            path = scope["path"].removeprefix(self._root_path)
            record(self._metrics, scope["method"], path, told, status, time.perf_counter() - began)
            if self._traces is not None and trace is not None:
                trace.attributes |= {"hooper.request_id": request_id.get()} | {
                    f"hooper.{key}": told[key] for key in ("task", "model") if key in told
                }
                self._traces.ended(trace, _template(scope), status)

    def _begun_trace(self, scope: Scope, headers: dict[bytes, str]) -> Trace | None:
        """A trace of what may ask a model."""
        if self._traces is None or scope["method"] != "POST":
            return None
        parent = {name.decode(): headers[name] for name in PARENT_HEADERS if name in headers}
        trace: Trace = Trace("POST", parent)
        scope[TRACE] = trace
        return trace

    def _refused_by_its_origin(self, scope: Scope, headers: Headers) -> Response | None:
        try:
            self._doors.check(scope["method"], path_of(scope), headers)
        except HooperError as error:
            return refusal_of(scope, error)
        return None

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope[HEADERS]
        refused = _elsewhere(scope) or self._refused_by_its_key(scope, headers)
        if refused is not None:
            await refused(scope, receive, send)
        elif scope["method"] == "POST":
            await self._post(scope, headers, receive, send, scope[HELD])
        elif scope["method"] == "HEAD":  # a copy: the server must go on to know that there is no body
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)

    def _refused_by_its_key(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to whom a look at the head is enough; nothing of a body is read before."""
        try:
            check_key(state_of(scope["app"]), scope, headers)
        except Unauthorized as error:
            return self._unauthorized(scope, error)
        except HooperError as error:
            return refusal_of(scope, error)
        return None

    def _unauthorized(self, scope: Scope, error: HooperError) -> Response:
        """401, unless many are told so already; the connection ends where it was often told."""
        try:
            self._refusals.count()
        except RateLimited as limited:
            error = limited
        response = refusal_of(scope, error)
        if is_enough(scope.get("state", {})):
            response.raw_headers.append(LAST)
        return response

    async def _post(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send, held: HeldBody) -> None:
        if ends_connection(headers) and not _is_routed(scope):  # 404 or 405: nobody wants the body
            await self._app(scope, _replay(b""), send)
            return
        body = turned_away(scope, headers, scope[TOLD]) or await read_body(scope, headers, receive, self._limits, held)
        if isinstance(body, Response):
            await body(scope, receive, send)
            return
        await _unless_client_leaves(lambda: self._reply(scope, headers, body, receive, send), receive)

    async def _reply(self, scope: Scope, headers: Headers, body: bytes, receive: Receive, send: Send) -> None:
        if body and TENSORS_PATH.fullmatch(path_of(scope)) is None:  # tensors may follow the JSON: `app.api.tensors` parts them
            try:
                scope[JSON_VALUE] = await read_json(body, state_of(scope["app"]).settings.max_items)
            except HooperError as error:
                if _is_routed(scope):
                    await refusal_of(scope, error)(scope, receive, send)
                else:  # 404 or 405: nobody wants the body
                    await self._app(scope, _replay(b""), send)
                return
        answer = await self._short_way(scope, headers) if self._short_way else None
        if answer is None:
            await self._app(scope, _replay(body), send)
        else:
            scope[TEMPLATE] = "/" + path_of(scope)
            await answer(scope, receive, send)


def _elsewhere(scope: Scope) -> Response | None:
    """The way to a page whose own addresses are relative, so that it must be asked for without a slash at the end, or with."""
    inner, root = path_of(scope), scope.get("root_path", "")
    if scope["method"] in ("GET", "HEAD") and inner in PAGES_WITH_SLASH:
        return RedirectResponse(f"../{inner[:-1]}")
    if root and scope["path"] == root:
        return RedirectResponse(f"./{root.rpartition('/')[2]}/")
    return None


def _without_body(send: Send) -> Send:
    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


def _is_routed(scope: Scope) -> bool:
    return any(route.matches(scope)[0] is Match.FULL for route in scope["app"].router.routes)


def _template(scope: Scope) -> str:
    """The path with its parameters' names in place of what the caller wrote; empty where no route was found."""
    route = scope.get("route")
    if route is None:
        return str(scope.get(TEMPLATE, ""))
    return str(scope["app"].url_path_for(route.name, **{name: f"{{{name}}}" for name in scope.get("path_params", {})}))


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
