"""OpenAI's API: the routes of its tasks, for its own clients with `base_url` at `/v1`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from app.api.context import ContextDep
from app.api.error_formats import OPENAI
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.api.protocols.text_embeddings import serving_by_path
from app.tasks.registry import Tasks
from app.tasks.spec import DropInCodec

STATUSES = (400, 401, 403, 404, 408, 413, 415, 421, 429, 503, 504)


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that speak this protocol."""
    routes = APIRouter(route_class=JsonRoute)
    for codecs in serving_by_path([(spec, spec.openai) for spec in tasks.values()]).values():
        _add(routes, codecs)
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
