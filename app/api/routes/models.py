"""`/v1/models`: what is loaded, and loading and unloading for those with an admin key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Path, Query

from app.api.auth import require_admin
from app.api.context import AppState, app_state
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.api.schemas.health import Failed
from app.api.schemas.models import LOAD_EXAMPLES, LoadRequest, ModelList, ModelState, Published
from app.core.errors import UnknownModel
from app.serving.rollout.lease import MAIN, LiveVersion

router = APIRouter(route_class=JsonRoute)
Name = Annotated[str, Path(description="A model's name, of at most 64 characters.", max_length=64, examples=["sentiment"])]
State = Annotated[AppState, Depends(app_state)]


Wish = Annotated[LoadRequest | None, Body(openapi_examples=LOAD_EXAMPLES)]
Version = Annotated[int | None, Query(ge=1, description="Which of its versions, from 1; null: the latest.")]
Candidate = Annotated[int | None, Query(ge=1, description="A version beside the main one; null: the model, with all of them.")]


@router.get("/models", summary="List loaded models", responses=openapi_responses(401, 421, 429))
async def list_models(state: State) -> ModelList:
    """Every loaded model: what it does, what it runs on, and how good it is. And those that could not be loaded."""
    models = [_state_of(one, state) for one in state.registry.live]
    return ModelList(models=models, failed=[Failed.of(one) for one in state.registry.failed])


@router.get("/models/{name}", summary="Show a model", responses=openapi_responses(401, 404, 421, 422, 429, 503))
async def show_model(name: Name, state: State) -> ModelState:
    """One loaded model: its main version."""
    for one in state.registry.live:
        if one.deployment.manifest.name == name:
            return _state_of(one, state)
    with state.registry.lease((), name):  # says why there is none
        raise UnknownModel(f"model {name!r} is not loaded")


def _state_of(one: LiveVersion, state: AppState) -> ModelState:
    return ModelState.of(one, state.registry.default_of(one.deployment.manifest.task))


@router.post(
    "/models/{name}/load",
    summary="Load a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 408, 413, 415, 421, 422, 429, 500),
)
async def load_model(name: Name, state: State, version: Version = None, request: Wish = None) -> Published:
    """Load a version from the repository and answer with it from then on. Requests in flight finish on the old one.

    With a body, the version runs beside the one that answers: it gets a `share` of the requests that name no version, or is
    its `shadow`. A name has at most one such candidate; loading it once more gives it another role.
    """
    role = (request or LoadRequest()).role()
    deployment = await state.load(name, version, role)
    return Published.of(deployment, role, state.registry.is_persistent(deployment))


@router.post(
    "/models/{name}/promote",
    summary="Promote a candidate",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 421, 422, 429, 503),
)
async def promote_model(name: Name, state: State) -> Published:
    """Make the version that runs beside the main one the main one. Requests in flight finish on the old one."""
    deployment = await state.promote(name)
    return Published.of(deployment, MAIN, state.registry.is_persistent(deployment))


@router.post(
    "/models/{name}/unload",
    summary="Unload a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 421, 422, 429),
)
async def unload_model(name: Name, state: State, version: Candidate = None) -> Published:
    """Forget a model, or a version that runs beside the main one. Requests in flight finish."""
    await state.unload(name, version)
    return Published(name=name, version=version, state="unloaded", role=None, persistent=False)
