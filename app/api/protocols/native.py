"""The native routes: read once, checked once, answered, in one place for every task.

What FastAPI does for a request of any kind (middleware, routing, dependencies, responses) takes a third of all that an
ordinary one costs the event loop. So FastAPI only documents these routes, and the endpoint answers them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.types import Scope

from app.api.auth import CALLER
from app.api.context import PredictContext, Priorities, TimeoutMs
from app.api.events import EventStream, event
from app.api.json_body import JSON_VALUE
from app.api.openapi_responses import ANSWERED, EVERY_PREDICTION, STREAMED, openapi_responses
from app.api.protocols.envelope import Envelope
from app.api.protocols.explain import explain_request, explain_result
from app.api.protocols.feedback import feedback_request
from app.api.protocols.results import FeedbackResult
from app.api.scope import HEADERS, LOG_FIELDS, TRACE, app_state_in
from app.core.errors import InvalidInput
from app.core.validation import describe_validation
from app.tasks.base import StreamedText
from app.tasks.registry import Tasks
from app.tasks.schemas import items_field_of, items_of

ITEMS_PER_TURN = 32
"""Of a long list so many items are read at a time, so that others get their turn."""
PREFIX = "v1/"
HEADER_TYPES: Mapping[str, TypeAdapter[Any]] = {
    "x-request-timeout-ms": TypeAdapter(TimeoutMs),
    "x-priority": TypeAdapter(Priorities),
}
Answer = Callable[[PredictContext, Any], Awaitable[BaseModel]]
Pieces = Callable[[PredictContext, Any], AsyncGenerator[StreamedText | BaseModel]]


class NativeEndpoint:
    """Answers POST requests to one native path."""

    def __init__(
        self, path: str, request: type[BaseModel], result: type[BaseModel], answer: Answer, stream: Pieces | None = None
    ) -> None:
        """
        Args:
            path: within the service, as `v1/classify`.
            result: what stands in `results` for one item.
            stream: answers one whose field `stream` is true, piece by piece; None: there is no such field.
        """
        self.path, self.request, self.result = path, request, result
        self._answer, self._stream = answer, stream
        self._items, self._items_field = items_of(request), items_field_of(request)

    async def __call__(self, scope: Scope) -> Response:
        """
        Args:
            scope: of the request, with its headers and what its body says.

        Raises:
            HooperError: it cannot be answered as a whole.
        """
        request, headers = await self._read(scope)
        response_headers: dict[str, str] = {}
        background_tasks = BackgroundTasks()
        context = PredictContext(
            scope[LOG_FIELDS],
            response_headers,
            app_state_in(scope),
            headers["x-request-timeout-ms"],
            headers["x-priority"],
            background_tasks,
            scope.get(TRACE),
            scope.get(CALLER),
        )
        if self._stream is not None and request.stream:
            events = _events(self._stream(context, request))
            return await EventStream.begun(events, response_headers, background_tasks)
        envelope = await self._answer(context, request)
        return Response(
            envelope.model_dump_json(),
            headers=response_headers,
            media_type=JSONResponse.media_type,
            background=background_tasks if background_tasks.tasks else None,
        )

    async def _read(self, scope: Scope) -> tuple[Any, dict[str, Any]]:
        """The request and its headers.

        Raises:
            InvalidInput: one of them is wrong; the message names the field.
        """
        headers, errors = _read_headers(scope[HEADERS])
        request: Any = None
        if JSON_VALUE not in scope:
            errors.append({"type": "missing", "loc": ("body",), "msg": "Field required"})
        else:
            value = scope[JSON_VALUE]
            await self._read_items(value)
            try:
                request = self.request.model_validate(value)
            except ValidationError as error:
                errors += _located(error, "body")
        if errors:
            raise InvalidInput(describe_validation(errors))
        return request, headers

    async def _read_items(self, value: Any) -> None:
        """Read the items of a long list a few at a time; what was read stands in their place."""
        sent = value.get(self._items_field) if isinstance(value, dict) else None
        if not isinstance(sent, list) or len(sent) <= ITEMS_PER_TURN:
            return
        items: list[Any] = []
        for start in range(0, len(sent), ITEMS_PER_TURN):
            items += self._items.validate_python(sent[start : start + ITEMS_PER_TURN])
            await asyncio.sleep(0)
        value[self._items_field] = items


async def _events(pieces: AsyncGenerator[StreamedText | BaseModel]) -> AsyncGenerator[bytes]:
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, StreamedText):
                yield event(TokenEvent(text=piece.text, num_new_tokens=piece.num_new_tokens).model_dump_json(), "token")
            else:
                yield event(piece.model_dump_json(), "done")


class TokenEvent(BaseModel):
    """A piece of a text that is being written."""

    text: str
    num_new_tokens: int


def _read_headers(headers: Mapping[bytes, str]) -> tuple[dict[str, Any], list[Any]]:
    """The headers that a native request may have, and what is wrong with them."""
    values: dict[str, Any] = dict.fromkeys(HEADER_TYPES)
    errors: list[Any] = []
    for name, kind in HEADER_TYPES.items():
        text = headers.get(name.encode())
        if text is None:
            continue
        try:
            values[name] = kind.validate_python(text)
        except ValidationError as error:
            errors += _located(error, "header", name)
    return values, errors


def _located(error: ValidationError, *place: str) -> list[dict[str, Any]]:
    """What is wrong, with the place of the value before the place in it."""
    errors = error.errors(include_url=False, include_input=False)
    return [{**error, "loc": (*place, *error["loc"])} for error in errors]


class _DocumentedRoute(APIRoute):
    """A route that FastAPI documents by its signature; its endpoint answers, on whichever way a request comes to it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: NativeEndpoint = self.endpoint.answers  # type: ignore[attr-defined]

        async def handle(request: Request) -> Response:
            return await endpoint(request.scope)

        return handle


@dataclass(frozen=True, slots=True)
class Operation:
    """A native path: what answers there, and what the OpenAPI file says of it."""

    endpoint: NativeEndpoint
    summary: str
    description: str
    responses: dict[int | str, dict[str, Any]]


def operations(tasks: Tasks) -> Mapping[str, Operation]:
    """By path: one for each route of the tasks, then those that serve every task."""
    errors = openapi_responses(*EVERY_PREDICTION)
    predicting = [
        Operation(
            NativeEndpoint(route.path, route.request, route.result, *_predict(tasks, route.path)),
            route.summary,
            route.description,
            (STREAMED if any(tasks[name].is_generative for name in tasks.serving(route.path)) else ANSWERED) | errors,
        )
        for route in tasks.routes
    ]
    explain = NativeEndpoint(f"{PREFIX}explain", explain_request(tasks), explain_result(tasks), PredictContext.explain)
    correct = NativeEndpoint(f"{PREFIX}feedback", feedback_request(tasks), FeedbackResult, PredictContext.correct)
    endpoints = [
        *predicting,
        Operation(explain, "Explain an answer", EXPLAIN, errors),
        Operation(correct, "Correct a model", FEEDBACK, ANSWERED | errors),
    ]
    return {operation.endpoint.path: operation for operation in endpoints}


def _predict(tasks: Tasks, path: str) -> tuple[Answer, Pieces | None]:
    names = tasks.serving(path)
    served = {name: tasks[name].served(path) for name in names}

    async def predict(context: PredictContext, request: Any) -> BaseModel:
        return await context.answer(names, request, served)

    def stream(context: PredictContext, request: Any) -> AsyncGenerator[StreamedText | BaseModel]:
        return context.stream(names, request, served)

    return predict, stream if any(tasks[name].is_generative for name in names) else None


def router(operations: Mapping[str, Operation]) -> APIRouter:
    """The routes for FastAPI, which documents them."""
    routes = APIRouter(route_class=_DocumentedRoute)
    for path, operation in operations.items():
        result: Any = operation.endpoint.result
        routes.add_api_route(
            "/" + path,
            _signature(operation.endpoint),
            methods=["POST"],
            name=path.removeprefix(PREFIX).replace("-", "_").replace("/", "_"),
            response_model=Envelope[result],
            summary=operation.summary,
            description=operation.description,
            responses=operation.responses,
        )
    return routes


def _signature(endpoint: NativeEndpoint) -> Callable[..., Any]:
    """A function with the parameters that FastAPI is to document."""

    async def operation(*_: Any, **__: Any) -> Response:  # `_DocumentedRoute` asks the endpoint in its place
        raise TypeError("a documented route is answered by its endpoint")

    parameter = inspect.Parameter
    operation.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            parameter("request", parameter.KEYWORD_ONLY, annotation=endpoint.request),
            parameter("x_request_timeout_ms", parameter.KEYWORD_ONLY, annotation=TimeoutMs, default=None),
            parameter("x_priority", parameter.KEYWORD_ONLY, annotation=Priorities, default=None),
        ]
    )
    operation.answers = endpoint  # type: ignore[attr-defined]
    return operation


EXPLAIN = """Which words made the model decide: for a label, an answer, or a sentence of a summary.

The model reads the item again and again with some of its words hidden, while it has nothing more urgent to do; the words
are the caller's own, with their places. In a list, an item that cannot be explained gets an `error` in its place."""
FEEDBACK = """Keep what the right answer would have been, beside the model's own, for `hooper train --from-feedback`.

Off unless the service was started with `HOOPER_FEEDBACK`, the file in which texts and corrections are kept: then 404. An
answer of 200 says that they are on the disk. In a list, a correction that cannot be kept gets an `error` in its place, and
the others are kept."""
