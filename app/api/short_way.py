"""The short way: ordinary requests to the native routes, past what the framework does for a request of any kind.

FastAPI's middleware, routing, dependencies and responses take a third of all that such a request costs the event loop. What
comes here is answered as the route would answer it. Whatever is not quite ordinary, above all a body that the route's schema
refuses, goes the long way, where it meets the same schema and is told what is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import BackgroundTasks
from fastapi.responses import JSONResponse, Response
from pydantic import TypeAdapter, ValidationError
from starlette.types import Scope

from app.api.body import Headers
from app.api.dependencies import MAX_TIMEOUT_MS, Call, Live, NativeRequest
from app.api.dialects import path_of
from app.api.errors import refusal_of
from app.api.json_body import JSON_VALUE
from app.api.middleware import TOLD, TRACE
from app.api.schemas.answer import AnswerRequest, AnswerResult
from app.api.schemas.classify import ClassifyRequest, ClassifyResult
from app.api.schemas.common import items_of
from app.api.schemas.explain import ExplainRequest
from app.api.schemas.feedback import FeedbackRequest
from app.api.schemas.summarize import SummarizeRequest, SummarizeResult
from app.api.shedding import TASKS, state_of
from app.core.errors import HooperError
from app.core.types import Priority
from app.tasks.base import Result


@dataclass(frozen=True, slots=True)
class NativeRoute:
    """What a route is asked with, and what it makes of a result."""

    read: Callable[[Any], NativeRequest]
    wrap: Callable[[Result], Any]


ROUTES: Mapping[str, NativeRoute] = {
    "v1/classify": NativeRoute(ClassifyRequest.model_validate, ClassifyResult.of),
    "v1/answer": NativeRoute(AnswerRequest.model_validate, AnswerResult.of),
    "v1/summarize": NativeRoute(SummarizeRequest.model_validate, SummarizeResult.of),
}
ITEMS_A_TURN = 32
_ITEMS: Mapping[str, TypeAdapter[list[Any]]] = {
    "v1/classify": items_of(ClassifyRequest),
    "v1/answer": items_of(AnswerRequest),
    "v1/summarize": items_of(SummarizeRequest),
    "v1/explain": items_of(ExplainRequest),
    "v1/feedback": items_of(FeedbackRequest),
}
PRIORITIES: Mapping[str | None, Priority | None] = {None: None, "interactive": "interactive", "bulk": "bulk"}


async def short_way(scope: Scope, headers: Headers) -> Response | None:
    """The answer to an ordinary request; None where the framework must see it.

    Args:
        scope: of a POST, with what its body says.
        headers: by their names in lower case.
    """
    path = path_of(scope)
    await _read_items(path, scope.get(JSON_VALUE))
    route = ROUTES.get(path)
    state: Live | None = state_of(scope["app"])
    if route is None or state is None or JSON_VALUE not in scope or not _is_ordinary(headers):
        return None
    if scope["path"] != f"{scope.get('root_path', '')}/{path}":
        return None
    try:
        request = route.read(scope[JSON_VALUE])
    except ValidationError:
        return None
    timeout_ms = headers.get(b"x-request-timeout-ms")
    told: dict[str, str] = {}
    afterwards = BackgroundTasks()
    call = Call(
        scope[TOLD],
        told,
        state,
        None if timeout_ms is None else int(timeout_ms),
        PRIORITIES[headers.get(b"x-priority")],
        afterwards,
        scope.get(TRACE),
    )
    try:
        envelope = await call.answer(TASKS[path], request, route.wrap)
    except HooperError as error:
        return refusal_of(scope, error)
    content = envelope.model_dump_json()
    return Response(
        content, headers=told, media_type=JSONResponse.media_type, background=afterwards if afterwards.tasks else None
    )


async def _read_items(path: str, value: Any) -> None:
    """Read the items of a long list a few at a time, so that others get their turn; what was read stands in their place."""
    inputs = value.get("inputs") if isinstance(value, dict) else None
    if path not in _ITEMS or not isinstance(inputs, list) or len(inputs) <= ITEMS_A_TURN:
        return
    done: list[Any] = []
    for start in range(0, len(inputs), ITEMS_A_TURN):
        done += _ITEMS[path].validate_python(inputs[start : start + ITEMS_A_TURN])
        await asyncio.sleep(0)
    value["inputs"] = done


def _is_ordinary(headers: Headers) -> bool:
    """Whether the headers that a route reads are there in their usual form, or not at all."""
    if not headers.get(b"content-type", "").lower().startswith("application/"):
        return False
    timeout_ms = headers.get(b"x-request-timeout-ms", "1")
    is_number = timeout_ms.isdecimal() and timeout_ms.isascii() and len(timeout_ms) <= len(str(MAX_TIMEOUT_MS))
    return is_number and 1 <= int(timeout_ms) <= MAX_TIMEOUT_MS and headers.get(b"x-priority") in PRIORITIES
