"""`/v1/models`: what is loaded, and loading and unloading for those with an admin key."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.api.auth import require_admin
from app.api.context import AppState, StateDep
from app.api.json_body import JsonRoute
from app.api.openapi_responses import openapi_responses
from app.api.protocols.state import Failed, ModelList, ModelState, Published, ShownModel, SizeLimits, listed
from app.core.errors import UnknownModel
from app.serving.rollout.lease import MAIN, SHADOW, LiveVersion, Role, canary_role

LOAD_EXAMPLES: dict[str, Any] = {
    "share": {"summary": "Answer a tenth of the requests", "value": {"share": 0.1}},
    "shadow": {"summary": "Be asked the same, answer nobody", "value": {"shadow": True}},
}


class LoadRequest(BaseModel):
    """How a version is to be loaded; without any of it, it becomes the main one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Run beside the main version and answer this share of its requests.",
        examples=[0.1],
    )
    shadow: bool = Field(
        default=False,
        description="Run beside the main version, be asked what that has answered, and have the answers compared.",
    )

    @model_validator(mode="after")
    def _one_role(self) -> LoadRequest:
        if self.shadow and self.share is not None:
            raise ValueError("a shadow has no share: its answers are not returned")
        return self

    def role(self) -> Role:
        return SHADOW if self.shadow else MAIN if self.share is None else canary_role(self.share)


router = APIRouter(route_class=JsonRoute)
Name = Annotated[str, Path(description="A model's name, of at most 64 characters.", max_length=64, examples=["sentiment"])]


Wish = Annotated[LoadRequest | None, Body(openapi_examples=LOAD_EXAMPLES)]
Version = Annotated[int | None, Query(ge=1, description="Which of its versions, from 1; null: the latest.")]
Candidate = Annotated[int | None, Query(ge=1, description="A version beside the main one; null: the model, with all of them.")]


@router.get("/models", summary="List loaded models", responses=openapi_responses(401, 421, 429))
async def list_models(state: StateDep) -> ModelList:
    """Every loaded model: what it does, what it runs on, and how good it is. And those that could not be loaded."""
    models = [_state_of(version, state) for version in state.registry.live]
    limits = SizeLimits(max_items=state.settings.max_items, max_body_bytes=state.settings.max_body_bytes)
    failed = [Failed.of(failure) for failure in state.registry.failed]
    manifests = {version.deployment.manifest.name: version.deployment.manifest for version in reversed(state.registry.live)}
    data = [listed(manifests[name]) for name in sorted(manifests)]
    return ModelList(models=models, failed=failed, limits=limits, data=data)


@router.get("/models/{name}", summary="Show a model", responses=openapi_responses(401, 404, 421, 422, 429, 503))
async def show_model(name: Name, state: StateDep) -> ShownModel:
    """One loaded model: its main version."""
    for version in state.registry.live:
        manifest = version.deployment.manifest
        if manifest.name == name:
            return ShownModel(**dict(_state_of(version, state)), **dict(listed(manifest)))
    with state.registry.lease((), name):  # says why there is none
        raise UnknownModel(f"model {name!r} is not loaded")


def _state_of(version: LiveVersion, state: AppState) -> ModelState:
    return ModelState.of(version, state.registry.default_of(version.deployment.manifest.task))


@router.post(
    "/models/{name}/load",
    summary="Load a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 408, 413, 415, 421, 422, 429, 500),
)
async def load_model(name: Name, state: StateDep, version: Version = None, request: Wish = None) -> Published:
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
async def promote_model(name: Name, state: StateDep) -> Published:
    """Make the version that runs beside the main one the main one. Requests in flight finish on the old one."""
    deployment = await state.promote(name)
    return Published.of(deployment, MAIN, state.registry.is_persistent(deployment))


@router.post(
    "/models/{name}/unload",
    summary="Unload a model",
    dependencies=[Depends(require_admin)],
    responses=openapi_responses(401, 403, 404, 421, 422, 429),
)
async def unload_model(name: Name, state: StateDep, version: Candidate = None) -> Published:
    """Forget a model, or a version that runs beside the main one. Requests in flight finish."""
    await state.unload(name, version)
    return Published(name=name, version=version, state="unloaded", role=None, persistent=False)
