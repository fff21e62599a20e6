"""`/health`, `/health/*` and `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.api.context import StateDep
from app.api.openapi_responses import openapi_responses
from app.api.protocols.state import Failed, Live, Ready
from app.core.errors import Unavailable
from app.observability.metrics import CONTENT_TYPE

router = APIRouter()


@router.get("/health", summary="How does it stand?", responses=openapi_responses(503))
async def health(state: StateDep) -> Ready:
    """The same as `/health/ready`, under the name that is tried first."""
    return await is_ready(state)


@router.get("/health/live", summary="Is the process alive?", responses=openapi_responses(503))
async def is_live(state: StateDep) -> Live:
    """200 unless the process is beyond help: 503 once more engines are stuck or dead than it may replace. Restart it when this
    fails, and only then."""
    await state.engine_answers()
    if state.registry.fatal_error:
        raise Unavailable(state.registry.fatal_error)
    return Live()


@router.get("/health/ready", summary="Can it answer requests?", responses=openapi_responses(503))
async def is_ready(state: StateDep) -> Ready:
    """200 when every model was tried, one at least is loaded and every engine would answer; 503 while loading, draining or with
    a dead engine, and where a model that the settings name could not be loaded."""
    await state.engine_answers()
    registry = state.registry
    if not registry.is_ready:
        down = [deployment.manifest.name for deployment in registry.deployments if not deployment.is_alive]
        raise Unavailable(f"the engine of {', '.join(down)} is down" if down else registry.not_ready_reason)
    models = [f"{deployment.manifest.name}/{deployment.manifest.version}" for deployment in registry.deployments]
    return Ready(models=models, failed=[Failed.of(failure) for failure in registry.failed])


@router.get(
    "/metrics", summary="Metrics for Prometheus", response_class=Response, responses={200: {"content": {"text/plain": {}}}}
)
async def metrics(state: StateDep) -> Response:
    """Counters and histograms in the Prometheus text format."""
    return Response(state.metrics.render(), media_type=CONTENT_TYPE)
