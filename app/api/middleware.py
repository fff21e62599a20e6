"""The edge: request id, the body within its limits, cancellation when the client leaves, metrics and the access log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi.responses import RedirectResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.access import NO_SNIFFING, record, request_id_of
from app.api.auth import KEY_IN_BODY, check_key, key_in, may_bring_key
from app.api.body import (
    HELD,
    TENSORS_PATH,
    BodyBudget,
    BodyLimits,
    ClientDisconnected,
    HeldBody,
    ends_connection,
    is_form,
    read_body,
)
from app.api.errors import error_response, internal_error
from app.api.json_body import JSON_VALUE, read_form, read_json
from app.api.origins import Doors
from app.api.rates import Refusals, is_enough
from app.api.scope import ENDED_AS, ENDS_CONNECTION, HEADERS, LOG_FIELDS, TEMPLATE, TRACE, Headers, app_state_in, path_of
from app.api.shedding import shed_if_overloaded
from app.core.errors import HooperError, Unauthorized, Unavailable
from app.observability.logging import request_id
from app.observability.metrics import Metrics
from app.observability.tracing import Trace, Traces

CLIENT_DISCONNECTED = 499
CLOSE = (b"connection", b"close")
JSON_TYPE = (b"content-type", b"application/json")
"""Of what was read from a form, for the framework."""
PAGES_WITH_SLASH = ("docs/",)
PARENT_HEADERS = (b"traceparent", b"tracestate")

Endpoint = Callable[[Scope], Awaitable[Response]]
"""Answers a POST whose body was read; raises what it is refused with."""


class RequestContextMiddleware:
    """Outermost of our own middleware: everything it refuses never reaches a route."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        limits: BodyLimits,
        budget: BodyBudget,
        root_path: str = "",
        traces: Traces | None = None,
        endpoints: Mapping[str, Endpoint] | None = None,
        doors: Doors | None = None,
        num_processes: int = 1,
    ) -> None:
        self._app, self._metrics, self._limits, self._root_path, self._traces = app, metrics, limits, root_path, traces
        self._budget, self._endpoints, self._doors = budget, endpoints or {}, doors or Doors(("*",), ())
        self._refusals = Refusals(num_processes)
        self._admitted = self._doors.around(self._respond)

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
        token = request_id.set(request_id_of(headers))
        try:
            await self._answer(scope, headers, receive, send)
        finally:
            request_id.reset(token)

    async def _answer(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        log_fields: dict[str, str] = {}
        scope[LOG_FIELDS] = log_fields
        status = CLIENT_DISCONNECTED
        trace = self._begun_trace(scope, headers)
        # a server that is not ours does not count
        account: HeldBody = scope.get(HELD) or self._budget.account()
        scope[HELD] = account

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = (b"x-request-id", request_id.get().encode("latin-1")), NO_SNIFFING
                message["headers"] = [*message["headers"], *own]
                must_end = scope.get(ENDS_CONNECTION) or (not account.is_whole and ends_connection(headers))
                if must_end and CLOSE not in message["headers"]:
                    message["headers"].append(CLOSE)
            await send(message)

        try:
            self._doors.check(scope["method"], path_of(scope), headers)
            await self._admitted(scope, receive, send_with_id)
        except ClientDisconnected:
            status = CLIENT_DISCONNECTED  # nobody is there to be answered, or to go on answering
        except (Exception, asyncio.CancelledError) as error:
            if status != CLIENT_DISCONNECTED:
                raise  # the answer has begun: the server can only cut it off
            await _response_to(scope, error)(scope, receive, send_with_id)
        finally:
            account.release()
            path = scope["path"].removeprefix(self._root_path)
            status = scope.get(ENDED_AS, status) if status != CLIENT_DISCONNECTED else status
            record(self._metrics, scope["method"], path, log_fields, status, time.perf_counter() - began)
            if self._traces is not None and trace is not None:
                trace.attributes |= {"hooper.request_id": request_id.get()} | {
                    f"hooper.{key}": log_fields[key] for key in ("task", "model") if key in log_fields
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

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Within what answers pages of other origins, which may read refusals as well."""
        try:
            await self._dispatch(scope, receive, send)
        except HooperError as error:
            await error_response(scope, error)(scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = scope[HEADERS]
        redirect = _elsewhere(scope)
        if redirect is not None:
            await redirect(scope, receive, send)
            return
        scope[KEY_IN_BODY] = may_bring_key(scope, headers)
        if not scope[KEY_IN_BODY]:
            self._check_key(scope, headers)
        if scope["method"] == "POST":
            await self._post(scope, headers, receive, send, scope[HELD])
        elif scope["method"] == "HEAD":  # a copy: the server must go on to know that there is no body
            await self._app({**scope, "method": "GET"}, receive, _without_body(send))
        else:
            await self._app(scope, receive, send)

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        """Nothing of a body is read before, unless it may bring the key.

        Raises:
            Unauthorized, RateLimited: the caller knows no key, or too many do not; the connection ends where it often did not.
        """
        try:
            check_key(app_state_in(scope), scope, headers)
        except Unauthorized:
            scope[ENDS_CONNECTION] = is_enough(scope.get("state", {}))
            self._refusals.count()
            raise

    async def _post(self, scope: Scope, headers: dict[bytes, str], receive: Receive, send: Send, account: HeldBody) -> None:
        if ends_connection(headers) and not _is_routed(scope):  # 404 or 405: nobody wants the body
            await self._app(scope, _replay(b""), send)
            return
        shed_if_overloaded(scope, headers, scope[LOG_FIELDS])
        body = await read_body(scope, headers, receive, self._limits, account)
        await _unless_client_leaves(lambda: self._reply(scope, body, receive, send), receive)

    async def _reply(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        if body and TENSORS_PATH.fullmatch(path) is None:  # tensors may follow the JSON: the protocol parts them
            max_items = app_state_in(scope).settings.max_items
            try:
                if is_form(scope, scope[HEADERS]):
                    scope[JSON_VALUE] = read_form(body, max_items)
                    scope["headers"] = [*(pair for pair in scope["headers"] if pair[0] != JSON_TYPE[0]), JSON_TYPE]
                else:
                    scope[JSON_VALUE] = await read_json(body, max_items)
            except HooperError:
                if _is_routed(scope):
                    raise
                body = b""  # 404 or 405: nobody wants the body
        if scope.get(KEY_IN_BODY):
            self._check_key(scope, {**scope[HEADERS], b"x-api-key": key_in(scope.get(JSON_VALUE))})
        endpoint = self._endpoints.get(path)
        if endpoint is None or scope["path"] != f"{scope.get('root_path', '')}/{path}":
            await self._app(scope, _replay(body), send)
            return
        scope[TEMPLATE] = "/" + path
        answer = await endpoint(scope)
        await answer(scope, receive, send)


def _response_to(scope: Scope, error: BaseException) -> Response:
    if isinstance(error, asyncio.CancelledError):  # the server's time to drain is over, and it would say 500
        error = Unavailable("the service stopped before the engine answered")
    return error_response(scope, error) if isinstance(error, HooperError) else internal_error(scope, error)


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
        ClientDisconnected: it did.
    """
    answering = asyncio.current_task()
    has_left = is_over = False

    def leave(_: asyncio.Future[Any]) -> None:
        nonlocal has_left
        if not is_over and answering is not None:
            has_left = True
            answering.cancel()

    watching = asyncio.ensure_future(receive())
    watching.add_done_callback(leave)
    try:
        await call()  # here, and not in a task of its own, which costs as much as reading a short body
    except BaseException:
        if not has_left:
            raise
    finally:
        is_over = True  # whoever leaves now has the answer, and cancels nothing that comes after it
        watching.cancel()
    if has_left and answering is not None:
        answering.uncancel()
        raise ClientDisconnected
