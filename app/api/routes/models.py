"""`/v1/models`: what is loaded, and loading and unloading for those with an admin key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from app.api.auth import require_admin, require_key
from app.api.dependencies import Live, live
from app.api.routes.problems import problems
from app.api.schemas.models import ModelList, ModelState, Published
from app.core.errors import UnknownModel

router = APIRouter()
Name = Annotated[str, Path(description="A model's name, of at most 64 characters.", max_length=64, examples=["sentiment"])]
State = Annotated[Live, Depends(live)]


@router.get("/models", summary="List loaded models", dependencies=[Depends(require_key)], responses=problems(401, 429))
async def list_models(state: State) -> ModelList:
    """Every loaded model: what it does, what it runs on, and how good it is."""
    return ModelList(models=[ModelState.of(one) for one in state.registry.deployments])


@router.get("/models/{name}", summary="Show a model", dependencies=[Depends(require_key)], responses=problems(401, 404, 429))
async def show_model(name: Name, state: State) -> ModelState:
    """One loaded model."""
    for one in state.registry.deployments:
        if one.manifest.name == name:
            return ModelState.of(one)
    raise UnknownModel(f"model {name!r} is not loaded")


@router.post(
    "/models/{name}/load",
    summary="Load a model",
    dependencies=[Depends(require_admin)],
    responses=problems(401, 404, 422, 429, 500),
)
async def load_model(
    name: Name,
    state: State,
    version: Annotated[int | None, Query(ge=1, description="Which of its versions, from 1; null: the latest.")] = None,
) -> Published:
    """Load a version from the repository and answer with it from then on. Requests in flight finish on the old one."""
    deployment = await state.load(name, version)
    return Published(name=name, version=deployment.manifest.version, state="ready")


@router.post(
    "/models/{name}/unload", summary="Unload a model", dependencies=[Depends(require_admin)], responses=problems(401, 404, 429)
)
async def unload_model(name: Name, state: State) -> Published:
    """Forget a model. Requests in flight finish."""
    await state.unload(name)
    return Published(name=name, version=None, state="unloaded")
