"""LibreTranslate's API: texts in another language, and the languages that there are, over all models that translate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.api.context import AppState, ContextDep, StateDep
from app.api.error_formats import LIBRE_TRANSLATE
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.serving.deployment import Deployment
from app.tasks.registry import Tasks
from app.tasks.spec import LibreTranslateCodec

STATUSES = (400, 401, 403, 404, 408, 413, 415, 421, 429, 503, 504)


class Language(BaseModel):
    """A language that texts may be in."""

    code: str = Field(description="Its code.", examples=["en"])
    name: str = Field(description="What it is called in English.", examples=["English"])
    targets: list[str] = Field(description="Codes of the languages that they are translated into.", examples=[["de"]])


def router(tasks: Tasks) -> APIRouter:
    """The routes, for all tasks that speak this protocol."""
    routes = APIRouter(route_class=JsonRoute)
    codecs = {spec.name: spec.libre_translate for spec in tasks.values() if spec.libre_translate is not None}
    for codec in list(codecs.values())[:1]:
        _add(routes, list(codecs), codec)
    return routes


def _add(routes: APIRouter, tasks: Sequence[str], codec: LibreTranslateCodec) -> None:
    async def translate(request: Any, context: ContextDep, state: StateDep) -> Any:
        able = (each for each in _models(state, tasks) if codec.serves(each.task, request.source, request.target))
        first = next(able, None)
        with context.lease(tasks, None if first is None else first.manifest.name) as deployment:
            results = await context.results(deployment, request.items(), request.options(), request.place, codec.advice)
            return request.shaped(results, deployment.manifest.name)

    translate.__annotations__["request"] = codec.request
    routes.post(
        "/translate",
        name="libretranslate_translate",
        summary="Translate texts",
        description="As LibreTranslate does, also of forms: by the default model, or else the first that knows the languages.",
        responses=openapi_responses(*STATUSES, error_format=LIBRE_TRANSLATE),
        response_model=codec.answer,
        response_model_exclude_none=True,
    )(translate)

    @routes.get(
        "/languages",
        name="libretranslate_languages",
        summary="List the languages",
        responses=openapi_responses(403, 421, error_format=LIBRE_TRANSLATE),
    )
    async def languages(state: StateDep) -> list[Language]:
        """The languages that texts may be in, and for each those that it is translated into, by any of the models."""
        targets: dict[str, dict[str, None]] = {}
        for deployment in _models(state, tasks):
            for source, own in codec.languages(deployment.task).items():
                targets.setdefault(source, {}).update(dict.fromkeys(own))
        return [Language(code=code, name=codec.names(code), targets=list(own)) for code, own in targets.items()]


def _models(state: AppState, tasks: Sequence[str]) -> Iterator[Deployment]:
    """The models of these tasks, their defaults first."""
    defaults = {state.registry.default_of(task) for task in tasks}
    own = [deployment for deployment in state.registry.deployments if deployment.manifest.task in tasks]
    yield from sorted(own, key=lambda deployment: deployment.manifest.name not in defaults)
