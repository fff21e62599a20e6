"""OpenAI's API: the routes of its tasks, for its own clients with `base_url` at `/v1`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from fastapi import APIRouter

from app.api.context import ContextDep, PredictContext
from app.api.error_formats import OPENAI
from app.api.errors import fields_named
from app.api.events import EVENT_STREAM, EventStream, event, merged
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.api.protocols.text_embeddings import serving_by_path
from app.core.errors import HooperError, InvalidInput
from app.core.manifest import Manifest
from app.serving.deployment import Deployment
from app.tasks.base import Result, StreamedText
from app.tasks.registry import Tasks
from app.tasks.spec import DropInCodec, WritingBody, WritingCodec

STATUSES = (400, 401, 403, 404, 408, 413, 415, 421, 429, 503, 504)


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that speak this protocol."""
    routes = APIRouter(route_class=JsonRoute)
    for codecs in serving_by_path([(spec, spec.openai) for spec in tasks.values()]).values():
        _add(routes, codecs)
    writing: dict[str, dict[str, WritingCodec]] = {}
    for name, spec in tasks.items():
        for codec in spec.openai_writing:
            writing.setdefault(codec.path, {})[name] = codec
    for by_task in writing.values():
        _add_writing(routes, list(by_task), next(iter(by_task.values())))
    return routes


def _add(routes: APIRouter, codecs: Mapping[str, DropInCodec]) -> None:
    tasks, codec = list(codecs), next(iter(codecs.values()))

    async def answer(request: Any, context: ContextDep) -> Any:
        with context.lease(tasks, request.model) as deployment:
            manifest = deployment.manifest
            own = codecs[manifest.task]
            asked = own.asked(request, manifest)
            results = await context.results(deployment, asked.items(), asked.options(), asked.place, own.advice)
            return asked.shaped(results, f"{manifest.name}/{manifest.version}")

    answer.__annotations__["request"] = codec.request
    routes.post(
        f"/{codec.path}",
        name=codec.path.removeprefix("v1/").replace("/", "_"),
        summary=codec.summary,
        description=codec.description,
        responses=openapi_responses(*STATUSES, error_format=OPENAI),
        response_model=codec.answer,
    )(answer)


def _add_writing(routes: APIRouter, tasks: Sequence[str], codec: WritingCodec) -> None:
    async def answer(request: Any, context: ContextDep) -> Any:
        if request.stream:
            events = _events(context, tasks, request)
            return await EventStream.begun(events, context.headers, render_error=lambda response: event(bytes(response.body)))
        with context.lease(tasks, request.model) as deployment, fields_named(partial(request.place, 0)):
            items, options = await _prepared(request, deployment)
            results = await context.results(deployment, items, options, request.place, "")
            return request.shaped(results, _name(deployment.manifest))

    answer.__annotations__["request"] = codec.request
    errors = openapi_responses(*STATUSES, error_format=OPENAI)
    streamed: dict[int | str, dict[str, Any]] = {200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}}}
    routes.post(
        f"/{codec.path}",
        name=codec.path.removeprefix("v1/").replace("/", "_"),
        summary=codec.summary,
        description=codec.description,
        responses={**streamed, **errors},
        response_model=codec.answer,
    )(answer)


async def _events(context: PredictContext, tasks: Sequence[str], request: WritingBody) -> AsyncGenerator[bytes]:
    """A piece of JSON in each, and a last one that says that there are no more.

    Raises:
        HooperError: there is no answer.
    """
    with context.lease(tasks, request.model) as deployment, fields_named(partial(request.place, 0)):
        items, options = await _prepared(request, deployment)
        told = request.pieces(deployment.task, _name(deployment.manifest))
        results: dict[int, Result] = {}
        async with aclosing(merged([context.pieces(deployment, item, options) for item in items])) as pieces:
            async for number, piece in pieces:
                if isinstance(piece, StreamedText):
                    parts = told.text(number, piece)
                else:
                    (result,) = piece.results
                    if isinstance(result, InvalidInput) and result.field is not None:
                        raise InvalidInput(result.reason, request.place(number, result.field))
                    if isinstance(result, HooperError):
                        raise result
                    results[number] = result
                    parts = told.end(number, result)
                for part in parts:
                    yield _event(part)
        for part in told.last([results[number] for number in sorted(results)]):
            yield _event(part)
    yield event("[DONE]")


def _event(part: Any) -> bytes:
    return event(json.dumps(part, ensure_ascii=False, separators=(",", ":")))


async def _prepared(request: WritingBody, deployment: Deployment) -> tuple[Sequence[Any], Any]:
    return await asyncio.to_thread(request.prepared, deployment.task)


def _name(manifest: Manifest) -> str:
    return f"{manifest.name}/{manifest.version}"
